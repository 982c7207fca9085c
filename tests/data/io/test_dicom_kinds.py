"""Images as hospitals store them: inverted, enhanced, with wide gaps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from unia_med.data.io.dicom.seg import SegWriter
from unia_med.data.io.dicom.series import find_series
from unia_med.errors import UserError
from unia_med.inference.inputs import find_inputs

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.dataset import Dataset  # noqa: E402


def numbers(*shape: int, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "bits", "top"), [(np.uint16, 12, 4095), (np.uint16, 16, 65535), (np.int16, 16, -1)])
def test_white_and_black_are_the_right_way_round(
    dicom_files: ModuleType, tmp_path: Path, dtype: type, bits: int, top: int
) -> None:
    array = numbers(6, 5, 3, dtype=dtype)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": bits, "HighBit": bits - 1}
    dicom_files.write_series(tmp_path, array, **tags)
    assert np.array_equal(find_series(tmp_path).frame(0).array.astype(int), top - array.astype(int))


def test_an_enhanced_cine_in_one_file(dicom_files: ModuleType, tmp_path: Path) -> None:
    array = numbers(6, 5, 3, 4)
    dicom_files.write_enhanced(tmp_path, array)
    series = find_series(tmp_path)
    assert series.shape == (6, 5, 3, 4) and series.stack.time_step_s == pytest.approx(0.025)
    found = np.stack([series.frame(t).array for t in range(4)], axis=-1)
    assert np.array_equal(found, array.astype(np.float32) * 2 + 5)
    assert np.allclose(series.affine, dicom_files.true_affine(), atol=1e-4)
    assert series.no_segmentation == ""


def test_an_enhanced_file_alone_is_an_input(dicom_files: ModuleType, tmp_path: Path) -> None:
    array = numbers(6, 5, 3, 4)
    dicom_files.write_enhanced(tmp_path / "a", array)
    (found,) = find_inputs(tmp_path / "a" / "E0", None).items()
    assert found[0] == "E0" and found[1].shape == array.shape
    (path, *_) = dicom_files.write_series(tmp_path / "b", array[..., 0]).values()
    with pytest.raises(UserError, match="Give the folder"):
        find_inputs(path, None)
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="Unpack it"):
        find_inputs(tmp_path / "a.zip", None)


@pytest.mark.parametrize(("thickness", "noted"), [(8.0, False), (4.0, True), (None, False)])
def test_wide_gaps_are_noted(dicom_files: ModuleType, tmp_path: Path, thickness: float | None, noted: bool) -> None:
    dicom_files.write_series(tmp_path, numbers(6, 5, 3), SliceThickness=thickness)
    notes = find_series(tmp_path).stack.notes
    assert (notes == ("slices of 4 mm lie 9 mm apart; volumes take what lies between for granted",)) is noted


@pytest.mark.parametrize(
    ("timing", "step"),
    [
        ({"FrameTime": 40.0}, 0.04),
        ({"FrameTimeVector": [0, 35, 45]}, 0.04),
        ({"CineRate": 25}, 0.04),
        ({}, None),
    ],
)
def test_a_file_per_slice_with_all_its_phases(
    dicom_files: ModuleType, tmp_path: Path, timing: dict, step: float | None
) -> None:
    """Classic multi-frame images: one place for all frames, and times in the header; without them, refused."""
    array = numbers(6, 5, 3, 3)
    for (z, _), path in dicom_files.write_series(tmp_path / "s", array[..., 0]).items():
        dataset = pydicom.dcmread(path)
        dataset.NumberOfFrames = 3
        dataset.PixelData = np.ascontiguousarray(array[:, :, z].transpose(2, 1, 0)).tobytes()
        for name, value in timing.items():
            setattr(dataset, name, value)
        dataset.save_as(path)
    if step is None:
        with pytest.raises(UserError, match="do not say where each frame lies"):
            find_series(tmp_path / "s")
        return
    series = find_series(tmp_path / "s")
    assert series.stack.time_step_s == pytest.approx(step)
    assert np.array_equal(np.stack([series.frame(t).array for t in range(3)], axis=-1), array)
    assert np.allclose(series.affine, dicom_files.true_affine(), atol=1e-4)
    labels = np.ones(array.shape[:3], np.uint8)
    with SegWriter(series, ["LV"]) as writer:
        for t in range(3):
            writer.write(t, labels, tmp_path / f"{t}.dcm")
    assert writer.failed is None
    for t in range(3):
        items = pydicom.dcmread(tmp_path / f"{t}.dcm").SourceImageSequence
        assert {int(item.ReferencedFrameNumber) for item in items} == {t + 1} and len(items) == 3
    assert find_inputs(path, None)[path.name].shape == (6, 5, 1, 3)


@pytest.mark.parametrize("known", ["dimensions", "before"])
def test_what_orders_frames_of_an_enhanced_cine(dicom_files: ModuleType, tmp_path: Path, known: str) -> None:
    """Their dimension indices, or the trigger time of the single images that were converted; the file is shuffled."""
    array = numbers(6, 5, 3, 4)
    dicom_files.write_enhanced(tmp_path, array)
    dataset = pydicom.dcmread(tmp_path / "E0")
    for group in dataset.PerFrameFunctionalGroupsSequence:
        phase = round(float(group.CardiacSynchronizationSequence[0].NominalCardiacTriggerDelayTime) / 25)
        depth = float(np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) @ dicom_files.NORMAL)
        del group.CardiacSynchronizationSequence
        item = Dataset()
        if known == "dimensions":
            item.DimensionIndexValues = [1, round(depth) + 500, phase + 1]
            group.FrameContentSequence = [item]
        else:
            item.TriggerTime = 25.0 * phase
            group.UnassignedPerFrameConvertedAttributesSequence = [item]
    dataset.save_as(tmp_path / "E0")
    series = find_series(tmp_path)
    found = np.stack([series.frame(t).array for t in range(4)], axis=-1)
    assert np.array_equal(found, array.astype(np.float32) * 2 + 5)
    assert series.stack.time_step_s == (None if known == "dimensions" else pytest.approx(0.025))


@pytest.mark.parametrize("name", ["study.zip", "IM0001.dcm.gz", "study.tar.gz"])
def test_archives_in_a_folder_are_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=f"in a format that is not read .*{name}"):
        find_inputs(tmp_path, None)
