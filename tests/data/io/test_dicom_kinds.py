"""Images as hospitals store them: inverted, enhanced, with wide gaps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from unia_med.data.io.dicom.series import find_series


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


def enhanced(dicom_files: ModuleType, folder: Path, array: np.ndarray) -> None:
    """Write (X, Y, Z, T) as one enhanced MR object, frames in an order of their own."""
    dicom_files.write_series(folder, array[:, :, :1, 0])
    (path,) = folder.iterdir()
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    order = np.random.default_rng(3).permutation([(z, t) for z in range(array.shape[2]) for t in range(array.shape[3])])
    shared, items = Dataset(), []
    shared.PlaneOrientationSequence = Sequence([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = dataset.ImageOrientationPatient
    shared.PixelMeasuresSequence = Sequence([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = dataset.PixelSpacing
    shared.PixelMeasuresSequence[0].SliceThickness = 8
    for z, t in order:
        item = Dataset()
        item.PlanePositionSequence = Sequence([Dataset()])
        place = dicom_files.ORIGIN + dicom_files.SPACING[2] * z * dicom_files.NORMAL
        item.PlanePositionSequence[0].ImagePositionPatient = [f"{v:.8g}" for v in place]
        item.CardiacSynchronizationSequence = Sequence([Dataset()])
        item.CardiacSynchronizationSequence[0].NominalCardiacTriggerDelayTime = 25.0 * t
        item.PixelValueTransformationSequence = Sequence([Dataset()])
        item.PixelValueTransformationSequence[0].RescaleSlope = 2
        item.PixelValueTransformationSequence[0].RescaleIntercept = 5
        items.append(item)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, name)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(items)
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = b"".join(np.ascontiguousarray(array[:, :, z, t].T).tobytes() for z, t in order)
    dataset.save_as(path)


def test_an_enhanced_cine_in_one_file(dicom_files: ModuleType, tmp_path: Path) -> None:
    array = numbers(6, 5, 3, 4)
    enhanced(dicom_files, tmp_path, array)
    series = find_series(tmp_path)
    assert series.shape == (6, 5, 3, 4) and series.stack.time_step_s == pytest.approx(0.025)
    found = np.stack([series.frame(t).array for t in range(4)], axis=-1)
    assert np.array_equal(found, array.astype(np.float32) * 2 + 5)
    assert np.allclose(series.affine, dicom_files.true_affine(), atol=1e-4)
    assert "multi-frame" in series.no_segmentation


@pytest.mark.parametrize(("thickness", "noted"), [(8.0, False), (4.0, True), (None, False)])
def test_wide_gaps_are_noted(dicom_files: ModuleType, tmp_path: Path, thickness: float | None, noted: bool) -> None:
    dicom_files.write_series(tmp_path, numbers(6, 5, 3), SliceThickness=thickness)
    notes = find_series(tmp_path).stack.notes
    assert (notes == ("slices of 4 mm lie 9 mm apart; volumes take what lies between for granted",)) is noted
