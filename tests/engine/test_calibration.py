"""The temperature of a run: found again when it is known, kept, read, and overruled by the user."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.config.load import dump_config
from unia_med.config.schema import RunConfig
from unia_med.data.io.volume import Volume
from unia_med.data.sample import CaseFiles, EvaluationCase
from unia_med.engine.calibration import Calibration, calibrate, fit, read_temperature
from unia_med.engine.checkpoint import save_checkpoint
from unia_med.engine.voxels import Kept
from unia_med.errors import UserError
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.runs import Run

TRUE_TEMPERATURE = 2.5
CONFIG = {"data": {"grid": {"spacing_mm": None, "size": [64, 64], "percentiles": [0, 100]}}}
CASES = [CaseFiles(f"case{n}", f"patient{n}", Path("x"), Path("y")) for n in range(3)]


def _logits(values: Tensor) -> Tensor:
    """Logits (B, 4, H, W) that follow from intensities (B, H, W) in [0, 1]."""
    return torch.stack([4 * torch.sin(values * (7 + 3 * k) + k) for k in range(4)], 1)


class Overconfident(Method):
    """The logits of the labels' law, not divided by its temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.weight.sum()}

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(_logits(images[:, 0]).softmax(1), torch.zeros_like(images[:, 0]))


class Drawn:
    """Cases whose labels are drawn from the law itself."""

    def evaluation_case(self, case: CaseFiles) -> EvaluationCase:
        generator = torch.Generator().manual_seed(int(case.patient[-1]))
        values = torch.rand(64, 64, 3, generator=generator)
        values[0, 0, 0], values[-1, -1, -1] = 0, 1  # intensities are scaled to [0, 1]; these keep them as they are
        law = (_logits(values.permute(2, 0, 1)) / TRUE_TEMPERATURE).softmax(1)
        labels = torch.multinomial(law.permute(0, 2, 3, 1).reshape(-1, 4), 1, generator=generator).reshape(3, 64, 64)
        volume = Volume(values.numpy(), np.diag([1.5, 1.5, 8.0, 1.0]))
        return EvaluationCase(case, volume, labels.permute(1, 2, 0).numpy().astype(np.uint8))


def test_the_temperature_behind_the_labels_is_found_and_the_error_falls() -> None:
    found = fit(Overconfident(), RunConfig.model_validate(CONFIG), Drawn(), CASES, torch.device("cpu"))
    assert found.temperature == pytest.approx(TRUE_TEMPERATURE, rel=0.05)
    assert found.ece_after < 0.02 < 0.1 < found.ece_before
    assert (found.cases, found.voxels) == (3, 3 * 64 * 64 * 3)


def test_a_temperature_that_calibrates_worse_is_not_taken() -> None:
    class Sure(Overconfident):
        """Right in nine voxels of ten, says 0.9, and 0 in a few of the others: the likelihood asks for more heat."""

        def predict(self, images: Tensor) -> Prediction:
            values = images[:, 0]
            lost = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(4, 1, 1)
            said = torch.tensor([0.9, 0.1, 0.0, 0.0]).view(4, 1, 1)
            wrong = (values > 0.9)[:, None]
            return Prediction(torch.where(wrong, lost, said).float(), torch.zeros_like(values))

    class Ninth(Drawn):
        def evaluation_case(self, case: CaseFiles) -> EvaluationCase:
            found = super().evaluation_case(case)
            return EvaluationCase(case, found.volume, np.where(found.volume.array > 0.9, 3, 0).astype(np.uint8))

    found = fit(Sure(), RunConfig.model_validate(CONFIG), Ninth(), CASES, torch.device("cpu"))
    assert found.temperature == 1.0
    assert found.ece_after == found.ece_before < 0.2


def test_what_is_fitted_is_kept_and_used_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    config, method = RunConfig.model_validate(CONFIG), Overconfident()
    save_checkpoint({"ema": method.state_dict()}, tmp_path / "best.pt")
    dump_config(config, tmp_path / "config.yaml")
    arguments = (method, tmp_path / "best.pt", config, Drawn())
    assert Run.open(tmp_path).config.inference.temperature is None
    assert calibrate(*arguments, [CaseFiles("a", "b", Path("x"))], tmp_path) is None  # no mask, nothing to fit on
    assert not (tmp_path / "calibration.json").exists()
    found = calibrate(*arguments, CASES, tmp_path)
    assert (
        json.loads((tmp_path / "calibration.json").read_text())["temperature"]
        == found.temperature
        == read_temperature(tmp_path)
    )
    assert Run.open(tmp_path).config.inference.temperature == found.temperature
    assert calibrate(*arguments, CASES, tmp_path) is None  # a resumed run keeps it
    own = RunConfig.model_validate({**CONFIG, "inference": {"temperature": 1.0}})
    dump_config(own, tmp_path / "config.yaml")
    assert Run.open(tmp_path).config.inference.temperature == 1.0


@pytest.mark.parametrize(("step", "taken"), [(5, True), (4, False)])
def test_voxels_of_another_step_than_the_weights_are_drawn_again(
    step: int, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, handed = Overconfident(), []
    save_checkpoint({"ema": method.state_dict(), "step": 5}, tmp_path / "best.pt")
    found = Calibration(2.0, 3, 10, 0.2, 0.1)
    monkeypatch.setattr("unia_med.engine.calibration.fit", lambda *given: handed.append(given[-1]) or found)
    config, kept = RunConfig.model_validate(CONFIG), Kept(step, [])
    calibrate(method, tmp_path / "best.pt", config, Drawn(), CASES, tmp_path, kept)
    assert handed == [kept.cases if taken else None]


def test_the_fit_looks_at_what_the_network_says_itself() -> None:
    config = RunConfig.model_validate({**CONFIG, "inference": {"temperature": 5.0}})
    found = fit(Overconfident(), config, Drawn(), CASES[:1], torch.device("cpu"))
    assert found.temperature == pytest.approx(TRUE_TEMPERATURE, rel=0.08)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"temperature": 2}', '{"temperature": -1, "cases": 1, "voxels": 1, "ece_before": 0, "ece_after": 0}'],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(UserError, match=r"calibration\.json.*no record"):
        read_temperature(tmp_path)


def test_voxels_nobody_labelled_take_no_part() -> None:

    class Partly(Drawn):
        def evaluation_case(self, case: CaseFiles) -> EvaluationCase:
            found = super().evaluation_case(case)
            labels = found.labels.copy()
            labels[:32] = 255
            return EvaluationCase(case, found.volume, labels)

    found = fit(Overconfident(), RunConfig.model_validate(CONFIG), Partly(), CASES[:1], torch.device("cpu"))
    assert found.voxels == 64 * 64 * 3 // 2
    assert found.temperature == pytest.approx(TRUE_TEMPERATURE, rel=0.08)
