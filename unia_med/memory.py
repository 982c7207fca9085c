"""Memory that is freed and asked for again, at each step of a training or for each volume, stays with the process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Numbers of the options of mallopt, and their defaults (glibc's malloc.h and mallopt(3)).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULTS = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 1024}

MIDDLING = 32 << 20
"""Bytes: the most that glibc takes as a limit between blocks of the heap and blocks of their own."""


@contextmanager
def kept_memory(largest: int | None = None) -> Iterator[None]:
    """Let glibc keep what is freed, until the end of the block; elsewhere nothing changes.

    By default it gives much of it back to the system, which has to clear its pages when the next step or volume asks
    for them again: a tenth of the time of a training step on a CPU, or of a prediction.

    Args:
        largest: bytes of a tensor above which it is given back, at most `MIDDLING`; None keeps all. In work whose
            arrays differ in size, as those of volumes do, large holes between what is kept add to the memory that is
            needed at most.
    """
    library = _glibc()
    if library is None:
        yield
        return
    _set(library.mallopt, {_TRIM_THRESHOLD: -1, **({_MMAP_MAX: 0} if largest is None else {_MMAP_THRESHOLD: largest})})
    try:
        yield
    finally:  # the limit between blocks stays: glibc raises it by itself to as much, once such blocks are freed
        _set(library.mallopt, _DEFAULTS)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process if it is glibc."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    names = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in names) else None


def _set(mallopt: Callable[[int, int], int], options: dict[int, int]) -> None:
    for option, value in options.items():
        mallopt(option, value)
