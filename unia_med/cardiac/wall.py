"""Thickness of the myocardium in short-axis slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

_SMOOTHING_PX = 0.8
"""Width of the Gaussian that takes the steps of pixels from a border. A straight border stays where it is; one of
radius R moves inwards by about _SMOOTHING_PX ** 2 / (2 R), a hundredth of a pixel."""

_MARGIN_PX = 4

_FEW_PAIRS = 10**6
"""Below so many pairs of points all distances are computed; scipy's trees take longer to import."""

_NO_WALL_PX = 0.5
"""Below this distance the cavity touches the outside, as at the outflow tract: there is no wall to measure."""


class WallThickness(NamedTuple):
    """Thickness in mm along the endocardial border of all slices that show cavity and myocardium.

    Attributes:
        mean_mm: mean.
        max_mm: largest; slices that cut the wall obliquely, as near the apex, show it thicker than it is.
    """

    mean_mm: float
    max_mm: float


def wall_thickness(cavity: np.ndarray, myocardium: np.ndarray, spacing_mm: Sequence[float]) -> WallThickness | None:
    """Distance in plane from each point of the endocardial border to the nearest one of the epicardial border.

    In an annulus this is the difference of its radii. Papillary muscles, and other holes in the cavity, count as
    cavity. Where the cavity touches the outside, nothing is counted.

    Args:
        cavity: bool (X, Y, Z), left ventricular blood pool.
        myocardium: bool (X, Y, Z).
        spacing_mm: pixel size along X and Y.

    Returns:
        None where no slice shows both.
    """
    slices = [z for z in range(cavity.shape[2]) if cavity[..., z].any() and myocardium[..., z].any()]
    found = [thickness_points(cavity[..., z], myocardium[..., z], spacing_mm)[1] for z in slices]
    every = np.concatenate([np.zeros(0), *found])
    return WallThickness(float(every.mean()), float(every.max())) if len(every) else None


def thickness_points(
    cavity: np.ndarray, myocardium: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return points (N, 2) in mm of a slice's endocardial border and the thickness (N,) in mm of the wall there.

    Args:
        cavity: bool (X, Y); pixel (0, 0) has its centre at (0, 0) mm.
        myocardium: bool (X, Y).
        spacing_mm: pixel size along X and Y.
    """
    heart = cavity | myocardium
    (box,) = ndimage.find_objects(heart.astype(np.uint8))
    inner, outer = (border_points(ndimage.binary_fill_holes(mask[box]), spacing_mm) for mask in (cavity, heart))
    if not (len(inner) and len(outer)):  # a cavity of a pixel or two has no border
        return np.zeros((0, 2)), np.zeros(0)
    distance = _nearest(inner, outer)
    measured = distance > _NO_WALL_PX * min(spacing_mm)
    corner = np.array([side.start for side in box]) * spacing_mm
    return (inner + corner)[measured], distance[measured]


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distance (N,) from each point (N, 2) to the nearest of others (M, 2)."""
    if len(points) * len(others) > _FEW_PAIRS:
        from scipy.spatial import cKDTree

        return np.asarray(cKDTree(others).query(points)[0])
    along, across = (np.subtract.outer(points[:, axis], others[:, axis]) for axis in (0, 1))
    return np.asarray(np.sqrt((along**2 + across**2).min(1)))


def border_points(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Points (N, 2) in mm on the border of a mask, to a fraction of a pixel, about one per pixel of its length.

    The smoothed mask is one half on the border; the points lie where it crosses that value on the lines between pixel
    centres. Pixels' own edges will not do: their steps are nearer to anything than the border they stand for.

    Args:
        mask: bool (X, Y); beyond its edge is outside. Pixel (0, 0) has its centre at (0, 0) mm.
        spacing_mm: pixel size along X and Y.
    """
    level = ndimage.gaussian_filter(np.pad(mask, _MARGIN_PX).astype(np.float64), _SMOOTHING_PX) - 0.5
    points = []
    for axis in (0, 1):
        before, after = np.moveaxis(level, axis, 0)[:-1], np.moveaxis(level, axis, 0)[1:]
        along, across = np.nonzero((before > 0) != (after > 0))
        place = along + before[along, across] / (before - after)[along, across]
        points.append(np.stack((place, across) if axis == 0 else (across, place), axis=1))
    found: np.ndarray = (np.concatenate(points) - _MARGIN_PX) * spacing_mm
    return found
