"""Images as hospitals store them: inverted, enhanced, with wide gaps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from unia_med.data.io.dicom.series import find_series
from unia_med.errors import UserError
from unia_med.inference.inputs import find_inputs


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
