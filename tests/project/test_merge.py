"""Several label files of one image become one: a file per class, or per annotator."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.api import configured, inspect
from unia_med.cli.main import main

SHAPE = (48, 48, 4)


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 5, 1])), path)


def _discs(case: int) -> tuple[np.ndarray, np.ndarray]:
    """Two discs that do not touch, bool."""
    x, y, _ = np.indices(SHAPE)
    return (x - 14 - case) ** 2 + (y - 24) ** 2 < 64, (x - 34) ** 2 + (y - 24) ** 2 < 36


def _image(root: Path, case: int) -> None:
    liver, spleen = _discs(case)
    noise = np.random.default_rng(case).normal(0, 10, SHAPE)
    _save(root / f"P{case}.nii.gz", (100 + 60 * liver + 120 * spleen + noise).astype(np.float32))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_per_class(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in range(5):
        _image(here / "set", case)
        for name, disc in zip(("liver", "spleen"), _discs(case), strict=True):
            if case or name == "liver":  # the first has no spleen
                _save(here / f"set/P{case}_{name}_mask.nii.gz", disc.astype(np.uint8))
    assert main(["init", "set"]) == 0 and "of classes (liver, spleen)" in capsys.readouterr().out
    config = configured("project.yaml")
    assert config.data.classes == ["liver", "spleen"]
    for case in range(5):
        merged = np.asarray(nib.load(here / f"project_labels/P{case}.nii.gz").dataobj)
        liver, spleen = _discs(case)
        np.testing.assert_array_equal(merged, liver + 2 * spleen * (case > 0))
    assert not inspect("project.yaml").faults
    assert main(["init", "set"]) == 0  # a second call writes the same


def test_classes_that_overlap_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in range(2):
        _image(here / "set", case)
        liver, spleen = _discs(case)
        _save(here / f"set/P{case}_liver_mask.nii.gz", liver.astype(np.uint8))
        _save(here / f"set/P{case}_spleen_mask.nii.gz", (spleen | np.roll(liver, 2, 1)).astype(np.uint8))
    assert main(["init", "set"]) == 2
    said = capsys.readouterr().err
    assert "P0_spleen_mask.nii.gz" in said and "are spleen here and liver in P0_liver_mask.nii.gz" in said
    assert not (here / "project.yaml").exists()


def test_annotators_who_disagree_leave_it_open(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in range(5):
        _image(here / "set", case)
        liver, spleen = _discs(case)
        mask = (liver + 2 * spleen).astype(np.uint8)
        _save(here / f"set/P{case}_mask_rater1.nii.gz", mask)
        _save(here / f"set/P{case}_mask_rater2.nii.gz", np.roll(mask, 1, 0))
    assert main(["init", "set"]) == 0
    said = capsys.readouterr().out
    differ = sum(int((m != np.roll(m, 1, 0)).sum()) for m in (a + 2 * b for a, b in map(_discs, range(5))))
    assert f"of annotators, belong to 5 images: they are merged into one; {differ} voxels on which" in said
    merged = np.asarray(nib.load(here / "project_labels/P1.nii.gz").dataobj)
    assert set(np.unique(merged)) == {0, 1, 2, 255} and len(configured("project.yaml").data.classes) == 2
    assert not inspect("project.yaml").faults


def test_strokes_of_two_annotators_are_joined(here: Path) -> None:
    for case in range(5):
        _image(here / "set", case)
        liver, spleen = _discs(case)
        strokes = np.zeros((2, *SHAPE), np.uint8)
        strokes[0, 10:20, 24], strokes[1, 32:36, 24], strokes[1, 4:44, 2:4] = 1, 2, 3
        for number, drawn in enumerate(strokes, start=1):
            _save(here / f"set/P{case}_scribbles_reader{number}.nii.gz", drawn)
    assert main(["init", "set"]) == 0
    merged = np.asarray(nib.load(here / "project_labels/P1.nii.gz").dataobj)
    np.testing.assert_array_equal(merged, strokes.max(0))
