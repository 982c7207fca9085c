from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.data.io import nifti
from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.suffixes import volume_stem
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError

OBLIQUE = np.array([[1.1, -0.4, 1.9, -31.0], [0.5, 1.2, 4.0, 12.5], [-0.3, 0.35, 8.7, 40.0], [0, 0, 0, 1]])
FLIPPED = np.array([[-1.5, 0, 0, 90.0], [0, 1.5, 0, -20.0], [0, 0, -10.0, 5.0], [0, 0, 0, 1]])


def orthonormal(matrix: np.ndarray) -> np.ndarray:
    """The nearest affine without shear, which a quaternion can hold."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(matrix[:3, :3] / spacing)
    result = matrix.copy()
    result[:3, :3] = u @ vt * spacing
    return result


def save(path: Path, array: np.ndarray, affine: np.ndarray, codes: tuple[int, int] = (1, 1), **header: object) -> Path:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    image.header.set_xyzt_units("mm", "msec")
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


CASES = {
    "oblique": ((9, 7, 5), orthonormal(OBLIQUE), (2, 1)),
    "flipped": ((9, 7, 5), FLIPPED, (1, 0)),
    "one slice": ((9, 7, 1), orthonormal(OBLIQUE), (1, 1)),
    "two slices": ((9, 7, 2), FLIPPED, (0, 3)),
    "cine": ((9, 7, 3, 6), orthonormal(OBLIQUE), (1, 1)),
    "one frame": ((9, 7, 3, 1), FLIPPED, (4, 1)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_written_file_has_the_geometry_of_its_source(name: str, dtype: type, tmp_path: Path) -> None:
    shape, affine, codes = CASES[name]
    values = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    source_path = save(tmp_path / "in.nii.gz", values, affine, codes, cal_max=400)
    with_time = nib.load(source_path)
    if len(shape) == 4:
        with_time.header["pixdim"][4] = 33.5
        nib.save(with_time, source_path)
    result = (values % 4).astype(dtype)

    volume = read_volume(source_path)
    write_like(result.reshape(volume.shape), volume, tmp_path / "out" / "seg.nii.gz")

    source, written = nib.load(source_path).header, nib.load(tmp_path / "out" / "seg.nii.gz")
    assert written.shape == shape and written.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), result)
    np.testing.assert_array_equal(written.affine, nib.load(source_path).affine)
    for key in ("sform_code", "qform_code", "xyzt_units", "quatern_b", "qoffset_x", "srow_x", "pixdim"):
        np.testing.assert_array_equal(written.header[key], source[key], err_msg=key)
    assert written.header["cal_max"] == 0  # the display window of a scan would show a mask as black
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["seg.nii.gz"]


@pytest.mark.parametrize("name", [n for n in CASES if n != "one frame"])
def test_simpleitk_sees_source_and_result_in_the_same_place(name: str, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    shape, affine, codes = CASES[name]
    source = save(tmp_path / "in.nii.gz", np.ones(shape, np.int16), affine, codes)
    labels = np.zeros(shape, np.uint8)
    labels[2, 3, 0] = 7
    write_like(labels, read_volume(source), tmp_path / "seg.nii.gz")
    one, other = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / "seg.nii.gz"))
    assert one.GetSize() == other.GetSize()
    assert one.GetDirection() == other.GetDirection()
    assert one.GetSpacing() == other.GetSpacing() and one.GetOrigin() == other.GetOrigin()
    assert other.GetPixel(*([2, 3, 0] + [0] * (len(shape) - 3))) == 7


def test_frame_of_a_cine_is_written_in_3d(tmp_path: Path) -> None:
    cine = read_volume(save(tmp_path / "cine.nii.gz", np.ones((4, 5, 3, 6), np.int16), FLIPPED))
    write_like(np.ones((4, 5, 3), np.uint8), cine.frame(2), tmp_path / "frame.nii.gz")
    assert nib.load(tmp_path / "frame.nii.gz").shape == (4, 5, 3)


def test_volume_made_in_memory_gets_both_forms(tmp_path: Path) -> None:
    affine = orthonormal(OBLIQUE)
    write_like(np.ones((4, 5, 3), np.uint8), Volume(np.zeros((4, 5, 3)), affine), tmp_path / "a.nii.gz")
    header = nib.load(tmp_path / "a.nii.gz").header
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm" and (header["sform_code"], header["qform_code"]) == (1, 1)


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    source, target = Volume(np.zeros((4, 5, 3)), np.eye(4)), tmp_path / "seg.nii"
    write_like(np.ones((4, 5, 3), np.uint8), source, target)
    with target.open("rb") as opened:
        write_like(np.zeros((4, 5, 3), np.uint8), source, target)
        assert opened.read()[-60:] == b"\1" * 60
    assert target.read_bytes()[-60:] == bytes(60)


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Volume(np.zeros((4, 5, 3)), np.eye(4))
    target = tmp_path / "seg.nii.gz"
    write_like(np.ones((4, 5, 3), np.uint8), source, target)
    before = target.read_bytes()

    def broken(image: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti.nib, "save", broken)
    with pytest.raises(UserError, match="seg.nii.gz: cannot be written: No space left on device"):
        write_like(np.zeros((4, 5, 3), np.uint8), source, target)
    assert target.read_bytes() == before and list(tmp_path.iterdir()) == [target]


def test_write_refuses_wrong_types_shapes_and_names(tmp_path: Path) -> None:
    source = Volume(np.zeros((4, 5, 3)), np.eye(4))
    with pytest.raises(TypeError):
        write_like(np.zeros((4, 5, 3), np.int64), source, tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="shape"):
        write_like(np.zeros((5, 4, 3), np.uint8), source, tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="NIfTI"):
        write_like(np.zeros((4, 5, 3), np.uint8), source, tmp_path / "a.nrrd")


def test_scaled_integers_are_read_as_their_true_values(tmp_path: Path) -> None:
    array = np.array([0, 10, 250], np.uint8).reshape(3, 1, 1)
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "scaled.nii")
    stored = bytearray((tmp_path / "scaled.nii").read_bytes())
    raw = nib.load(tmp_path / "scaled.nii")
    expected = np.asanyarray(raw.dataobj.get_unscaled()) * raw.dataobj.slope + raw.dataobj.inter
    np.testing.assert_allclose(read_volume(tmp_path / "scaled.nii").array, expected)
    assert stored  # the file itself was not touched
    assert read_volume(save(tmp_path / "int.nii", array.astype(np.int16), np.eye(4))).array.dtype == np.int16


# ---- refusals -------------------------------------------------------------------------------------------------------


def expect_refusal(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_volume(path)
    text = str(caught.value)
    assert str(path) in text and caught.value.remedy
    for word in words:
        assert word in text, text


def test_missing_folder_and_foreign_suffix(tmp_path: Path) -> None:
    expect_refusal(tmp_path / "none.nii.gz", "no such file")
    expect_refusal(tmp_path, "folder")
    (tmp_path / "a.txt").write_text("x")
    expect_refusal(tmp_path / "a.txt", ".txt")


def test_truncated_and_foreign_content(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(30, 30, 10)).astype(np.float32)
    whole = save(tmp_path / "whole.nii.gz", array, np.eye(4)).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    expect_refusal(tmp_path / "cut.nii.gz", "cannot be read")
    raw = gzip.decompress(whole)
    (tmp_path / "cut.nii").write_bytes(raw[: len(raw) // 2])
    expect_refusal(tmp_path / "cut.nii", "cannot be read")
    for name, content in (
        ("empty.nii.gz", b""),
        ("empty.nii", b""),
        ("text.nii", b"hello"),
        ("text.nii.gz", b"hello" * 200),
    ):
        (tmp_path / name).write_bytes(content)
        expect_refusal(tmp_path / name, "cannot be read")
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    (tmp_path / "damaged.nii.gz").write_bytes(bytes(damaged))
    with pytest.raises(UserError):
        read_volume(tmp_path / "damaged.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    array = np.zeros((4, 5, 3), np.float32)
    array[1, 2, 0] = array[3, 4, 2] = value
    expect_refusal(save(tmp_path / "a.nii.gz", array, np.eye(4)), "2 of 60 voxels", "(1, 2, 0)")


def test_doubles_beyond_single_precision_are_told_as_infinite(tmp_path: Path) -> None:
    expect_refusal(save(tmp_path / "a.nii.gz", np.full((2, 2, 2), 1e300), np.eye(4)), "infinite")


def broken_sform(path: Path, rows: list[list[float]]) -> Path:
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    for key, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
        image.header[key] = row
    # nibabel would put a sound affine back on saving through the image, so header and voxels are written by hand.
    image.header["vox_offset"] = 352
    image.header["magic"] = b"n+1"
    path.write_bytes(image.header.binaryblock + bytes(4) + bytes(54))
    return path


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([[0, 0, 0, 0]] * 3, "0 mm"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], "0 mm"),
        ([[np.nan, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "NaN"),
        ([[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0]], "NaN or infinite"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], "singular"),
    ],
)
def test_affines_that_place_nothing(rows: list[list[float]], word: str, tmp_path: Path) -> None:
    path = broken_sform(tmp_path / "a.nii", rows)
    expect_refusal(path, "affine", word)
    with pytest.raises(UserError, match="affine"):
        read_header(path)


@pytest.mark.parametrize("shape", [(5,), (5, 4, 3, 2, 2)])
def test_wrong_dimensions(shape: tuple[int, ...], tmp_path: Path) -> None:
    expect_refusal(save(tmp_path / "a.nii.gz", np.zeros(shape, np.int16), np.eye(4)), f"{len(shape)} dimensions")


def test_a_flat_image_is_one_slice_and_its_result_is_flat(tmp_path: Path) -> None:
    array = np.arange(20, dtype=np.int16).reshape(5, 4)
    volume = read_volume(save(tmp_path / "a.nii.gz", array, np.diag([2.0, 3.0, 1.0, 1.0])))
    assert volume.shape == read_header(tmp_path / "a.nii.gz").shape == (5, 4, 1)
    np.testing.assert_array_equal(volume.array[..., 0], array)
    write_like((volume.array > 7).astype(np.uint8), volume, tmp_path / "seg.nii.gz")
    back = nib.load(tmp_path / "seg.nii.gz")
    assert back.shape == (5, 4)
    np.testing.assert_allclose(back.affine, volume.affine)
    np.testing.assert_array_equal(np.asarray(back.dataobj), array > 7)


def test_a_result_of_several_channels_has_none(tmp_path: Path) -> None:
    array = np.zeros((5, 4, 3, 2), np.float32)
    volume = read_volume(save(tmp_path / "a.nii.gz", array, OBLIQUE))
    write_like(np.ones((5, 4, 3), np.uint8), volume, tmp_path / "seg.nii.gz")
    back = nib.load(tmp_path / "seg.nii.gz")
    assert back.shape == (5, 4, 3) and back.header["dim"][0] == 3
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-6)


def test_complex_and_colour(tmp_path: Path) -> None:
    expect_refusal(save(tmp_path / "c.nii.gz", np.zeros((3, 3, 3), np.complex64), np.eye(4)), "complex")
    rgb = np.zeros((3, 3, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    expect_refusal(save(tmp_path / "rgb.nii.gz", rgb, np.eye(4)), "colour")


def test_very_thin_voxels_are_no_singular_affine(tmp_path: Path) -> None:
    affine = np.diag([0.001, 0.001, 20.0, 1.0])
    assert read_volume(save(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), np.int16), affine)).spacing_mm[2] == 20.0


def test_stem_keeps_dots_inside_the_name() -> None:
    assert volume_stem("/a/b/p.1_frame01.nii.gz") == "p.1_frame01" and volume_stem("case 3") == "case 3"


# ---- NRRD and MetaImage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_formats_land_where_nibabel_puts_the_same_image(suffix: str, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    array = np.random.default_rng(1).normal(size=(6, 5, 4)).astype(np.float32)
    path = save(tmp_path / "a.nii.gz", array, orthonormal(OBLIQUE))
    sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / f"a{suffix}"))
    one, other = read_volume(path), read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)
    write_like(np.ones(other.shape, np.uint8), other, tmp_path / "seg.nii.gz")
    np.testing.assert_allclose(nib.load(tmp_path / "seg.nii.gz").affine, one.affine, atol=1e-4)
    assert read_header(tmp_path / f"a{suffix}").shape == (6, 5, 4)


def test_itk_cine_keeps_its_frame_spacing(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.zeros((5, 3, 4, 6), np.float32), isVector=False)
    image.SetSpacing([1.5, 1.25, 8.0, 30.0])
    sitk.WriteImage(image, str(tmp_path / "cine.mha"))
    volume = read_volume(tmp_path / "cine.mha")
    assert volume.shape == (6, 4, 3, 5) and volume.spacing_mm == (1.5, 1.25, 8.0)
    write_like(np.zeros(volume.shape, np.uint8), volume, tmp_path / "seg.nii.gz")
    np.testing.assert_allclose(nib.load(tmp_path / "seg.nii.gz").header.get_zooms(), (1.5, 1.25, 8.0, 30.0))


def test_itk_refusals(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.float32)), str(tmp_path / "flat.mha"))
    assert read_volume(tmp_path / "flat.mha").shape == read_header(tmp_path / "flat.mha").shape == (5, 4, 1)
    vectors = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "rgb.nrrd"))
    expect_refusal(tmp_path / "rgb.nrrd", "several numbers per voxel")
    (tmp_path / "text.nrrd").write_text("hello")
    expect_refusal(tmp_path / "text.nrrd", "cannot be read")
