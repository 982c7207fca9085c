"""What a finished run notes of its images: which are looked at, with what, and which of them decide what."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unia_med.config.schema import RunConfig
from unia_med.data.io.volume import Volume
from unia_med.data.sample import CaseFiles
from unia_med.engine import training_images
from unia_med.engine.training_images import Looked, note_images
from unia_med.inference.likeness import Seen, read_likeness

TRAINED, VALIDATED = ("t0", "t1", "t2"), ("v0", "v1")


def _seen(mm: float) -> Seen:
    seen = Seen()
    stored = Volume(np.random.default_rng(0).random((8, 8, 2), np.float32), np.diag([mm, mm, 5.0, 1.0]))
    seen.image(torch.linspace(0, 1, 64).reshape(1, 8, 8, 1), stored)
    tokens = torch.full((1, 4, 1, 1), mm)
    seen.features(None, None, SimpleNamespace(tokens=tokens))
    return seen


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool, float | None]]:
    """Replace predictions; notes (case, whether its mask was there, temperature) of each."""
    noted: list[tuple[str, bool, float | None]] = []

    def look(predictor: SimpleNamespace, config: object, dataset: object, case: CaseFiles) -> Looked:
        noted.append((case.name, case.mask is not None, predictor.config.inference.temperature))
        trained = case.name.startswith("t")
        return Looked(_seen(1.0 if trained else 2.0), 0.9 if trained else 0.2, None if trained else 0.95)

    monkeypatch.setattr(training_images, "look", look)
    monkeypatch.setattr(training_images, "load_checkpoint", lambda path, keys: {"ema": path.name})
    monkeypatch.setattr(training_images, "load_weights", lambda method, weights, path: setattr(method, "of", weights))
    monkeypatch.setattr(training_images, "read_temperature", lambda run: 1.7)
    monkeypatch.setattr(
        training_images, "Predictor", lambda method, config, device: SimpleNamespace(config=config, device=device)
    )
    return noted


def _note(run: Path, training: tuple[str, ...] = TRAINED, **inference: object) -> torch.nn.Module:
    method = torch.nn.Linear(1, 1)
    config = RunConfig.model_validate({"inference": inference})
    cases = [CaseFiles(name, name, Path(f"{name}.nii"), Path(f"{name}_gt.nii")) for name in (*training, *VALIDATED)]
    note_images(method, run / "best.pt", config, None, cases[: len(training)], cases[len(training) :], run)
    return method


def test_training_images_are_known_and_validation_masks_decide_what_is_doubtful(
    tmp_path: Path, looked: list[tuple[str, bool, float | None]]
) -> None:
    method = _note(tmp_path)
    assert method.of == "best.pt"
    assert looked == [(name, False, 1.7) for name in TRAINED] + [(name, True, 1.7) for name in VALIDATED]
    found = read_likeness(tmp_path / "training_images.json")
    assert found.vectors == [_seen(1.0).vector] * len(TRAINED)
    assert found.review == 0.2 and found.review_reason == "2 validation masks, 0 with a Dice below 0.8"


def test_a_temperature_that_is_set_wins_and_what_is_noted_stays(
    tmp_path: Path, looked: list[tuple[str, bool, float | None]]
) -> None:
    _note(tmp_path, temperature=2.5)
    assert {temperature for *_, temperature in looked} == {2.5}
    written = (tmp_path / "training_images.json").read_text(encoding="utf-8")
    looked.clear()
    _note(tmp_path, training=("t7",))
    assert looked == [] and (tmp_path / "training_images.json").read_text(encoding="utf-8") == written
    assert json.loads(written)["review"] == 0.2


def test_without_training_images_nothing_is_noted(tmp_path: Path, looked: list[tuple[str, bool, float | None]]) -> None:
    _note(tmp_path, training=())
    assert len(looked) == len(VALIDATED) and not (tmp_path / "training_images.json").exists()
