"""Brings label volumes to the grid of their image: nearest voxel in millimetres, no label is ever mixed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def voxel_map(affine: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the 4x4 matrix from voxel indices of the target grid to those of the source grid.

    Args:
        affine: 4x4 of the source, voxel indices to mm.
        target: 4x4 of the target, voxel indices to mm.
    """
    return np.linalg.inv(np.asarray(affine, np.float64)) @ np.asarray(target, np.float64)


def nearest_on_grid(
    labels: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    target: np.ndarray,
    outside: int = 0,
    nothing: int | None = None,
) -> np.ndarray:
    """Return labels on another grid: each target voxel takes the value of the source voxel nearest to its centre.

    Args:
        labels: integers (X, Y, Z).
        affine: 4x4 of `labels`, voxel indices to mm; any orientation and extent.
        shape: (X, Y, Z) of the target grid.
        target: 4x4 of the target grid.
        outside: value of target voxels whose centre lies in no source voxel.
        nothing: for strokes and points, the value of a voxel that says nothing: what is drawn on a finer grid and is
            nearest to no target voxel is written too, where the target voxel that holds it would say nothing. None:
            not, as for masks, which would grow.

    Example:
        >>> drawn = np.zeros((4, 4, 1), int); drawn[1, 2, 0] = 5
        >>> flipped = np.diag([-1.0, 1, 1, 1]); flipped[0, 3] = 3
        >>> np.argwhere(nearest_on_grid(drawn, np.eye(4), (4, 4, 1), flipped)).tolist()
        [[2, 2, 0]]
    """
    space = tuple(shape[:3])
    placed = np.full(space, outside, labels.dtype)
    matrix = voxel_map(affine, target)
    for z, index in enumerate(_planes(space, matrix)):
        inside = ((index >= 0) & (index < np.reshape(labels.shape, (3, 1, 1)))).all(0)
        placed[:, :, z][inside] = labels[tuple(index[:, inside])]
    if nothing is not None:
        _add_lost(labels, np.linalg.inv(matrix), placed, nothing)
    return placed


def share_inside(drawn: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], target: np.ndarray) -> float:
    """Return the share of a mask's voxels inside another grid, 0 to 1; 1 for an empty mask.

    Args:
        drawn: bool (X, Y, Z).
        affine: 4x4 of `drawn`.
        shape: (X, Y, Z) of the other grid.
        target: 4x4 of the other grid.
    """
    points = np.argwhere(drawn)
    if not len(points):
        return 1.0
    there = _indices(points, voxel_map(target, affine))
    return float(((there >= 0) & (there < np.asarray(shape[:3]))).all(1).mean())


def _planes(shape: tuple[int, ...], matrix: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, per target slice, the nearest source indices (3, X, Y)."""
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    flat = matrix[:3, 0, None, None] * x + matrix[:3, 1, None, None] * y + matrix[:3, 3, None, None]
    for z in range(shape[2]):
        # Half a millionth of a voxel: a header's rounding must not decide between two neighbours at random.
        yield np.floor(flat + matrix[:3, 2, None, None] * z + 0.5 + 1e-6).astype(np.int64)


def _indices(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return nearest voxel indices (N, 3) of points (N, 3) given in voxels of another grid."""
    return np.floor(points @ matrix[:3, :3].T + matrix[:3, 3] + 0.5 + 1e-6).astype(np.int64)


def _add_lost(labels: np.ndarray, matrix: np.ndarray, placed: np.ndarray, nothing: int) -> None:
    """Write drawn source voxels, in place, into unlabelled target voxels.

    Args:
        labels: source.
        matrix: 4x4 from source voxels to target voxels.
        placed: target, changed.
        nothing: value of a voxel that says nothing.
    """
    drawn = np.argwhere(labels != nothing)
    there = _indices(drawn, matrix)
    keep = ((there >= 0) & (there < placed.shape)).all(1)
    drawn, there = drawn[keep], there[keep]
    free = placed[tuple(there.T)] == nothing
    placed[tuple(there[free].T)] = labels[tuple(drawn[free].T)]
