"""NIfTI files that ITK-SNAP, 3D Slicer and FSL open are opened; what no file can hold is refused by its header."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.data.io.frames import open_volume
from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.read_labels import read_label_file
from unia_med.errors import UserError

ARRAY = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
AFFINE = np.array([[-1.5, 0, 0, 30], [0, 1.5, 0, -40], [0, 0, 8, 12], [0, 0, 0, 1.0]])


def header(array: np.ndarray = ARRAY) -> nib.Nifti1Header:
    image = nib.Nifti1Image(array, AFFINE)
    image.update_header()
    image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
    return image.header


def write(path: Path, head: nib.Nifti1Header, array: np.ndarray = ARRAY) -> Path:
    path.write_bytes(head.binaryblock + bytes(4) + array.tobytes(order="F"))
    return path


def assert_read(path: Path, affine: np.ndarray = AFFINE) -> None:
    volume = read_volume(path)
    assert np.array_equal(volume.array, ARRAY) and np.allclose(volume.affine, affine, atol=1e-5)
    info = read_header(path)
    assert info.shape == (5, 4, 3) and np.allclose(info.affine, affine, atol=1e-5)


@pytest.mark.parametrize("extra", [(1,), (1, 1), (1, 1, 1, 1)])
def test_trailing_axes_of_one_and_no_time(tmp_path: Path, extra: tuple[int, ...]) -> None:
    array = ARRAY.reshape(5, 4, 3, *extra)
    head = header(array)
    head["pixdim"][4:] = 0
    path = write(tmp_path / "a.nii", head, array)
    assert_read(path)
    assert open_volume(path).shape == (5, 4, 3) and read_label_file(path).array.shape == (5, 4, 3)
    write_like((ARRAY > 7).astype(np.uint8), read_volume(path), tmp_path / "a_seg.nii.gz")
    result = nib.load(tmp_path / "a_seg.nii.gz")
    assert result.shape == array.shape and np.array_equal(np.asarray(result.dataobj).reshape(5, 4, 3), ARRAY > 7)


@pytest.mark.parametrize("sizes", [(4, 0, 1, 1), (4, -1, 1, 1), (5, 0, 0, 0), (7, 0, 0, 0)])
def test_axes_that_are_counted_and_left_empty(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    head = header()
    head["dim"][0], head["dim"][4:] = sizes[0], [*sizes[1:], 0]
    path = write(tmp_path / "a.nii", head)
    assert_read(path)
    assert open_volume(path).shape == (5, 4, 3)


@pytest.mark.parametrize("matrix", [np.full((3, 4), np.nan), np.zeros((3, 4))])
def test_an_sform_that_places_nothing_gives_way_to_the_qform(tmp_path: Path, matrix: np.ndarray) -> None:
    head = header()
    head.set_qform(AFFINE, code=1)
    head["sform_code"] = 1
    head["srow_x"], head["srow_y"], head["srow_z"] = matrix
    assert_read(write(tmp_path / "a.nii", head))
    head["qform_code"] = 0
    with pytest.raises(UserError, match="millimetres cannot be known"):
        read_header(write(tmp_path / "b.nii", head))


def test_single_bits_are_refused_by_their_name(tmp_path: Path) -> None:
    head = header()
    head["datatype"], head["bitpix"] = 1, 1
    with pytest.raises(UserError, match="single-bit voxels"):
        read_header(write(tmp_path / "a.nii", head))


@pytest.mark.parametrize("code", [0, 777])
def test_a_type_of_voxels_that_nobody_knows_is_named(tmp_path: Path, code: int) -> None:
    head = header()
    head["datatype"] = code
    with pytest.raises(UserError, match=f"unknown type .datatype {code}"):
        read_header(write(tmp_path / "a.nii", head))


def test_a_voxel_size_that_is_not_stated_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = header()
    head["pixdim"][3] = 0
    read_header(write(tmp_path / "placed.nii", head))  # its sform says it
    assert caplog.text == "" or "states no voxel size" not in caplog.text
    head["sform_code"] = head["qform_code"] = 0
    assert np.allclose(np.abs(read_volume(write(tmp_path / "a.nii", head)).affine[2, 2]), 1)
    assert "a.nii: its header states no voxel size along an axis" in caplog.text


def test_a_quaternion_too_long_by_rounding(tmp_path: Path) -> None:
    head = header()
    head["sform_code"], head["qform_code"] = 0, 1
    for name, part in zip("bcd", np.float32([0.6, 0.64, 0.4800012]), strict=True):
        head[f"quatern_{name}"] = part
    with pytest.raises(ValueError, match="w2 should be positive"):
        head.get_qform()
    b, c, d = np.array([0.6, 0.64, 0.48])  # a half turn about this axis: R = 2 v v' - 1
    turn = 2 * np.outer([b, c, d], [b, c, d]) - np.eye(3)
    zooms = np.array([1.5, 1.5, 8]) * [1, 1, head["pixdim"][0]]
    assert_read(write(tmp_path / "a.nii", head), nib.affines.from_matvec(turn * zooms, AFFINE[:3, 3]))
    write_like(np.zeros((5, 4, 3), np.uint8), read_volume(tmp_path / "a.nii"), tmp_path / "a_seg.nii.gz")
    assert np.allclose(nib.load(tmp_path / "a_seg.nii.gz").affine[:3, :3], turn * zooms, atol=1e-4)


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_an_intercept_that_is_no_number_is_none(tmp_path: Path, slope: float) -> None:
    head = header()
    head["scl_slope"], head["scl_inter"] = slope, np.nan
    volume = read_volume(write(tmp_path / "a.nii", head))
    assert np.array_equal(volume.array, ARRAY * slope)


@pytest.mark.parametrize("offset", [0.0, 348.0, np.nan])
def test_an_offset_before_the_end_of_the_header(tmp_path: Path, offset: float) -> None:
    head = header()
    head["vox_offset"] = offset
    assert_read(write(tmp_path / "a.nii", head))


@pytest.mark.parametrize(
    ("key", "value"), [("bitpix", 0), ("sform_code", 200), ("pixdim", [0, -1.5, 1.5, 8] + [0] * 4)]
)
def test_small_faults_of_a_header(tmp_path: Path, key: str, value: object) -> None:
    head = header()
    head[key] = value
    if key == "sform_code":
        head.set_qform(AFFINE, code=1)
    assert_read(write(tmp_path / "a.nii", head))


def test_compression_is_seen_in_the_content(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.nii", header()).read_bytes()
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "bare.nii.gz").write_bytes(plain)
    (tmp_path / "CAPITALS.NII.GZ").write_bytes(gzip.compress(plain))
    for name in ("packed.nii", "bare.nii.gz", "CAPITALS.NII.GZ"):
        assert_read(tmp_path / name)


def test_a_packed_cine_without_the_suffix_is_read_frame_by_frame(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 99, (5, 4, 3, 6)).astype(np.int16)
    head = header(array)
    head["pixdim"][4] = 1
    (tmp_path / "a.nii").write_bytes(gzip.compress(head.binaryblock + bytes(4) + array.tobytes(order="F")))
    cine = open_volume(tmp_path / "a.nii")
    assert all(np.array_equal(cine.frame(t).array, array[..., t]) for t in (0, 3, 5, 1))


def test_an_analyze_pair(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(ARRAY, np.diag([-1.5, 1.5, 8, 1])), tmp_path / "a.hdr")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    volume = read_volume(tmp_path / "a.hdr")
    assert np.array_equal(volume.array, ARRAY) and volume.spacing_mm == pytest.approx((1.5, 1.5, 8))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_claims_terabytes_is_refused_before_memory_is_asked_for(tmp_path: Path, suffix: str) -> None:
    head = header()
    head["dim"][1:4] = 30_000
    path = write(tmp_path / "a.nii", head)
    if suffix == ".nii.gz":
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    tracemalloc.start()
    for read in (read_header, read_volume, open_volume):
        with pytest.raises(UserError, match="claims 30000 x 30000 x 30000 voxels"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
