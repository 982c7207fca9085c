"""True labels of a data set are found by its layout, those of a folder by their names."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.config.load import load_config
from unia_med.errors import UserError
from unia_med.evaluation.truth import truths

FRAMES = [f"{patient}_frame{frame}" for patient in ("patient001", "patient002", "patient013") for frame in ("01", "07")]


@pytest.fixture
def acdc_and_more(tiny_acdc: Path) -> Path:
    """The tiny ACDC, and a label file that lies there but is no part of it."""
    stray = tiny_acdc / "notes" / "patient099_frame01_gt.nii.gz"
    stray.parent.mkdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 2), np.uint8), np.eye(4)), stray)
    return tiny_acdc


def test_labels_of_acdc_are_those_of_its_layout(acdc_and_more: Path) -> None:
    config = load_config("acdc_cpu.yaml")
    assert list(truths(acdc_and_more, None, config, None)) == FRAMES
    assert list(truths(acdc_and_more, None, config, "val")) == FRAMES[4:]
    assert list(truths(acdc_and_more, None, None, None)) == ["patient099_frame01", *FRAMES]


def test_classes_of_the_layout_are_merged_as_the_config_says(acdc_and_more: Path) -> None:
    config = load_config("acdc_cpu_tags.yaml", ["data.groups={WALL: [MYO], BLOOD: [RV, LV]}"])
    path = acdc_and_more / "training" / "patient001" / "patient001_frame01_gt.nii.gz"
    stored = np.asarray(nib.load(path).dataobj)
    expected = np.choose(stored, [0, 2, 1, 2])
    np.testing.assert_array_equal(truths(acdc_and_more, None, config, None)[FRAMES[0]](None).array, expected)


def test_a_folder_that_is_not_the_data_set_is_one_of_label_files(acdc_and_more: Path) -> None:
    config = load_config("acdc_cpu.yaml")
    notes = acdc_and_more / "notes"
    assert list(truths(notes, None, config, None)) == ["patient099_frame01"]
    with pytest.raises(UserError):
        truths(notes, None, config, "val")
