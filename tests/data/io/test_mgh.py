"""FreeSurfer's volumes: voxels and place as nibabel's own NIfTI conversion has them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_header, read_volume
from unia_med.errors import UserError

OBLIQUE = np.array([[-1.2, 0.3, 0, 40], [0.3, 1.2, 0.1, -20], [0, -0.1, 6, 5], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("suffix", ["mgz", "mgh"])
def test_voxels_affine_and_result_agree_with_nibabel(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 900, (5, 6, 4)).astype(np.int16)
    nib.save(nib.MGHImage(array, OBLIQUE), tmp_path / f"x.{suffix}")
    volume, header = read_volume(tmp_path / f"x.{suffix}"), read_header(tmp_path / f"x.{suffix}")
    assert np.array_equal(volume.array, array) and header.shape == (5, 6, 4)
    assert np.allclose(volume.affine, OBLIQUE, atol=1e-4) and np.allclose(header.affine, OBLIQUE, atol=1e-4)
    write_like((array > 400).astype(np.uint8), volume, tmp_path / "x_seg.nii.gz")
    result = nib.load(tmp_path / "x_seg.nii.gz")
    assert np.allclose(result.affine, OBLIQUE, atol=1e-4) and result.header.get_xyzt_units()[0] == "mm"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.mgz").write_bytes(b"no volume")
    with pytest.raises(UserError, match=r"x\.mgz: cannot be read as MGH"):
        read_volume(tmp_path / "x.mgz")


@pytest.mark.parametrize("size", [0, -3])
def test_sizes_that_cannot_be_are_refused_by_the_header(tmp_path: Path, size: int) -> None:
    nib.save(nib.MGHImage(np.zeros((5, 6, 4), np.float32), OBLIQUE), tmp_path / "x.mgz")
    content = bytearray(gzip.decompress((tmp_path / "x.mgz").read_bytes()))
    content[4:8] = size.to_bytes(4, "big", signed=True)  # the first of its four sizes
    (tmp_path / "x.mgz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(UserError, match=r"x\.mgz"):
        read_header(tmp_path / "x.mgz")


def test_a_pair_is_read_by_either_name(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nib.save(nib.Nifti1Pair(array, OBLIQUE), tmp_path / "x.hdr")
    for name in ("x.hdr", "x.img"):
        volume = read_volume(tmp_path / name)
        assert np.array_equal(volume.array, array) and np.allclose(volume.affine, OBLIQUE, atol=1e-4)
    write_like(np.ones((3, 4, 5), np.uint8), volume, tmp_path / "x_seg.nii.gz")
    assert np.allclose(nib.load(tmp_path / "x_seg.nii.gz").affine, OBLIQUE, atol=1e-4)
    (tmp_path / "x.img").unlink()
    with pytest.raises(UserError, match=r"x\.hdr"):
        read_volume(tmp_path / "x.hdr")
