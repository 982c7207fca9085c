"""Compressed volumes whose bytes are damaged: refused, whatever their library makes of them."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from unia_med.data.io.frames import open_volume
from unia_med.data.io.packed import CheckedGzip, Unpacked, unpacked_size
from unia_med.data.io.read import read_volume
from unia_med.errors import UserError

VOXELS = np.random.default_rng(0).integers(0, 200, (20, 18, 5)).astype(np.int16)


@pytest.mark.parametrize("tail", [b"", b"appended", bytes(600)])
def test_streams_give_what_was_packed(tail: bytes) -> None:
    packed = gzip.compress(b"ab" * 900) + gzip.compress(b"c") + tail
    assert io.BufferedReader(Unpacked(io.BytesIO(packed))).read() == b"ab" * 900 + b"c"
    assert io.BufferedReader(Unpacked(io.BytesIO(zlib.compress(b"xyz")))).read() == b"xyz"


def test_places_are_those_of_an_unpacked_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    (tmp_path / "a").write_bytes(gzip.compress(content))
    file = CheckedGzip(tmp_path / "a", 10_000)
    for place, count in ((352, 100), (9000, 7), (3, 500), (9900, 100), (0, 10), (10_200, 100)):
        assert file.seek(place) == place and file.read(count) == content[place : place + count]
    buffer = bytearray(5)
    file.seek(1000)
    assert file.readinto(buffer) == 5 and bytes(buffer) == content[1000:1005]
    assert unpacked_size(tmp_path / "a") == len(content)


def _written(name: str, folder: Path) -> Path:
    path = folder / name
    if name.endswith((".mha", ".nrrd", ".mhd", ".nhdr")):
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS.T), str(path), True)
    elif name.endswith(".mgz"):
        nib.save(nib.MGHImage(VOXELS, np.eye(4)), path)
    else:
        nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), path)
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.mgz", "a.img.gz"])
def test_a_flipped_bit_is_noticed_in_every_compressed_format(name: str, tmp_path: Path) -> None:
    path = _written(name, tmp_path)
    assert np.array_equal(read_volume(path).array, VOXELS)
    largest = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    whole = largest.read_bytes()
    for place in (0.3, 0.6, 0.9, 0.999):
        damaged = bytearray(whole)
        damaged[int(place * len(whole))] ^= 4
        largest.write_bytes(bytes(damaged))
        with pytest.raises(UserError):
            read_volume(path)
    largest.write_bytes(whole[:-6])
    with pytest.raises(UserError):
        read_volume(path)


def test_frames_of_a_cine_in_any_order_and_of_a_damaged_one(tmp_path: Path) -> None:
    cine = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], axis=-1)
    nib.save(nib.Nifti1Image(cine, np.eye(4)), tmp_path / "a.nii.gz")
    source = open_volume(tmp_path / "a.nii.gz")
    assert all(np.array_equal(source.frame(k).array, cine[..., k]) for k in (0, 1, 2, 0, 2, 1))
    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    content[-7] ^= 1  # in the checksum
    (tmp_path / "a.nii.gz").write_bytes(bytes(content))
    source = open_volume(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="incorrect data check"):
        [source.frame(index) for index in range(3)]
