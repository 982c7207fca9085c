"""Mapped arrays come back as they were, and damage is noticed wherever it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unia_med.data.io.arrays import read_array, write_array


def test_arrays_come_back_mapped(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype(np.float16)
    write_array(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy")
    assert isinstance(found, np.memmap) and np.array_equal(found, array)
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)


@pytest.mark.parametrize("seed", range(12))
def test_every_flipped_bit_is_noticed(tmp_path: Path, seed: int) -> None:
    write_array(tmp_path / "a.npy", np.arange(300, dtype=np.uint8).reshape(3, 100))
    damaged = bytearray((tmp_path / "a.npy").read_bytes())
    rng = np.random.default_rng(seed)
    damaged[int(rng.integers(128, len(damaged)))] ^= 1 << int(rng.integers(8))
    (tmp_path / "a.npy").write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="checksum"):
        read_array(tmp_path / "a.npy", signed=False)


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    np.save(tmp_path / "a.npy", np.arange(8))
    assert np.array_equal(read_array(tmp_path / "a.npy", signed=False), np.arange(8))
    if content is not None:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - whatever numpy says of it
        read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("byte", [b"(", b"\0", b"'", b"9", b"\xff"])
def test_a_damaged_head_is_refused(tmp_path: Path, byte: bytes) -> None:
    write_array(tmp_path / "a.npy", np.arange(8))
    whole = (tmp_path / "a.npy").read_bytes()
    for place in range(8, 80):  # numpy's reader raises a TokenError at some
        (tmp_path / "a.npy").write_bytes(whole[:place] + byte + whole[place + 1 :])
        try:
            read_array(tmp_path / "a.npy")
        except (ValueError, OSError):
            continue
