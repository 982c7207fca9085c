"""Segmentations of MITK: names and groups of labels in the header of a `.nrrd`, written by SimpleITK."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from unia_med.data.io.read_labels import read_label_file
from unia_med.errors import UserError
from unia_med.project.plan import make_plan

KEY = "org.mitk.multilabel.segmentation.labelgroups"
SHAPE = (12, 10, 4)


def write(path: Path, groups: list[np.ndarray], names: object) -> None:
    """Write groups of labels (X, Y, Z) each, with the names of MITK's header."""
    images = [sitk.GetImageFromArray(np.ascontiguousarray(group.T)) for group in groups]
    image = images[0] if len(images) == 1 else sitk.Compose(images)
    image.SetSpacing((0.8, 0.8, 3.0))
    image.SetOrigin((5.0, -7.0, 2.0))
    image.SetMetaData("modality", "org.mitk.multilabel.segmentation")
    image.SetMetaData(KEY, names if isinstance(names, str) else json.dumps(names))
    sitk.WriteImage(image, str(path))


def group(*labels: tuple[int, str]) -> dict:
    return {"labels": [{"value": value, "name": name, "opacity": 0.6, "locked": True} for value, name in labels]}


def drawn() -> tuple[np.ndarray, np.ndarray]:
    first, second = np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint16)
    first[2:8, 2:8, 1:3], second[4:6, 4:6, 1:3] = 1, 1
    first[9:11, 2:4, 1:3] = 2
    return first, second


def test_names_and_groups(tmp_path: Path) -> None:
    first, second = drawn()
    write(tmp_path / "one.nrrd", [first], [group((1, "KIDNEY"), (2, "Zyste"))])
    one = read_label_file(tmp_path / "one.nrrd")
    assert np.array_equal(one.array, first) and one.names == {1: "KIDNEY", 2: "Zyste"} and not one.cropped
    assert np.allclose(one.affine, [[-0.8, 0, 0, -5], [0, -0.8, 0, 7], [0, 0, 3, 2], [0, 0, 0, 1]])
    write(tmp_path / "two.nrrd", [first, second], [group((1, "KIDNEY"), (2, "Zyste")), group((1, "TUMÖR"))])
    two = read_label_file(tmp_path / "two.nrrd")
    assert two.names == {1: "KIDNEY", 2: "Zyste", 3: "TUMÖR"}
    assert np.array_equal(two.array, np.where(second == 1, 3, first))


def test_init_takes_them_for_labels(tmp_path: Path) -> None:
    first, _ = drawn()
    for n in range(3):
        image = np.random.default_rng(n).integers(0, 900, SHAPE).astype(np.int16)
        affine = np.array([[-0.8, 0, 0, -5], [0, -0.8, 0, 7], [0, 0, 3, 2], [0, 0, 0, 1]])
        nib.save(nib.Nifti1Image(image, affine), tmp_path / f"pat{n}.nii.gz")
        write(tmp_path / f"pat{n}_work.nrrd", [first], [group((1, "KIDNEY"), (2, "Zyste"))])
    plan = make_plan(tmp_path)
    assert plan.classes == {1: "KIDNEY", 2: "Zyste"} and len(plan.pairs.images) == len(plan.pairs.labels) == 3


def test_damaged_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.nrrd", [drawn()[0]], "[{")
    with pytest.raises(UserError, match="names of its segments cannot be read"):
        read_label_file(tmp_path / "x.nrrd")
