"""Arrays on the disk that are mapped into memory, with a checksum by which damage is noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tokenize import TokenError

import numpy as np

from unia_med.files import replacing

_BYTES = 16


def write_array(path: Path, array: np.ndarray, remedy: str | None = None) -> None:
    """Write an `.npy` file, whole or not at all, and, behind the array, where `numpy.load` does not look, a checksum.

    Args:
        path: final place; its folder is made.
        array: what to write.
        remedy: what the user can do where the place cannot be written.
    """
    with replacing(path, **({} if remedy is None else {"remedy": remedy})) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.write(_checksum(array))


def read_array(path: Path, signed: bool = True) -> np.ndarray:
    """Return an array mapped from the disk, after a look at its checksum.

    Args:
        path: what `write_array` wrote.
        signed: whether a file without a checksum, of an earlier version, is refused.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is damaged, or no array.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ValueError("an empty file") from error
    except (SyntaxError, TokenError, RecursionError, MemoryError, OverflowError) as error:  # of numpy's reader of heads
        raise ValueError("no head of an array") from error
    with path.open("rb") as file:
        start = file.seek(-min(_BYTES, path.stat().st_size), os.SEEK_END)
        written = file.read()
    end = getattr(array, "offset", 0) + array.nbytes
    if end == start + len(written) and not signed:
        return array
    if end != start or _checksum(array) != written:
        raise ValueError("its checksum does not fit")
    return array


def _checksum(array: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((array.shape, array.dtype.str)).encode(), digest_size=_BYTES)
    digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.digest()
