"""Connected pieces of a mask: the one rule for what "the largest piece" is."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_COUNTED = 1 << 24
"""Numbers that numpy, which makes them 64 bits wide, counts at once."""


def largest_piece(mask: np.ndarray, structure: np.ndarray | None = None) -> np.ndarray:
    """Return the largest connected piece of a mask, bool of its shape; of equally large ones the first in memory order.

    Args:
        mask: bool, of any number of axes; a mask of one piece, or of none, is returned as it is.
        structure: which neighbours are connected, as in `scipy.ndimage.label`; None: those that share a face.
    """
    pieces, count = _numbered(mask, structure)
    if count < 2:
        return mask
    found: np.ndarray = pieces == _largest(pieces, count)
    return found


def drop_largest_piece(mask: np.ndarray, structure: np.ndarray | None = None, by_length: bool = False) -> None:
    """Remove from a mask, in place, what `largest_piece` gives of it.

    Args:
        mask: as in `largest_piece`.
        structure: as in `largest_piece`.
        by_length: the largest is the one with the largest sum, over the slices along the last axis, of the square root
            of its area, that is, of its diameters: a piece that many slices cut, and not one that is wide in a few.
    """
    pieces, count = _numbered(mask, structure)
    rule = _longest if by_length else _largest
    largest = rule(pieces, count) if count else 0
    for index in range(mask.shape[-1]):  # slice by slice: no third array of that size
        mask[..., index] &= pieces[..., index] != largest


def _largest(pieces: np.ndarray, count: int) -> int:
    """Return the number of the largest of some pieces."""
    sizes = np.zeros(count + 1, np.int64)
    for part in np.array_split(pieces.ravel(), 1 + pieces.size // _COUNTED):
        sizes += np.bincount(part, minlength=count + 1)
    return 1 + int(sizes[1:].argmax())


def _longest(pieces: np.ndarray, count: int) -> int:
    """Return the number of the piece with the largest sum of diameters over slices."""
    lengths = np.zeros(count + 1)
    for index in range(pieces.shape[-1]):
        lengths += np.sqrt(np.bincount(pieces[..., index].ravel(), minlength=count + 1))
    return 1 + int(lengths[1:].argmax())


def _numbered(mask: np.ndarray, structure: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Return the number of each voxel's piece, and how many there are; in 16 bits where these are enough."""
    pieces = np.empty(mask.shape, np.uint16)
    try:
        return pieces, int(ndimage.label(mask, structure, output=pieces))
    except RuntimeError:  # more than 65535 pieces
        del pieces
    found, count = ndimage.label(mask, structure)
    return found, int(count)
