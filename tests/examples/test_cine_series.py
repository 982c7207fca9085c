"""`examples/cine_series.py` with a predictor that knows the phantom: the printed numbers are its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.render import frame_labels, true_volumes_ml
from unia_med.data.io.volume import Volume
from unia_med.inference.predictor import Segmentation
from unia_med.runs import Run

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "cine_series.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cine_series", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Knowing:
    """A predictor that draws the phantom's own labels, whatever the image shows."""

    classes = ("RV", "MYO", "LV")

    def __init__(self, frames: int) -> None:
        self.patient = patient_of(1, 0, frames)

    def predict_frames(self, frames: Iterable[Volume]) -> Iterator[Segmentation]:
        for number, frame in enumerate(frames, start=1):
            labels = frame_labels(self.patient, number).astype(np.uint8)
            assert frame.shape == labels.shape
            yield Segmentation(labels, labels.astype(np.float32))


@pytest.mark.slow
def test_it_prints_the_phantoms_own_numbers(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = Knowing(frames=8)
    monkeypatch.setattr(Run, "predictor", lambda self: predictor)
    monkeypatch.setattr(Run, "open", Run)
    example.main(tmp_path / "run", tmp_path / "out")
    printed = capsys.readouterr().out
    truth = true_volumes_ml(predictor.patient)
    full, empty = truth["ED"]["LV"], truth["ES"]["LV"]
    assert f"EDV {full:.1f} ml, ESV {empty:.1f} ml, EF {100 * (full - empty) / full:.1f} %" in printed
    assert f"myocardium: {1.05 * truth['ED']['MYO']:.1f} g" in printed
    assert "frame  1" in printed.splitlines()[0] and printed.splitlines()[0].endswith("ED")
    mask = nib.load(tmp_path / "out" / "cine_seg.nii.gz")
    image = nib.load(next((tmp_path / "out" / "phantom").rglob("*_4d.nii.gz")))
    assert mask.shape == image.shape and mask.header.get_zooms() == image.header.get_zooms()


def test_it_stays_short() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 60
