"""Domain-randomised synthetic slices whose labels are known by construction: the `phantom` prior's training set.

Every slice is drawn on its own, far more varied than any real scanner, so that a network trained on them has to rely
on what stays: a bright pool in a darker ring, a second pool on one fixed side. No setting was fitted to masks: ranges
are textbook sizes of healthy and diseased hearts in mm, and intensities cover the whole normalised scale.
"""

from __future__ import annotations

import math

import numpy as np

from unia_med.cardiac.phantom.anatomy import HeartShape, Modes, RightVentricle, rasterise
from unia_med.cardiac.phantom.surroundings import add_chest_wall, add_vessels, random_patches, thorax
from unia_med.cardiac.phantom.tissue import Scanner, Tissue, acquire, paint_heart

RV_TOWARDS_FIRST_ROW = math.pi
"""Direction of the RV in a stored ACDC slice: towards the first row of the array, as seen on the images."""


def random_modes(rng: np.random.Generator, amplitudes: dict[int, float]) -> Modes:
    """Cosine modes with amplitudes up to the given ones and random phases."""
    return tuple((order, rng.uniform(0, top), rng.uniform(0, 2 * np.pi)) for order, top in amplitudes.items())


def draw_right_ventricle(
    rng: np.random.Generator, level: float, outer: float, direction: float, pixels_per_mm: float
) -> RightVentricle:
    """Return a right ventricle for a heart of outer radius `outer` (pixels) at `level` (0 base, 1 apex)."""
    wide = rng.random() < 0.3
    tangential = outer * rng.uniform(0.7, 1.7 if wide else 1.4) * (1 - 0.25 * level)
    radial = outer * rng.uniform(0.3, 1.7 if wide else 1.15) * (1 - 0.4 * level)
    lobe = None
    if level < 0.4 and rng.random() < 0.35:
        lobe = (rng.choice((-1, 1)) * rng.uniform(0.4, 0.9), rng.uniform(0.5, 0.95))
    return RightVentricle(
        direction=direction,
        tangential=tangential,
        radial=radial,
        distance=outer + radial * rng.uniform(-0.55, 0.35),
        shift=rng.normal(0, 0.15 * outer),
        tilt=rng.normal(0, 0.2),
        bend=rng.uniform(0, 0.45),
        modes=random_modes(rng, {2: 0.12, 3: 0.15, 4: 0.08, 5: 0.05}),
        gap=rng.uniform(-0.5, 0.6) * pixels_per_mm * 2.2,
        lobe=lobe,
    )


def draw_heart(
    rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float, rv_direction: float = RV_TOWARDS_FIRST_ROW
) -> tuple[HeartShape, float]:
    """Return a random slice of a random heart, and its level in [0, 1] from base to apex."""
    scale = 1.0 / spacing_mm
    level = rng.uniform(0, 1)
    phase = rng.uniform(0.5, 1)
    radius = np.clip(rng.uniform(20, 43) * (1 - 0.75 * level**2) * phase, 5, 41) * scale
    wall = rng.uniform(5.5, 13.5) * (1 + 0.5 * (1 - phase)) * scale
    if rng.random() < 0.15:
        wall *= rng.uniform(1.2, 1.9)
    if rng.random() < 0.06:  # obliterated cavity of a hypertrophic heart in systole
        radius, wall = rng.uniform(1.5, 8) * scale, rng.uniform(10, 23) * scale
    outer = radius + wall
    middle = (shape[0] * 0.47, shape[1] * 0.49)
    centre = (rng.normal(middle[0], 0.075 * shape[0]), rng.normal(middle[1], 0.075 * shape[1]))
    rv = None
    if level < 0.88 and rng.random() > 0.05:
        rv = draw_right_ventricle(rng, level, outer, rv_direction + rng.normal(0, 0.6), scale)
    open_sector = None
    if level < 0.2 and rng.random() < 0.4:
        open_sector = (rv_direction + rng.uniform(-1.6, 1.6), rng.uniform(0.25, 0.8), rng.uniform(0.15, 0.5))
    heart = HeartShape(
        centre=centre,
        lv_radius=float(radius),
        wall=float(wall),
        lv_modes=random_modes(rng, {2: 0.14, 3: 0.06, 4: 0.04}),
        wall_modes=random_modes(rng, {1: 0.25, 2: 0.18, 3: 0.10}),
        rv=rv,
        minimal_wall=4 * scale,
        open_sector=open_sector,
    )
    return heart, level


def draw_tissue(rng: np.random.Generator, pixels_per_mm: float) -> Tissue:
    """Random intensities and textures of one heart."""
    rim = None
    if rng.random() < 0.5:
        fat = rng.random() < 0.55
        value = rng.uniform(0.35, 1) if fat else rng.uniform(0, 0.25)
        rim = (value, rng.uniform(1, 11) * pixels_per_mm)
    spots = tuple(
        (rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.95), rng.uniform(0.08, 0.3), rng.uniform(0.3, 1))
        for _ in range(int(rng.integers(0, 5)))
    )
    return Tissue(
        blood=rng.uniform(0.4, 1),
        muscle=rng.uniform(0.12, 0.62),
        rv_blood=rng.uniform(0.72, 1.12),
        muscle_texture=rng.uniform(0, 0.18),
        muscle_gradient=rng.uniform(0, 0.25),
        trabeculae=rng.uniform(0, 0.8),
        papillary=spots,
        rim_darkening=rng.uniform(0, 0.35),
        rim=rim,
        rv_wall=rng.uniform(0, 5) * pixels_per_mm,
    )


def _background(rng: np.random.Generator, shape: tuple[int, int], heart: HeartShape, rv_direction: float) -> np.ndarray:
    reach = heart.lv_radius + heart.wall
    if rng.random() < 0.6:
        image = thorax(rng, shape, heart.centre, rv_direction, reach)
    else:
        image = random_patches(rng, shape)
    for _ in range(int(rng.integers(0, 3))):
        image = add_chest_wall(rng, image, heart.centre, rng.uniform(0, 2 * np.pi), reach + rng.uniform(8, 60))
    return add_vessels(rng, image, heart.centre, reach, int(rng.binomial(4, 0.55)))


def draw_slice(
    rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float, rv_direction: float = RV_TOWARDS_FIRST_ROW
) -> tuple[np.ndarray, np.ndarray]:
    """One synthetic slice.

    Args:
        rng: Source of randomness.
        shape: Pixels (H, W).
        spacing_mm: Pixel size.
        rv_direction: Mean direction of the RV, see `anatomy` for the angle's convention.

    Returns:
        Image (H, W) float32 in [0, 1] and labels (H, W) uint8 (0 background, 1 RV, 2 MYO, 3 LV).
    """
    heart, _ = draw_heart(rng, shape, spacing_mm, rv_direction)
    image = _background(rng, shape, heart, rv_direction)
    labels = np.zeros(shape, np.uint8)
    if rng.random() > 0.06:
        fields = rasterise(heart, shape)
        image = paint_heart(image, fields, draw_tissue(rng, 1 / spacing_mm), heart.lv_radius, rng)
        labels = fields.labels()
        if (labels == 1).sum() * spacing_mm**2 < 60:  # a sliver nobody would annotate
            labels[labels == 1] = 0
    scanner = Scanner(rng.uniform(0.35, 1.2), rng.uniform(0, 0.35), rng.uniform(0, 0.05))
    return acquire(image, scanner, rng), labels


def draw_bank(
    count: int,
    shape: tuple[int, int],
    spacing_mm: float,
    seed: int,
    rv_direction: float = RV_TOWARDS_FIRST_ROW,
) -> tuple[np.ndarray, np.ndarray]:
    """`count` slices: images (N, H, W) scaled by 255 and labels (N, H, W), both uint8; slice i depends on (seed, i)."""
    images = np.empty((count, *shape), np.uint8)
    labels = np.empty((count, *shape), np.uint8)
    for index, stream in enumerate(np.random.SeedSequence(seed).spawn(count)):
        image, labels[index] = draw_slice(np.random.default_rng(stream), shape, spacing_mm, rv_direction)
        images[index] = np.round(image * 255)
    return images, labels
