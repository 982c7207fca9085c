"""Resamples sparse labels to the network's grid without losing any: nearest neighbour would drop thin strokes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.grid.plane import place_plane
from unia_med.labels import IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import GridConfig


@dataclass(frozen=True)
class GridMap:
    """Where the pixels of a stored slice lie on the network's grid: `grid = scale * stored + offset`, per axis.

    Args:
        scale: Grid pixels per stored pixel along the two axes of a slice; below 1 when pixels get larger.
        offset: Grid index of the stored pixel (0, 0).
        stored: Size of a stored slice.
        size: (H, W) of the grid.
        slice_step: Distance of two slices, in pixels of the grid.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    stored: tuple[int, int]
    size: tuple[int, int]
    slice_step: float = 1.0

    def place(self, labels: np.ndarray) -> np.ndarray:
        """Return labels (Z, H, W) on the grid: of the nearest stored pixel or, where that has none, of any inside.

        Of several labelled pixels inside one grid pixel, the one next to its centre counts.

        Args:
            labels: uint8 (X, Y, Z) on the stored grid, IGNORE where nothing is said.
        """
        (rows, inside_rows), (columns, inside_columns) = (self._nearest(axis) for axis in (0, 1))
        placed = labels[rows][:, columns]
        placed[~inside_rows] = IGNORE
        placed[:, ~inside_columns] = IGNORE
        if (placed == IGNORE).any():
            self._add_lost(labels, placed)
        return np.ascontiguousarray(placed.transpose(2, 0, 1))

    def _nearest(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return stored index nearest to each grid pixel along an axis, and whether there is a stored pixel at all."""
        position = (np.arange(self.size[axis]) - self.offset[axis]) / self.scale[axis]
        last = self.stored[axis] - 1
        inside = (position >= -0.5) & (position <= last + 0.5)
        return np.clip(np.rint(position), 0, last).astype(int), inside

    def _add_lost(self, labels: np.ndarray, placed: np.ndarray) -> None:
        """Add labels, in place, whose stored pixel is nearest to no grid pixel."""
        stored = np.argwhere(labels != IGNORE)
        exact = stored[:, :2] * self.scale + np.asarray(self.offset)
        cell = np.rint(exact).astype(int)
        keep = ((cell >= 0) & (cell < self.size)).all(1)
        stored, exact, cell = stored[keep], exact[keep], cell[keep]
        free = placed[cell[:, 0], cell[:, 1], stored[:, 2]] == IGNORE
        stored, exact, cell = stored[free], exact[free], cell[free]
        order = np.argsort(-((exact - cell) ** 2).sum(1), kind="stable")  # the last one written is the nearest
        stored, cell = stored[order], cell[order]
        placed[cell[:, 0], cell[:, 1], stored[:, 2]] = labels[tuple(stored.T)]


def grid_map(shape: tuple[int, ...], affine: np.ndarray, grid: GridConfig) -> GridMap:
    """Return the map of a volume's slices, as its image is brought to the grid.

    Args:
        shape: (X, Y, Z) of the volume, turned so that Z counts slices.
        affine: Its 4x4 matrix.
        grid: The network's grid.
    """
    rows, columns = place_plane(shape, affine, grid).axes
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return GridMap(
        (rows.step, columns.step),
        (rows.start, columns.start),
        (rows.stored, columns.stored),
        (rows.size, columns.size),
        float(spacing[2] * rows.step / spacing[0]),
    )
