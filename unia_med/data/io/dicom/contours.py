"""Outlines of a mask in a plane as closed contours; holes are joined to their outline by a keyhole, as DICOM asks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

_CORNERS = np.ones((3, 3), bool)


def contours(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield one closed contour (N, 2) in pixels per piece of a mask, the last point joined to the first.

    They run half-way between pixels inside and outside, so the pixels whose centres lie inside are those of the mask,
    by the even-odd rule and by winding numbers alike. A hole is reached over a line that is passed twice (DICOM PS3.3
    C.8.8.6.3).

    Args:
        mask: bool (X, Y).

    Example:
        >>> ring = np.ones((5, 5), bool); ring[2, 2] = False
        >>> [len(one) for one in contours(ring)]
        [26]
    """
    pieces, count = ndimage.label(mask)
    for number in range(1, count + 1):
        piece = pieces == number
        filled = ndimage.binary_fill_holes(piece, _CORNERS)
        outline = _outline(filled, corners=False)
        holes, holes_count = ndimage.label(filled & ~piece, _CORNERS)
        for hole in range(1, holes_count + 1):
            outline = _keyhole(outline, _outline(holes == hole, corners=True)[::-1])
        yield outline


def _outline(piece: np.ndarray, corners: bool) -> np.ndarray:
    """Return the outer contour of one piece without holes, open, always turning the same way."""
    from skimage.measure import find_contours

    padded = np.pad(piece, 1).astype(float)
    found = find_contours(padded, 0.5, fully_connected="high" if corners else "low")
    longest = max(found, key=len)  # pieces that touch at corners alone give one contour; holes were filled
    return longest[:-1] - 1


def _keyhole(outline: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return the outline with a way to the nearest point of the hole, round it and back."""
    outer, inner = np.unravel_index(cdist(outline, hole).argmin(), (len(outline), len(hole)))
    around = np.concatenate((hole[inner:], hole[: inner + 1]))
    return np.concatenate((outline[: outer + 1], around, outline[outer:]))
