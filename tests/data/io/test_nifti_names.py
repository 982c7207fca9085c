"""Names of labels inside masks: they travel with the file, and other programs read the file as before."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from unia_med.data.io.frames import FrameWriter
from unia_med.data.io.label_file import LabelFile, by_class_values
from unia_med.data.io.nifti import write_like
from unia_med.data.io.nifti_names import names_in
from unia_med.data.io.read_labels import read_label_file
from unia_med.data.io.volume import Volume
from unia_med.evaluation.evaluate import evaluate

NAMES = {1: "Milz", 2: "foie (à gauche)", 3: "肝"}
AFFINE = np.array([[0.0, 1.5, 0, 7], [-2.0, 0, 0, -3], [0, 0, 4.5, 11], [0, 0, 0, 1]])


def labels(shape: tuple[int, ...] = (7, 5, 3)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4, shape).astype(np.uint8)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("frames", [0, 2])
def test_other_programs_read_the_voxels_behind_the_names(kind: type, order: str, frames: int, tmp_path: Path) -> None:
    array = labels((7, 5, 3, frames) if frames else (7, 5, 3))
    header = kind.header_class(endianness=order)
    image = kind(array, AFFINE, header)
    image.header.set_xyzt_units("mm", "sec" if frames else None)
    source, path = Volume(array, AFFINE, image.header), tmp_path / "a_seg.nii.gz"
    if frames:
        with FrameWriter(source, np.uint8, path, NAMES) as writer:
            for index in range(frames):
                writer.write(array[..., index])
    else:
        write_like(array, source, path, NAMES)
    read = nib.load(path)
    assert np.array_equal(np.asarray(read.dataobj), array) and np.array_equal(read.affine, AFFINE)
    assert names_in(path) == NAMES
    if kind is nib.Nifti1Image:
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, array)
    assert names_in(Path(shutil.move(path, tmp_path / "renamed.nii.gz"))) == NAMES


def test_files_without_names(tmp_path: Path) -> None:
    write_like(labels(), Volume(labels(), AFFINE), tmp_path / "a.nii.gz")
    image = nib.load(tmp_path / "a.nii.gz")
    for text in (b"{", b'{"label_names": [1]}', b'{"label_names": {"x": "A"}}', b"a remark"):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, text))
    nib.save(image, tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(b"no NIfTI")
    assert [names_in(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii", "e.png")] == [{}] * 5


def test_a_value_without_a_name_keeps_its_meaning() -> None:
    stored = np.array([[[0, 1, 2, 255]]])
    file = LabelFile(stored, np.eye(4), Path("x"), {1: "SPLEEN", 2: "LIVER"})
    assert by_class_values(file, ["LIVER", "SPLEEN"], [1, 2]).tolist() == [[[0, 2, 1, 255]]]


def test_evaluate_matches_masks_by_the_names_in_their_headers(tmp_path: Path) -> None:
    truth, predicted = labels() % 3, (3 - labels() % 3) % 3  # 1 and 2 swapped
    write_like(truth, Volume(truth, AFFINE), tmp_path / "t" / "a.nii.gz", {1: "LIVER", 2: "SPLEEN"})
    write_like(
        predicted.astype(np.uint8), Volume(truth, AFFINE), tmp_path / "p" / "a.nii.gz", {2: "LIVER", 1: "SPLEEN"}
    )
    found = evaluate(tmp_path / "p", tmp_path / "t")
    assert set(found.classes) == {"LIVER", "SPLEEN"}
    assert found["mean"]["dice"]["mean"] == 1.0
    assert read_label_file(tmp_path / "p" / "a.nii.gz").names == {2: "LIVER", 1: "SPLEEN"}
