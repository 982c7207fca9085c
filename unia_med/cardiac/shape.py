"""Gives a random walker's labels the shape of a short-axis heart: a convex left ventricle in a round wall.

A walker follows intensity edges. Papillary muscles are dark and count as blood pool by ACDC's rules, and the wall often
lies next to lung or liver of its own grey, where the walker runs on half-way to the next label. So the left ventricle
becomes its convex hull, and the outline of the wall a smooth curve r(angle) about its middle, a Fourier series fitted
robustly to two kinds of evidence: where the walker's wall ends, by how sharply it does, and, across every drawn stroke
of the wall, as far outside the stroke as the blood pool ends inside it, strokes being drawn along the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from unia_med.cardiac.boxes import fill_heart_boxes
from unia_med.data.weak_labels.boxes import Box
from unia_med.data.weak_labels.shape import LabelShape
from unia_med.labels import BACKGROUND, IGNORE

_ANGLES = np.arange(72) * (2 * np.pi / 72)
_STEP = 0.5  # pixels along a ray
_ORDER = 3
# Chosen on eight training patients of ACDC and checked on eight others; halving or doubling one costs less than .01.
_ROUNDNESS = (3.0, 6.0, 30.0)  # cost of a shift, of an oval and of a triangle; larger is rounder
_STROKE_WEIGHT = 0.5  # of a ray across a stroke against one with a perfectly sharp end of the wall
_END = 0.7  # the wall ends where its probability falls below this
_OUTLIER_PX = 1.0  # Huber's constant
_ROUNDS = 8  # of reweighting


class ShortAxisShape(LabelShape):
    """The shape `heart`: classes called LV, MYO and RV, in any case, are parts of a heart in a short-axis slice."""

    def from_walk(self, probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return what `shape_heart` makes of a walker's result."""
        return shape_heart(probabilities, labels, names)

    def from_boxes(self, image: np.ndarray, boxes: Sequence[Box], names: Sequence[str]) -> np.ndarray:
        """Return what `fill_heart_boxes` makes of boxes."""
        return fill_heart_boxes(image, boxes, names)


def shape_heart(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return labels uint8 (H, W) of one slice; what was given as a label stays as it was.

    Slices in which LV or MYO is not drawn are the walker's, and so are all where no class is called LV.

    Args:
        probabilities: (K, H, W) of the walker.
        labels: uint8 (H, W), what the walker started from; IGNORE elsewhere.
        names: The K - 1 class names.
    """
    shaped = probabilities.argmax(0).astype(np.uint8)
    upper = [name.upper() for name in names]
    if "LV" not in upper:
        return shaped
    pool = upper.index("LV") + 1
    free = labels == IGNORE
    if not (labels == pool).any():
        return shaped
    shaped[round_pool(shaped == pool) & (free | (labels == pool))] = pool
    if "MYO" not in upper or not (labels == upper.index("MYO") + 1).any():
        return shaped
    wall = upper.index("MYO") + 1
    inside = epicardium(probabilities[wall] + probabilities[pool], shaped == pool, labels == wall)
    # Another class that wins inside, the right ventricle, keeps its pixels: contrast at the septum is good.
    shaped[inside & free & (shaped == BACKGROUND)] = wall
    spilled = ~inside & free & (shaped == wall)
    others = probabilities.copy()
    others[[wall, pool]] = -1
    shaped[spilled] = others.argmax(0)[spilled]
    return shaped


def round_pool(pool: np.ndarray) -> np.ndarray:
    """Return the convex hull of a blood pool (H, W), a pixel wider: edges of trabeculae lie inside the wall's."""
    from skimage.morphology import convex_hull_image  # slow to import, and only walkers need it

    hull = convex_hull_image(pool) | pool if np.count_nonzero(pool) > 2 else pool
    return ndimage.binary_dilation(hull)


def epicardium(heart: np.ndarray, pool: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Return bool (H, W): inside the outline of the wall.

    Args:
        heart: Probability (H, W) of wall or pool.
        pool: bool (H, W), the blood pool; not empty.
        strokes: bool (H, W), where the wall was drawn.
    """
    centre = np.argwhere(pool).mean(0)
    reach = np.arange(0, np.hypot(*heart.shape) / 2, _STEP)
    rays = [c + np.outer(d, reach) for c, d in zip(centre, (np.sin(_ANGLES), np.cos(_ANGLES)), strict=True)]
    inner = (_along(pool, rays) > 0.5).sum(1) * _STEP
    ends = (_along(heart, rays) < _END) & (reach >= inner[:, None])
    outer = np.where(ends.any(1), reach[ends.argmax(1)], reach[-1])
    drop = _at(heart, centre, outer - 1.5) - _at(heart, centre, outer + 1.5)
    across = _along(strokes, rays) > 0.5
    crossed = across.any(1)
    middle = reach[across.argmax(1)]
    radius = _smooth_radius(
        np.concatenate([_ANGLES, _ANGLES[crossed]]),
        np.concatenate([outer, (2 * middle - inner)[crossed]]),
        np.concatenate([np.clip(drop, 0.05, 1) ** 2, np.full(np.count_nonzero(crossed), _STROKE_WEIGHT)]),
    )
    rows, columns = (np.arange(n) - c for n, c in zip(heart.shape, centre, strict=True))
    angle = np.arctan2(rows[:, None], columns[None]) % (2 * np.pi)
    limit = np.interp(angle, _ANGLES, radius, period=2 * np.pi)
    return np.hypot(rows[:, None], columns[None]) <= limit


def _smooth_radius(angles: np.ndarray, radii: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the radius at `_ANGLES`: a low Fourier series by penalised least squares, reweighted after Huber."""
    penalty = np.diag([0.0, *_ROUNDNESS, *_ROUNDNESS])
    waves = _waves(angles)
    trust = np.ones(len(radii))
    for _ in range(_ROUNDS):
        weighted = waves * (weights * trust)[:, None]
        series = np.linalg.solve(weighted.T @ waves + penalty, weighted.T @ radii)
        trust = np.minimum(1, _OUTLIER_PX / np.maximum(np.abs(radii - waves @ series), 1e-6))
    return _waves(_ANGLES) @ series


def _waves(angles: np.ndarray) -> np.ndarray:
    phases = np.outer(angles, np.arange(1, _ORDER + 1))
    return np.concatenate([np.ones((len(angles), 1)), np.cos(phases), np.sin(phases)], 1)


def _along(field: np.ndarray, rays: Sequence[np.ndarray]) -> np.ndarray:
    return ndimage.map_coordinates(field.astype(np.float32), rays, order=1)


def _at(field: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return _along(field, [centre[0] + np.sin(_ANGLES) * radius, centre[1] + np.cos(_ANGLES) * radius])
