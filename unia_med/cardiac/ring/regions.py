"""Cavity and wall of the left ventricle in one slice, given its ring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from unia_med.cardiac.ring.settings import RingSettings

ANGLES = 72
"""Rays cast from the LV centre."""


@dataclass
class Cavity:
    """The LV cavity of one slice.

    Attributes:
        mask: (H, W) bool, convex.
        contrast: (H, W) image rescaled so that muscle is 0 and blood is 1.
        distance: (H, W) distance in pixels to the cavity, 0 inside.
        angle: (H, W) angle in radians about the cavity's centre (0 = rows downwards, pi/2 = columns to the right).
        thickness: (ANGLES,) wall width in pixels per ray; NaN where the image shows no outer end.
    """

    mask: np.ndarray
    contrast: np.ndarray
    distance: np.ndarray
    angle: np.ndarray
    thickness: np.ndarray


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """Return the convex hull of a mask (H, W); the mask itself if it has no area."""
    points = np.argwhere(mask)
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):  # fewer than three points, or all on one line
        return mask.copy()
    inside = np.ones(mask.shape, bool)
    grid = np.indices(mask.shape)
    for normal_row, normal_column, offset in hull.equations:
        inside &= normal_row * grid[0] + normal_column * grid[1] + offset <= 1e-6
    return inside


def component_at(mask: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """Return the connected component of a mask (H, W) nearest to a place (row, column); empty if the mask is."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask.copy()
    points = np.argwhere(mask)
    nearest = points[((points - np.asarray(place)) ** 2).sum(axis=1).argmin()]
    return labels == labels[tuple(nearest)]


def contrast_of(image: np.ndarray, distance: np.ndarray, radius: float, settings: RingSettings) -> np.ndarray:
    """Rescales a slice (H, W) so that the ring's muscle is 0 and its blood is 1."""
    blood = np.percentile(image[distance <= max(0.75 * radius, 1.0)], 60)
    outer = radius + settings.pixels(settings.annulus_mm)
    annulus = image[(distance > radius + 0.5) & (distance <= outer)]
    muscle = np.percentile(annulus, 40) if annulus.size else blood  # a ring larger than the image shows no muscle
    return (image - muscle) / max(blood - muscle, 0.02)


def left_ventricle(image: np.ndarray, ring: np.ndarray, settings: RingSettings) -> Cavity:
    """Segments the cavity of one slice (H, W) and measures its wall along rays, for a ring (row, column, radius)."""
    row, column, radius = ring
    rows, columns = np.arange(image.shape[0])[:, None] - row, np.arange(image.shape[1])[None] - column
    from_ring = np.hypot(rows, columns)
    contrast = contrast_of(image, from_ring, radius, settings)
    bright = (contrast > settings.cavity_level) & (from_ring <= 1.3 * radius + settings.pixels(5.0))
    opened = ndimage.binary_opening(bright, iterations=1 if radius < 6 else 2)
    core = opened if opened[from_ring <= radius].any() else bright | (from_ring <= 1.0)
    mask = convex_hull(component_at(core, (row, column)))
    middle = np.argwhere(mask).mean(axis=0)
    angle = np.arctan2(np.arange(image.shape[1])[None] - middle[1], np.arange(image.shape[0])[:, None] - middle[0])
    distance = ndimage.distance_transform_edt(~mask)
    smooth = ndimage.gaussian_filter(contrast, 0.5)
    return Cavity(mask, contrast, distance, angle, wall_profile(smooth, distance, middle, settings))


def _cast(image: np.ndarray, distance: np.ndarray, middle: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample image and cavity distance along rays of `length` half-pixel steps: two arrays (ANGLES, length)."""
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    steps = np.arange(length) * 0.5
    places = middle[0] + np.cos(angles)[:, None] * steps, middle[1] + np.sin(angles)[:, None] * steps
    return tuple(ndimage.map_coordinates(array, places, order=1, mode="nearest") for array in (image, distance))


def wall_profile(contrast: np.ndarray, distance: np.ndarray, middle: np.ndarray, settings: RingSettings) -> np.ndarray:
    """Wall width in pixels per ray (ANGLES,): where blood or fat begins again after the muscle; NaN if it does not."""
    length = int(np.ceil(2 * (np.sqrt((distance == 0).sum() / np.pi) * 2 + settings.pixels(settings.wall_range_mm[1]))))
    values, depths = _cast(contrast, distance, middle, length)
    low, high = (settings.pixels(bound) for bound in settings.wall_range_mm)
    dark_before = np.maximum.accumulate((values < 0.35) & (depths > 0.5), axis=1)
    outside = (values > settings.wall_level) | (values < settings.wall_dark_level)
    ends = dark_before & outside & (depths >= 0.5 * low) & (depths <= high)
    first = ends.argmax(axis=1)
    width = depths[np.arange(ANGLES), first] - settings.pixels(settings.wall_trim_mm)
    return np.where(ends.any(axis=1), width, np.nan)


def typical_wall(cavities: list[Cavity], visible: np.ndarray, settings: RingSettings) -> np.ndarray:
    """Typical wall width (Z,) in pixels: the volume's, moved towards that of slices with enough measured rays."""

    def middle(rays: np.ndarray, otherwise: float) -> float:
        rays = rays[~np.isnan(rays)]
        return float(np.percentile(rays, settings.wall_percentile)) if len(rays) >= ANGLES // 6 else otherwise

    seen = [cavity.thickness for cavity, shown in zip(cavities, visible, strict=True) if shown] or [
        np.full(ANGLES, np.nan)
    ]
    whole = middle(np.concatenate(seen), settings.pixels(settings.wall_mm))
    own = np.array([middle(cavity.thickness, whole) for cavity in cavities])
    return whole + settings.wall_slice_share * (own - whole)


def smooth_wall(thickness: np.ndarray, typical: float, settings: RingSettings) -> np.ndarray:
    """Wall width (ANGLES,) without gaps: measured where within reason, else `typical` (pixels); smoothed circularly."""
    low = max(0.6 * typical, settings.pixels(settings.wall_range_mm[0]) * 0.7)
    filled = np.where(np.isnan(thickness) | (thickness > 1.5 * typical), typical, np.maximum(thickness, low))
    return ndimage.gaussian_filter1d(ndimage.median_filter(filled, 7, mode="wrap"), 2.0, mode="wrap")


def shell(cavity: Cavity, wall: np.ndarray) -> np.ndarray:
    """Return the myocardium (H, W) bool: pixels within `wall` (ANGLES,) pixels of the cavity."""
    return ~cavity.mask & (cavity.distance <= at_angle(wall, cavity.angle))


def at_angle(values: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Read values per ray (ANGLES,) at the angles (H, W) of pixels, linearly between rays."""
    position = (angle % (2 * np.pi)) * len(values) / (2 * np.pi)
    below = np.floor(position).astype(int) % len(values)
    share = position - np.floor(position)
    return values[below] * (1 - share) + values[(below + 1) % len(values)] * share
