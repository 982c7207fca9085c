"""Lengths are millimetres whatever unit a header names, and results give the source's unit back."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.bundle.steps import VolumeReader
from unia_med.cardiac.cases import MaskCase, measure_case
from unia_med.data.io.frames import FrameWriter, iterate_frames, open_volume
from unia_med.data.io.geometry import spacing_of
from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_header, read_volume
from unia_med.errors import UserError

AFFINE = np.array([[-1.25, 0.2, 0, 30], [0.2, 1.25, 0.3, -40], [0, -0.3, 8, 12], [0, 0, 0, 1.0]])
UNITS = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def save(path: Path, array: np.ndarray, unit: str, time: str = "sec", step: float = 0.03) -> Path:
    affine = AFFINE.copy()
    affine[:3] /= UNITS[unit]
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit, time)
    if array.ndim == 4:
        image.header["pixdim"][4] = step
    nib.save(image, path)
    return path


@pytest.mark.parametrize("unit", UNITS)
def test_affines_are_in_mm_and_results_in_the_unit_of_the_source(tmp_path: Path, unit: str) -> None:
    path = save(tmp_path / "a.nii.gz", np.arange(60, dtype=np.int16).reshape(5, 4, 3), unit)
    volume = read_volume(path)
    assert np.allclose(volume.affine, AFFINE, rtol=1e-5) and np.allclose(read_header(path).affine, AFFINE, rtol=1e-5)
    _, meta = VolumeReader().get_data(VolumeReader().read(path))
    assert np.array_equal(meta["affine"], volume.affine)
    write_like(np.ones((5, 4, 3), np.uint8), volume, tmp_path / "a_seg.nii.gz")
    source, result = nib.load(path), nib.load(tmp_path / "a_seg.nii.gz")
    assert np.array_equal(result.affine, source.affine)
    for key in ("xyzt_units", "pixdim", "srow_x", "quatern_b", "qoffset_y", "sform_code", "qform_code"):
        assert np.array_equal(result.header[key], source.header[key]), key


def test_a_cine_in_metres_keeps_its_unit_frame_by_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.zeros((5, 4, 3, 2), np.int16), "meter", "msec", 33.0)
    cine = open_volume(path)
    assert np.allclose(cine.affine, AFFINE, rtol=1e-5)
    with FrameWriter(cine, np.uint8, tmp_path / "a_seg.nii.gz") as writer:
        for frame in iterate_frames(cine):
            assert np.allclose(frame.affine, AFFINE, rtol=1e-5)
            writer.write(np.ones((5, 4, 3), np.uint8))
    result = nib.load(tmp_path / "a_seg.nii.gz")
    assert np.array_equal(result.affine, nib.load(path).affine)
    assert result.header.get_xyzt_units() == ("meter", "msec") and result.header["pixdim"][4] == 33.0


@pytest.mark.parametrize("unit", ["meter", "micron"])
@pytest.mark.parametrize(("time", "step"), [("sec", 0.03), ("msec", 30.0), ("usec", 30_000.0)])
def test_cardiac_volumes_and_times_do_not_depend_on_the_units(
    tmp_path: Path, unit: str, time: str, step: float
) -> None:
    masks = np.zeros((20, 20, 4, 2), np.uint8)
    masks[4:14, 4:14, :, 0], masks[6:12, 6:12, :, 1] = 3, 3
    values = {"LV": 3}
    found = measure_case(MaskCase("a", {1: save(tmp_path / "a.nii.gz", masks, unit, time, step)}), values)
    voxel_ml = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    assert found.indices.volumes_ml["LV"] == pytest.approx([400 * voxel_ml, 144 * voxel_ml], rel=1e-4)
    assert found.time_step_s == pytest.approx(0.03)


def test_nrrd_files_in_micrometres(tmp_path: Path) -> None:
    head = (
        "NRRD0005\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 3 4\n"
        "space directions: (1500,0,0) (0,2000,0) (0,0,8000)\nkinds: domain domain domain\nencoding: raw\n"
        'space units: "um" "um" "um"\nspace origin: (1000,0,0)\n\n'
    )
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(24))
    assert read_volume(tmp_path / "a.nrrd").spacing_mm == pytest.approx((1.5, 2, 8))
    assert read_header(tmp_path / "a.nrrd").affine[0, 3] == pytest.approx(-1.0)


def test_two_voxel_sizes_in_one_header_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 3), np.uint8), "mm", "sec", 0)
    content = bytearray(path.read_bytes())
    content[280:284] = np.float32(3.0).tobytes()  # x of the sform
    (tmp_path / "b.nii").write_bytes(bytes(content))
    with caplog.at_level(logging.WARNING, logger="unia_med"):
        for name in ("a", "b", "b"):
            read_volume(tmp_path / f"{name}.nii")
    said = [record.getMessage() for record in caplog.records]
    assert (
        len(said) == 1 and said[0].startswith(f"{tmp_path / 'b.nii'}: voxels of 3.007 x ") and "by its sform" in said[0]
    )


@pytest.mark.parametrize(
    ("unit", "factor", "said"),
    [("\u00b5m", 0.001, False), ("millimeters", 1, False), ("inches", 25.4, False), ("ell", 1, True)],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_units_of_nrrd_in_words(
    tmp_path: Path, unit: str, factor: float, said: bool, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = (
        "NRRD0005\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 3 4\n"
        "space directions: (1500,0,0) (0,2000,0) (0,0,8000)\nkinds: domain domain domain\nencoding: raw\n"
        f'space units: "{unit}" "{unit}" "{unit}"\nspace origin: (0,0,0)\n\n'
    )
    (tmp_path / "a.nrrd").write_bytes(head.encode(encoding) + bytes(24))
    assert read_volume(tmp_path / "a.nrrd").spacing_mm == pytest.approx((1500 * factor, 2000 * factor, 8000 * factor))
    assert said == any("the unit of space ell" in record.getMessage() for record in caplog.records)


def test_implausible_voxels_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.diag([1.5, 1.5, 8, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.diag([0.4, 0.4, 20, 1])), tmp_path / "b.nii.gz")
    with caplog.at_level(logging.WARNING, logger="unia_med"):
        for name in ("a", "b", "a"):
            read_header(tmp_path / f"{name}.nii.gz")
            read_volume(tmp_path / f"{name}.nii.gz")
    told = f"{tmp_path / 'a.nii.gz'}: voxels of 1500 x 1500 x 8000 mm are implausible"
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [told]


@pytest.mark.parametrize(("unit", "factor"), [("m", 1000.0), ("cm", 10.0), ("um", 0.001), ("mm", 1.0), ("?", 1.0)])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_the_unit_of_a_meta_image_is_read(tmp_path: Path, suffix: str, unit: str, factor: float) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.zeros((3, 5, 4), np.int16))
    image.SetSpacing((1.5, 1.25, 8.0))
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path))
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing", f"DistanceUnits = {unit}\nElementSpacing".encode()))
    wanted = pytest.approx([1.5 * factor, 1.25 * factor, 8 * factor])
    assert read_volume(path).spacing_mm == wanted
    assert spacing_of(read_header(path).affine) == wanted


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("size", ["30000 30000 30000", "2000 1000 1000"])
def test_a_header_that_claims_more_than_its_file_holds_is_refused_at_once(
    tmp_path: Path, suffix: str, packed: bool, size: str
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 99, (3, 5, 4)).astype(np.int16))
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path), useCompression=packed)
    assert read_volume(path).shape == (4, 5, 3)
    path.write_bytes(path.read_bytes().replace(b"4 5 3", size.encode(), 1))
    for read in (read_header, read_volume):
        with pytest.raises(UserError, match=f"its header claims {size.replace(' ', ' x ')} voxels"):
            read(path)
