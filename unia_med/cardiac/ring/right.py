"""The right ventricle: where the data set says it lies, and which bright pixels of one slice belong to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from unia_med.cardiac.ring.regions import ANGLES, Cavity, at_angle
from unia_med.cardiac.ring.settings import RingSettings

DEPTHS = 24
"""Steps of an RV profile outwards from the epicardium."""
LEVELS = (0.62, 0.85)
"""Slice levels by epicardial radius relative to the volume's largest: apical, middle, basal."""


@dataclass
class Atlas:
    """Probability that the RV covers a place, seen from the LV.

    Attributes:
        direction: Mean angle of the RV over the data set, in radians.
        probability: (levels, ANGLES, DEPTHS) in [0, 1]; ray 0 points in the volume's own RV direction.
    """

    direction: float
    probability: np.ndarray


def profiles(cavity: Cavity, wall: np.ndarray, settings: RingSettings) -> np.ndarray:
    """Contrast along rays from the epicardium outwards: (ANGLES, DEPTHS), NaN outside the image.

    Muscle is 0 and LV blood 1; the depths span `rv_reach_mm`.
    """
    middle = np.argwhere(cavity.mask).mean(axis=0)
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    inner = np.sqrt(cavity.mask.sum() / np.pi)
    extent = np.array([_cavity_reach(cavity, middle, angle, inner) for angle in angles])
    steps = (np.arange(DEPTHS) + 0.5) * settings.pixels(settings.rv_reach_mm) / DEPTHS
    radii = (extent + wall)[:, None] + steps
    places = middle[0] + np.cos(angles)[:, None] * radii, middle[1] + np.sin(angles)[:, None] * radii
    smooth = ndimage.gaussian_filter(cavity.contrast, 0.5)
    return ndimage.map_coordinates(smooth, places, order=1, mode="constant", cval=np.nan)


def _cavity_reach(cavity: Cavity, middle: np.ndarray, angle: float, inner: float) -> float:
    """Distance in pixels from the cavity's middle to its border along one ray."""
    steps = np.arange(0, 3 * inner + 2, 0.5)
    rows = np.clip(np.round(middle[0] + np.cos(angle) * steps).astype(int), 0, cavity.mask.shape[0] - 1)
    columns = np.clip(np.round(middle[1] + np.sin(angle) * steps).astype(int), 0, cavity.mask.shape[1] - 1)
    return float(steps[cavity.mask[rows, columns]].max(initial=0.0))


def bloodlike(contrast: np.ndarray, settings: RingSettings, blood: float = 1.0) -> np.ndarray:
    """Soft membership in [0, 1] of a contrast: above `rv_level` * `blood`, and not far brighter than the LV (fat)."""
    with np.errstate(over="ignore"):
        above = 1 / (1 + np.exp((settings.rv_level * blood - contrast) / 0.08))
        fat = 1 / (1 + np.exp((contrast - settings.rv_fat_level * max(blood, 1.0)) / 0.08))
    return np.nan_to_num(above * fat)


def runs(profile: np.ndarray, settings: RingSettings) -> np.ndarray:
    """Find the first blood-like stretch of each ray (ANGLES, DEPTHS) bool that begins near the epicardium and ends."""
    step_mm = settings.rv_reach_mm / DEPTHS
    bright = bloodlike(profile, settings) > 0.5
    begun = np.maximum.accumulate(bright, axis=1)
    ended = np.maximum.accumulate(begun & ~bright, axis=1)
    run = begun & ~ended
    near = begun[:, int(settings.rv_gap_mm / step_mm)] & ended[:, -1]
    return run & near[:, None]


def vote(run_lengths: np.ndarray) -> tuple[float, float]:
    """Mean direction in radians of rays (..., ANGLES) weighted by their run length, and its agreement in [0, 1]."""
    weights = np.clip(run_lengths - 2.0, 0, None).reshape(-1, ANGLES).sum(axis=0)
    vector = (weights * np.exp(1j * np.arange(ANGLES) * 2 * np.pi / ANGLES)).sum()
    return float(np.angle(vector)), float(abs(vector) / max(weights.sum(), 1e-6))


def volume_direction(rays: np.ndarray, direction: float, weight: float) -> float:
    """RV direction of one volume: votes of its rays (Z, ANGLES, DEPTHS) within 90 degrees of the data set's.

    `weight` is the share of the data set's direction.
    """
    offset = np.angle(np.exp(1j * (np.arange(ANGLES) * 2 * np.pi / ANGLES - direction)))
    lengths = np.clip(rays.sum(axis=2) - 2.0, 0, None).sum(axis=0) * (np.abs(offset) < np.pi / 2)
    mean = (lengths * offset).sum() / max(lengths.sum(), 1e-6)
    return direction + (1 - weight) * float(mean)


def turn(rays: np.ndarray, direction: float) -> np.ndarray:
    """Roll axis 1 of (Z, ANGLES, DEPTHS) so that ray 0 points in `direction`."""
    return np.roll(rays, -int(round(direction * ANGLES / (2 * np.pi))), axis=1)


def geometric_prior() -> np.ndarray:
    """Return the prior atlas (levels, ANGLES, DEPTHS): a lobe of 75 degrees either side that fades outwards."""
    offset = np.abs(np.angle(np.exp(1j * np.arange(ANGLES) * 2 * np.pi / ANGLES)))
    lobe = 1 / (1 + np.exp((offset - 1.3) / 0.15))
    depth = (np.arange(DEPTHS) + 0.5) / DEPTHS
    reach = np.array([0.3, 0.5, 0.65])[:, None]
    fade = 1 / (1 + np.exp((depth[None] - reach) / 0.06))
    return 0.9 * lobe[None, :, None] * fade[:, None]


def levels_of(radii: np.ndarray) -> np.ndarray:
    """Level 0 apical, 1 middle, 2 basal of slices by epicardial radius (Z,), whatever the order of the stack."""
    return np.digitize(radii / max(radii.max(), 1e-6), LEVELS)


def place_probability(
    cavity: Cavity, wall: np.ndarray, probability: np.ndarray, direction: float, settings: RingSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Atlas probability and distance to the epicardium in pixels, both (H, W), of one slice of a given level."""
    depth = cavity.distance - at_angle(wall, cavity.angle)
    ray = ((cavity.angle - direction) % (2 * np.pi)) * ANGLES / (2 * np.pi)
    step = settings.pixels(settings.rv_reach_mm) / DEPTHS
    padded = np.concatenate([probability, probability[:1]])  # closes the circle
    inside = ndimage.map_coordinates(padded, (ray, depth / step - 0.5), order=1, mode="nearest")
    return np.where((depth > 0) & (depth < step * DEPTHS), inside, 0.0), depth


def right_ventricle(
    cavity: Cavity, wall: np.ndarray, probability: np.ndarray, direction: float, settings: RingSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Segments the RV of one slice.

    Args:
        cavity: The slice's LV.
        wall: (ANGLES,) wall width in pixels.
        probability: (ANGLES, DEPTHS) atlas of the slice's level.
        direction: RV direction of the volume in radians.
        settings: Levels and limits.

    Returns:
        Mask (H, W) bool, possibly empty, and score (H, W) in [0, 1] of each pixel.
    """
    prior, depth = place_probability(cavity, wall, probability, direction, settings)
    contrast = ndimage.gaussian_filter(cavity.contrast, 0.4)
    likely = contrast[(prior > 0.5 * prior.max()) & (depth < settings.pixels(15.0))]
    blood = np.clip(np.percentile(likely, 70), 0.6, 1.6) if likely.size else 1.0  # the coil dims or brightens the RV
    evidence = np.clip(bloodlike(contrast, settings, blood), 0.02, 0.98)
    odds = evidence / (1 - evidence) * np.clip(prior, 0, 0.98) / (1 - np.clip(prior, 0, 0.98))
    score = odds / (1 + odds)
    mask = (score > 0.5) & (evidence > 0.5) & (prior > settings.rv_atlas_floor)
    mask = ndimage.binary_opening(mask, np.ones((2, 2)))
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask, score
    index = np.arange(1, count + 1)
    sums = ndimage.sum_labels(score * prior, labels, index)
    gaps = ndimage.minimum(depth, labels, index)
    sums = np.where(gaps <= settings.pixels(settings.rv_gap_mm), sums, 0)
    mask = labels == 1 + sums.argmax()
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=2)) & (depth > 0)
    if sums.max() == 0 or mask.sum() * settings.spacing_mm**2 < settings.rv_minimal_mm2:
        mask = np.zeros_like(mask)
    return mask, score
