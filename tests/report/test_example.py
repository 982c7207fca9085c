"""The example about uncertainty runs as its text says."""

from __future__ import annotations

import runpy
from pathlib import Path

import nibabel
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "uncertainty_on_one_volume.py"


def test_uncertainty_on_one_volume(
    run_dir: Path, tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SCRIPT.read_text().splitlines()) < 60
    image = tiny_acdc / "training" / "patient013" / "patient013_frame01.nii.gz"
    runpy.run_path(str(SCRIPT))["main"](run_dir, image, tmp_path / "doubt")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == ["RV", "MYO", "LV", "entropy", "network"]
    for kind in ("entropy", "network"):
        written = nibabel.load(tmp_path / "doubt" / f"patient013_frame01_{kind}.nii.gz")
        assert written.shape == nibabel.load(image).shape
        assert 0 <= written.get_fdata().min() and written.get_fdata().max() <= 1
