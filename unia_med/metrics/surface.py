"""Distances between the surfaces of two binary masks, in the unit of their spacing: mm, or pixels of a picture.

The surface of a mask is its voxels that touch a voxel outside it through a face; the outside of the array counts
as outside. This is MONAI's ``get_mask_edges``, so numbers agree with ``monai.metrics``. In a one-slice volume every
voxel touches the outside through the slice, hence all of them are surface.

Most surface voxels of a good segmentation lie on the other surface or a few voxels away from it. They are found by
looking at neighbours in order of their distance; a tree of the other surface's voxels answers for the rest. Distances
are exact either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

HausdorffKind = Literal["max", "pooled"]

_REACH = 8
"""Neighbours are looked at up to so many of the smallest voxel sizes away, ..."""
_MOST_OFFSETS = 700
"""... and so many of them; a tree is cheaper for what is farther."""
_FIRST_CHECK = 32
"""After so many neighbours, and each time they have doubled, the search goes on only ..."""
_WORTH_WHILE = 0.8
"""... if less than this share of the voxels is still without a distance."""


class SurfaceDistances(NamedTuple):
    """Distance from each surface voxel of one mask to the nearest surface voxel of the other, both ways."""

    to_label: np.ndarray
    to_prediction: np.ndarray


def surface(mask: np.ndarray) -> np.ndarray:
    """Bool mask of the voxels of ``mask`` with a face towards its outside.

    >>> surface(np.array([0, 1, 1, 1, 0], bool)).astype(int)
    array([0, 1, 0, 1, 0])
    """
    mask = np.asarray(mask, dtype=bool)
    grid = _Grid(mask.shape, (1,) * mask.ndim)
    return grid.surface(grid.padded(mask)).reshape(grid.size)[grid.inside]


def surface_distances(prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances | None:
    """Both directed sets of surface distances, or None when either mask is empty.

    Args:
        prediction: bool mask, shape (X, Y, Z).
        label: bool mask of the same shape.
        spacing: voxel size along each array axis, in the order of the axes. There is no default: a distance
            without a spacing is no distance.
    """
    prediction, label = np.asarray(prediction, dtype=bool), np.asarray(label, dtype=bool)
    if prediction.shape != label.shape:
        raise ValueError(f"masks differ in shape: prediction {prediction.shape}, label {label.shape}")
    if len(spacing) != prediction.ndim:
        raise ValueError(f"spacing has {len(spacing)} numbers for {prediction.ndim} axes")
    if not prediction.any() or not label.any():
        return None
    box = _bounding_box(prediction, label)
    near = _near_offsets(tuple(float(size) for size in spacing))
    # Outside the box both masks are empty, so its end and the true outside look the same to a voxel.
    grid = _Grid(prediction[box].shape, near.reach)
    predicted, true = (grid.surface(grid.padded(mask[box])) for mask in (prediction, label))
    return SurfaceDistances(
        to_label=_distances(predicted, true, grid, near), to_prediction=_distances(true, predicted, grid, near)
    )


def hausdorff95(distances: SurfaceDistances, kind: HausdorffKind = "max") -> float:
    """Return the 95 % Hausdorff distance, in the unit of the spacing.

    Args:
        distances: from ``surface_distances``.
        kind: ``max`` is the larger of the two directed 95th percentiles (MONAI's definition); ``pooled`` is the 95th
            percentile of both directions together (medpy's, in most scribble papers). ``pooled`` forgives a false
            blob that is small compared with the structure.
    """
    if kind == "max":
        return float(max(np.percentile(directed, 95) for directed in distances))
    if kind == "pooled":
        return float(np.percentile(np.concatenate(distances), 95))
    raise ValueError(f"unknown kind of HD95 {kind!r}: 'max' or 'pooled'")


def average_surface_distance(distances: SurfaceDistances) -> float:
    """Return the average symmetric surface distance: the mean over the surface voxels of both masks together.

    ``(sum d(P, L) + sum d(L, P)) / (|P| + |L|)`` as in Heimann et al. 2009; MONAI's
    ``compute_average_surface_distance(symmetric=True)``. medpy's ``assd`` averages the two directed means instead.
    """
    return float(np.concatenate(distances).mean())


class _Grid:
    """A box with empty voxels around it, laid out flat, so that a neighbour is a constant away in memory.

    Attributes:
        size: of the box with its margin.
        inside: where the box lies.
        strides: distance in memory of two neighbours along each axis.
    """

    def __init__(self, shape: Sequence[int], margin: Sequence[int]) -> None:
        self.size = tuple(size + 2 * edge for size, edge in zip(shape, margin, strict=True))
        self.inside = tuple(slice(edge, edge + size) for size, edge in zip(shape, margin, strict=True))
        self.strides = np.cumprod((1, *self.size[:0:-1]))[::-1]

    def padded(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of the box, flat, with its margin."""
        padded = np.zeros(self.size, bool)
        padded[self.inside] = mask
        return padded.ravel()

    def surface(self, flat: np.ndarray) -> np.ndarray:
        """Return the surface of a padded mask, flat; the margin keeps rows apart."""
        inner = flat.copy()
        for step in self.strides:
            inner[step:] &= flat[:-step]
            inner[:-step] &= flat[step:]
        return flat & ~inner

    def indices(self, positions: np.ndarray) -> np.ndarray:
        """Return voxel indices (N, axes) of positions in memory."""
        return np.stack(np.unravel_index(positions, self.size), 1)


class _Near(NamedTuple):
    """Offsets to the nearest neighbours of a voxel, in order of distance.

    Attributes:
        shells: distance, and the offsets (M, axes) of that distance.
        reach: largest offset along each axis, at least 1.
        spacing: voxel size along each axis.
    """

    shells: tuple[tuple[float, np.ndarray], ...]
    reach: tuple[int, ...]
    spacing: np.ndarray


@lru_cache(maxsize=64)
def _near_offsets(spacing: tuple[float, ...]) -> _Near:
    radius = _REACH * min(spacing)
    reach = tuple(int(radius // size) for size in spacing)
    axes = np.meshgrid(*(np.arange(-steps, steps + 1) for steps in reach), indexing="ij")
    offsets = np.stack(axes, -1).reshape(-1, len(spacing))
    distances = _lengths(offsets, np.array(spacing))
    order = np.argsort(distances, kind="stable")[1:]  # without the voxel itself
    order = order[distances[order] <= radius][:_MOST_OFFSETS]
    values = np.unique(distances[order])
    shells = tuple((float(value), offsets[order][distances[order] == value]) for value in values)
    return _Near(shells, tuple(max(1, steps) for steps in reach), np.array(spacing))


def _distances(start: np.ndarray, end: np.ndarray, grid: _Grid, near: _Near) -> np.ndarray:
    """Return the distance from each voxel of one surface, in order, to the nearest of the other; both flat."""
    positions = np.flatnonzero(start)
    distances = np.zeros(len(positions))
    open_ = np.flatnonzero(~end[positions])
    tried, check_at, open_then = 0, _FIRST_CHECK, len(open_)
    for distance, offsets in near.shells:
        if tried >= check_at:
            if len(open_) > _WORTH_WHILE * open_then:
                break  # what is left is far away
            check_at, open_then = 2 * tried, len(open_)
        hit = np.zeros(len(open_), bool)
        for step in offsets @ grid.strides:
            hit |= end[positions[open_] + step]
        distances[open_[hit]] = distance
        open_ = open_[~hit]
        tried += len(offsets)
        if not len(open_):
            return distances
    if len(open_):
        distances[open_] = _by_tree(grid.indices(positions[open_]), grid.indices(np.flatnonzero(end)), near.spacing)
    return distances


def _by_tree(start: np.ndarray, end: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the distance from each of some voxels (N, axes) to the nearest of others (M, axes)."""
    from scipy.spatial import KDTree  # slow to import, and close masks need none

    # Large leaves and no balance: the tree is built for one query, of voxels that are far away.
    tree = KDTree(end * spacing, leafsize=64, compact_nodes=False, balanced_tree=False)
    nearest = tree.query(start * spacing)[1]
    return _lengths(start - end[nearest], spacing)


def _lengths(offsets: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    return np.sqrt(((offsets * spacing) ** 2).sum(1))


def _bounding_box(*masks: np.ndarray) -> tuple[slice, ...]:
    """Return the box around everything that is true in any of some masks."""
    box: list[slice] = []
    for axis in range(masks[0].ndim):
        others = tuple(other for other in range(masks[0].ndim) if other != axis)
        cut = tuple(box)  # what lies outside the ranges that are known already need not be looked at
        marked = np.flatnonzero(np.logical_or.reduce([mask[cut].any(others) for mask in masks]))
        box.append(slice(int(marked[0]), int(marked[-1]) + 1))
    return tuple(box)
