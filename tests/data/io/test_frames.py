"""Frames of a cine, read and written one by one."""

from __future__ import annotations

import gzip
import tracemalloc
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.data.io.frames import FrameWriter, NiftiFrames, WholeFile, iterate_frames, open_volume
from unia_med.data.io.itk import write_labels
from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError

AFFINE = np.array([[1.2, 0.3, -1.0, 30], [-0.4, 1.1, 2.0, -12], [0.3, 0.5, 7.5, 5], [0, 0, 0, 1]])


def save_cine(
    path: Path, array: np.ndarray, step: float = 0.04, slope: float | None = None, affine: np.ndarray = AFFINE
) -> Path:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = step
    if slope is not None:
        image.header.set_slope_inter(slope, 7.0)
    nib.save(image, path)
    return path


def numbers(shape: tuple[int, ...], dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize(("dtype", "slope"), [(np.int16, None), (np.uint8, 0.37), (np.float32, None)])
def test_frames_are_those_of_the_whole(tmp_path: Path, name: str, dtype: type, slope: float | None) -> None:
    path = save_cine(tmp_path / name, numbers((9, 7, 3, 5), dtype), slope=slope)
    whole, cine = read_volume(path), open_volume(path)
    assert isinstance(cine, NiftiFrames)
    assert (cine.shape, cine.frames, cine.path) == (whole.shape, 5, path)
    np.testing.assert_array_equal(cine.affine, whole.affine)
    for index in (0, 1, 4, 2):
        frame = cine.frame(index)
        assert frame.array.dtype == whole.array.dtype
        np.testing.assert_array_equal(frame.array, whole.array[..., index])
    with pytest.raises(IndexError):
        cine.frame(-1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_written_frame_by_frame_as_written_whole(tmp_path: Path, dtype: type) -> None:
    source = open_volume(save_cine(tmp_path / "a.nii.gz", numbers((9, 7, 3, 5))))
    result = numbers((9, 7, 3, 5), dtype)
    with FrameWriter(source, dtype, tmp_path / "new" / "frames.nii.gz") as writer:
        for index in range(5):
            writer.write(np.asfortranarray(result[..., index]))
    write_like(result, read_volume(tmp_path / "a.nii.gz"), tmp_path / "whole.nii.gz")
    one, other = (gzip.decompress((tmp_path / name).read_bytes()) for name in ("new/frames.nii.gz", "whole.nii.gz"))
    assert one == other
    image = nib.load(tmp_path / "new" / "frames.nii.gz")
    assert image.header.get_zooms()[3] == np.float32(0.04) and image.header.get_xyzt_units() == ("mm", "sec")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["frames.nii.gz"]


def test_of_a_big_endian_source(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(numbers((4, 5, 2, 2)), AFFINE, header)
    image.header["pixdim"][4] = 0.1
    nib.save(image, tmp_path / "a.nii.gz")
    source = open_volume(tmp_path / "a.nii.gz")
    result = np.random.default_rng(0).random((4, 5, 2, 2)).astype(np.float32)
    with FrameWriter(source, np.float32, tmp_path / "b.nii.gz") as writer:
        for index in range(2):
            writer.write(result[..., index])
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj), result)


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    source = open_volume(save_cine(tmp_path / "a.nii", numbers((4, 5, 2, 3))))
    (tmp_path / "b.nii.gz").write_bytes(b"old")
    frame = np.zeros((4, 5, 2), np.uint8)
    with pytest.raises(KeyboardInterrupt), FrameWriter(source, np.uint8, tmp_path / "b.nii.gz") as writer:
        writer.write(frame)
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="2 frames"), FrameWriter(source, np.uint8, tmp_path / "b.nii.gz") as writer:
        writer.write(frame)
    with pytest.raises(ValueError, match="float64"), FrameWriter(source, np.uint8, tmp_path / "b.nii.gz") as writer:
        writer.write(frame.astype(float))
    assert (tmp_path / "b.nii.gz").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "b.nii.gz"]


@pytest.mark.parametrize("step", [0.0, float("nan"), -1.0])
def test_a_cine_without_time_is_read_with_a_note_and_its_results_open_elsewhere(
    tmp_path: Path, step: float, caplog: pytest.LogCaptureFixture
) -> None:
    array = numbers((4, 5, 2, 3))
    path = save_cine(tmp_path / "a.nii.gz", array, step, affine=np.diag([1.5, 1.5, 8, 1]))
    with caplog.at_level("WARNING", "unia_med"):
        cine = open_volume(path)
    assert "a.nii.gz: read as frames over time, without a time" in caplog.text
    assert all(np.array_equal(cine.frame(index).array, array[..., index]) for index in range(3))
    with FrameWriter(cine, np.uint8, tmp_path / "b.nii.gz") as writer:
        for index in range(3):
            writer.write(array[..., index].astype(np.uint8))
    assert nib.load(tmp_path / "b.nii.gz").header["pixdim"][4] == 0
    image = pytest.importorskip("SimpleITK").ReadImage(str(tmp_path / "b.nii.gz"))
    assert image.GetSize() == (4, 5, 2, 3) and image.GetSpacing()[3] == 1.0


def test_bad_frames_are_named_when_they_are_read(tmp_path: Path) -> None:
    array = numbers((4, 5, 2, 3), np.float32)
    array[0, 0, 0, 2] = np.nan
    cine = open_volume(save_cine(tmp_path / "a.nii.gz", array))
    assert len([cine.frame(0), cine.frame(1)]) == 2
    with pytest.raises(UserError, match="NaN"):
        cine.frame(2)
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        list(iterate_frames(open_volume(tmp_path / "short.nii.gz")))


def test_a_3d_file_is_one_frame_that_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    array = numbers((4, 5, 2))
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii.gz")
    source = open_volume(tmp_path / "a.nii.gz")
    assert isinstance(source, NiftiFrames) and source.shape == (4, 5, 2)
    (frame,) = iterate_frames(source)
    assert np.array_equal(frame.array, array)
    with FrameWriter(source, np.uint8, tmp_path / "b.nii.gz") as writer:
        writer.write(array.astype(np.uint8))
    write_like(array.astype(np.uint8), read_volume(tmp_path / "a.nii.gz"), tmp_path / "c.nii.gz")
    one, other = (gzip.decompress((tmp_path / name).read_bytes()) for name in ("b.nii.gz", "c.nii.gz"))
    assert one == other


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mgz"])
def test_a_3d_file_of_another_format_is_read_when_it_is_asked_for_and_not_kept(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 900, (5, 6, 4)).astype(np.int16)
    affine = np.diag([-1.5, -2.0, 3.0, 1.0])
    path = tmp_path / f"x{suffix}"
    if suffix == ".mgz":
        nib.save(nib.MGHImage(array, affine), path)
    else:
        write_labels((array % 200).astype(np.uint8), affine, path)
    source = open_volume(path)
    whole = read_volume(path)
    assert isinstance(source, WholeFile) and source.shape == (5, 6, 4) and source.frames == 1
    frame = source.frame(0)
    np.testing.assert_array_equal(frame.array, whole.array)
    np.testing.assert_allclose(source.affine, whole.affine)
    voxels = weakref.ref(frame.array)
    del frame
    assert voxels() is None
    for like in (source, whole):
        with FrameWriter(like, np.uint8, tmp_path / f"{type(like).__name__}.nii.gz") as writer:
            writer.write(np.ones(like.shape, np.uint8))
    heads = [nib.load(tmp_path / f"{name}.nii.gz").header for name in ("WholeFile", "Volume")]
    for key in ("dim", "pixdim", "xyzt_units", "srow_x", "srow_y", "srow_z", "qform_code", "sform_code"):
        np.testing.assert_array_equal(heads[0][key], heads[1][key])


@pytest.mark.parametrize("stored", [(4, 5), (4, 5, 1, 1), (4, 5, 2, 1, 1)])
def test_results_of_files_with_odd_axes_have_them_too(tmp_path: Path, stored: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(numbers(stored), AFFINE), tmp_path / "a.nii.gz")
    source = open_volume(tmp_path / "a.nii.gz")
    (frame,) = iterate_frames(source)
    result = (frame.array % 4).astype(np.uint8)
    if isinstance(source, Volume):
        write_like(result, source, tmp_path / "b.nii.gz")
    else:
        with FrameWriter(source, np.uint8, tmp_path / "b.nii.gz") as writer:
            writer.write(result)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj), result.reshape(stored))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_volume(tmp_path / "none.nii.gz")


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        path = save_cine(tmp_path / f"{frames}.nii.gz", numbers((64, 64, 6, frames)))
        tracemalloc.start()
        source = open_volume(path)
        with FrameWriter(source, np.float32, tmp_path / "result.nii.gz") as writer:
            for frame in iterate_frames(source):
                writer.write(frame.array.astype(np.float32))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(4), peak(40)
    assert many < 1.3 * few
    assert many < 10 * 64 * 64 * 6 * 4  # a handful of the 40 frames, and what gzip and nibabel need
