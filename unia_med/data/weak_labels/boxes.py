"""Dense labels from boxes: inscribed ellipses, since most structures are round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unia_med.data.weak_labels.place import GridMap
from unia_med.labels import BACKGROUND

_EIGHT = np.ones((3, 3), bool)


class Box(NamedTuple):
    """A box on the network's grid: its class 1..T, its middle and half sides in pixels, along H and W."""

    label: int
    centre: tuple[float, float]
    half: tuple[float, float]

    def distance(self, size: tuple[int, int]) -> np.ndarray:
        """Return (H, W): 0 in the middle of the inscribed ellipse, 1 on its outline, larger outside."""
        rows, columns = ((np.arange(n) - c) / h for n, c, h in zip(size, self.centre, self.half, strict=True))
        return np.hypot(rows[:, None], columns[None])

    def rectangle(self, size: tuple[int, int]) -> np.ndarray:
        """Return bool (H, W): pixels whose centre lies in the box."""
        rows, columns = (np.abs(np.arange(n) - c) <= h for n, c, h in zip(size, self.centre, self.half, strict=True))
        return rows[:, None] & columns[None]

    def ellipse(self, size: tuple[int, int]) -> np.ndarray:
        """Return bool (H, W): the inscribed ellipse, at least one pixel."""
        inside: np.ndarray = self.distance(size) <= 1
        if not inside.any():  # a box between pixel centres still says that something is there
            row, column = (int(np.clip(round(c), 0, n - 1)) for c, n in zip(self.centre, size, strict=True))
            inside[row, column] = True
        return inside


def boxes_on_grid(drawn: np.ndarray, grid: GridMap) -> list[list[Box]]:
    """Return the boxes of each slice, on the grid, with their exact sides.

    Args:
        drawn: bool (T, X, Y, Z), filled boxes as stored; boxes of one class that touch count as one.
        grid: Leads from stored pixels to the grid.
    """
    found: list[list[Box]] = [[] for _ in range(drawn.shape[3])]
    scale, offset = np.asarray(grid.scale), np.asarray(grid.offset)
    for label, z in np.argwhere(drawn.any((1, 2))):
        for rows, columns in ndimage.find_objects(ndimage.label(drawn[label, :, :, z], _EIGHT)[0]):
            # A pixel reaches half a pixel to either side of its centre.
            low = scale * (rows.start - 0.5, columns.start - 0.5) + offset
            high = scale * (rows.stop - 0.5, columns.stop - 0.5) + offset
            middle, half = (low + high) / 2, np.abs(high - low) / 2
            found[z].append(Box(int(label) + 1, (middle[0], middle[1]), (half[0], half[1])))
    return found


def fill_boxes(size: tuple[int, int], boxes: Sequence[Box]) -> np.ndarray:
    """Return dense labels uint8 (H, W) of one slice: an inscribed ellipse in each box, background elsewhere.

    Larger ellipses are painted first, so that what lies inside another stays visible.

    Args:
        size: H and W.
        boxes: Of the slice.
    """
    labels = np.full(size, BACKGROUND, np.uint8)
    for box in sorted(boxes, key=lambda box: -box.half[0] * box.half[1]):
        labels[box.ellipse(size)] = box.label
    return labels
