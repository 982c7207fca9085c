"""A run folder whose files were changed, removed or exchanged after the training: what is used instead is said."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from unia_med.runs import Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).parent / "bundle" / "untrained_run.py"
    spec = importlib.util.spec_from_file_location("untrained_run", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("runs") / "run"
    module.write_run(folder, data={"grid": {"spacing_mm": 4.0, "size": [48, 48]}})
    (folder / "training_images.json").write_text(json.dumps({"review_reason": "2 validation masks, 1 below"}))
    shutil.copy(folder / "checkpoints" / "best.pt", folder / "checkpoints" / "last.pt")
    fitted = {"temperature": 1.5, "cases": 2, "voxels": 9, "ece_before": 0.2, "ece_after": 0.1}
    (folder / "calibration.json").write_text(json.dumps(fitted))
    return folder


def _said(run: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level("WARNING", "unia_med"):
        Run.open(run).method()
    return [record.getMessage().removeprefix(f"{run}/") for record in caplog.records]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoints/best.pt", "checkpoints/best.pt: is missing, so last.pt predicts"),
        ("calibration.json", "calibration.json: is missing, so the uncertainty is as the network gives it"),
    ],
)
def test_a_file_that_is_gone(
    name: str, said: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / name).unlink()
    found = _said(run, caplog)
    assert len(found) == 1 and found[0].startswith(said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("spacing_mm: 4.0", "spacing_mm: 4.5", "data.grid.spacing_mm"),
        ("iterations: ", "iterations: 1", None),
    ],
)
def test_settings_of_another_training(
    old: str, new: str, said: str | None, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert old in text
    config.write_text(text.replace(old, new), encoding="utf-8")
    found = _said(run, caplog)
    assert found == (
        [] if said is None else [f"config.yaml: other settings than those of the training: {said}. Masks may be wrong"]
    )
