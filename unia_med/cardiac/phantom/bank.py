"""Domain-randomised slices of whole hearts (`subjects`), whose labels are known by construction.

The anatomy comes from whole hearts in two phases; contrast, surroundings and scanner are drawn for every slice on its
own, far more varied than any real scanner, so that a network trained on them relies on what stays: a bright pool in a
darker ring, a second pool next to it. With `any_direction` the heart may be turned and mirrored in every way.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from unia_med.cardiac.phantom.anatomy import MYO, RV, HeartFields, rasterise
from unia_med.cardiac.phantom.chest import paint_chest
from unia_med.cardiac.phantom.heart import in_pixels
from unia_med.cardiac.phantom.render import MIN_POOL_MM2
from unia_med.cardiac.phantom.subjects import Cut, Subject, draw_cut, draw_subject
from unia_med.cardiac.phantom.surroundings import add_chest_wall, add_vessels, random_patches, thorax
from unia_med.cardiac.phantom.tissue import Scanner, Tissue, acquire, paint_heart
from unia_med.data.structured.fields import blend, smooth_field, soft_step
from unia_med.progress import tracked

RV_TOWARDS_FIRST_ROW = math.pi
"""Direction of the RV in a stored ACDC slice: towards the first row of the array, as seen on the images."""
SLICES_PER_SUBJECT = 16
MIN_RING_MM2 = 150.0
"""Smaller cross-sections of the left ventricle, beyond the last of its cavity, are not labelled."""
BASAL_LEVEL = 0.25
"""Down to this level, atria and great vessels may lie next to the ventricles."""
EMPTY_SHARE = 0.03
"""Slices without a heart, beyond those above the base and below the apex."""
HYPERTROPHIED_RV_MM = (1.0, 7.0)
"""Free wall at end diastole of a right ventricle under pressure or volume load; above 5 mm it is hypertrophied (Rudski
et al., J Am Soc Echocardiogr 23:685, 2010)."""
OUTER_LAYER_MM = 0.6
"""Widest layer outside the epicardium that looks like muscle, at end diastole; twice as wide at end systole. The normal
pericardium is up to 2 mm thick (Bogaert and Francone, Radiology 267:340, 2013)."""
BRIGHT_SHARE = 0.3
"""Slices in which the LV's blood, which is full of oxygen, outshines the RV's and all around it."""


Point = tuple[float, float]


class PixelCut(NamedTuple):
    """What painting needs of a cut: the cavity's mean radius in pixels, and the contraction in [0, 1]."""

    lv_radius: float
    contraction: float


def _polar(shape: tuple[int, int], centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - centre[0]
    columns = np.arange(shape[1], dtype=np.float32)[None] - centre[1]
    return np.broadcast_to(rows, shape), np.broadcast_to(columns, shape)


def _background(
    rng: np.random.Generator, subject: Subject, cut: Cut, shape: tuple[int, int], spacing_mm: float, centre: Point
) -> np.ndarray:
    direction, reach = subject.heart.rv_direction, (cut.shape.lv_radius + cut.shape.wall) / spacing_mm
    kind = rng.random()
    if kind < 0.5:
        image = paint_chest(subject.chest, cut.level, shape, spacing_mm, centre) * rng.uniform(0.6, 1.2)
    elif kind < 0.75:
        image = thorax(rng, shape, centre, direction, reach)
    else:
        image = random_patches(rng, shape)
    if kind >= 0.5:
        for _ in range(int(rng.integers(0, 3))):
            image = add_chest_wall(rng, image, centre, rng.uniform(0, 2 * np.pi), reach + rng.uniform(8, 60))
    if rng.random() < 0.35:
        image = _add_organ(rng, image, centre, reach)
    vessels = 1 if kind < 0.5 else 4
    return add_vessels(rng, image, centre, reach, int(rng.binomial(vessels, 0.45)))


def _add_organ(rng: np.random.Generator, image: np.ndarray, centre: Point, reach: float) -> np.ndarray:
    """Add a mottled organ at some distance from the heart: stomach, spleen or bowel, as bright as blood or darker.

    Half of them have a wall.
    """
    rows, columns = _polar(image.shape, centre)
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(8, 30)
    distance = reach * rng.uniform(1.1, 2.2) + radius
    outline = radius * (1 + 0.25 * smooth_field(rng, image.shape, 6))
    inside = outline - np.hypot(rows - distance * np.cos(angle), columns - distance * np.sin(angle))
    mottled = 1 + rng.uniform(0, 0.7) * smooth_field(rng, image.shape, int(rng.integers(8, 40)))
    if rng.random() < 0.5:  # the wall of stomach or bowel: a ring that is no heart
        image = blend(image, soft_step(inside + rng.uniform(1, 5), 0.6), rng.uniform(0.05, 0.4))
    return blend(image, soft_step(inside, 0.6), np.clip(rng.uniform(0.15, 0.9) * mottled, 0, 1))


def _add_fat(rng: np.random.Generator, image: np.ndarray, heart: np.ndarray, pixels_per_mm: float) -> np.ndarray:
    """Add sharp bright fat in the grooves and on the surface of the heart, in patches up to 16 mm thick."""
    near = soft_step(heart + rng.uniform(3, 16) * pixels_per_mm)
    patches = soft_step(smooth_field(rng, image.shape, int(rng.integers(4, 12))) - rng.uniform(-0.3, 0.9), 0.08)
    return blend(image, near * patches, rng.uniform(0.45, 1.0))


def _papillary_reach(rng: np.random.Generator, theta: np.ndarray, lv_radius: float) -> np.ndarray:
    """Return how far (H, W) papillary muscles that have grown together with the wall stand out into the cavity."""
    reach = np.zeros_like(theta)
    for _ in range(int(rng.integers(0, 4))):
        sharpness, angle = rng.uniform(6, 40), rng.uniform(0, 2 * np.pi)
        bump = np.exp(sharpness * (np.cos(theta - angle) - 1))
        reach = np.maximum(reach, rng.uniform(0.1, 0.55) * lv_radius * bump)
    return reach


def _add_trabeculae(
    rng: np.random.Generator, image: np.ndarray, fields: HeartFields, tissue: Tissue, width: float, cut: PixelCut
) -> np.ndarray:
    """Add muscle inside the LV's pool, which annotators count as cavity: the trabeculated layer, papillary muscles.

    Args:
        rng: Source of randomness.
        image: (H, W).
        fields: Of the heart, whose `lv` is the labelled cavity.
        tissue: Its intensities.
        width: Mean thickness of the layer in pixels.
        cut: The slice. In systole the layer is dense and looks like wall.
    """
    strands = smooth_field(rng, image.shape, int(rng.integers(18, 50)))
    coarse = smooth_field(rng, image.shape, 6)
    layer = width * np.clip(0.55 + 0.55 * strands + 0.35 * coarse, 0, 2.2)
    inner = layer + _papillary_reach(rng, fields.theta, cut.lv_radius) - fields.lv
    strength = rng.uniform(0.4, 0.85) + 0.15 * cut.contraction
    coverage = strength * soft_step(inner, 0.5) * soft_step(fields.lv)
    return blend(image, coverage, tissue.blood * tissue.muscle)


def _add_rv_strands(rng: np.random.Generator, image: np.ndarray, fields: HeartFields, tissue: Tissue) -> np.ndarray:
    """Add the long muscle bundles of the RV, denser towards its free wall, which count as its pool."""
    field = smooth_field(rng, image.shape, int(rng.integers(8, 28)))
    bundles = soft_step(rng.uniform(0.1, 0.5) - np.abs(field), 0.08)
    near_wall = np.exp(-np.maximum(fields.rv, 0) / rng.uniform(3, 15))
    coverage = rng.uniform(0.2, 1.0) * bundles * near_wall * soft_step(fields.rv)
    return blend(image, coverage, tissue.blood * tissue.muscle)


def _add_chamber(
    image: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    chamber: tuple[float, float, float, float, float],
    wall: tuple[float, float],
    blood: float,
) -> np.ndarray:
    """Add a bright ellipse (direction, distance, radius, stretch, tilt) with a dark wall (width, intensity)."""
    direction, distance, radius, stretch, tilt = chamber
    row, column = rows - distance * np.cos(direction), columns - distance * np.sin(direction)
    u = row * np.cos(tilt) + column * np.sin(tilt)
    v = column * np.cos(tilt) - row * np.sin(tilt)
    inside = radius - np.hypot(u * stretch, v / stretch)
    image = blend(image, soft_step(inside + wall[0]), wall[1])
    return blend(image, soft_step(inside), blood)


def _paint_valves(
    rng: np.random.Generator, image: np.ndarray, subject: Subject, cut: Cut, tissue: Tissue, scale: float, centre: Point
) -> np.ndarray:
    """Paint the heart above the LV's base: both atria, aortic root, and RV outflow tract or pulmonary artery.

    Radii: aortic root 12-19 mm, left atrium 17-27 mm (Lang et al., J Am Soc Echocardiogr 28:1, 2015: diameters of 34 mm
    at the sinuses, 30 to 40 mm and more of the atrium).
    """
    rows, columns = _polar(image.shape, centre)
    direction = subject.heart.rv_direction
    side = float(rng.choice((-1, 1)))
    chambers = (
        (direction + np.pi + rng.normal(0, 0.5), rng.uniform(0, 14), rng.uniform(17, 27)),
        (direction + side * rng.uniform(0.9, 1.7), rng.uniform(26, 44), rng.uniform(14, 25)),
        (direction - side * rng.uniform(0.0, 0.9), rng.uniform(28, 42), rng.uniform(11, 19)),
        (direction + rng.normal(0, 0.4), rng.uniform(8, 22), rng.uniform(12, 19)),
    )
    for angle, distance, radius in chambers:
        if rng.random() < 0.12:
            continue
        ellipse = (angle, distance * scale, radius * scale, rng.uniform(0.8, 1.25), rng.uniform(0, np.pi))
        wall = (rng.uniform(0.5, 2.5) * scale, tissue.blood * tissue.muscle * rng.uniform(0.6, 1.4))
        image = _add_chamber(image, rows, columns, ellipse, wall, tissue.blood * rng.uniform(0.75, 1.1))
    return image


def _add_basal_neighbours(
    rng: np.random.Generator, image: np.ndarray, subject: Subject, cut: Cut, tissue: Tissue, scale: float, centre: Point
) -> np.ndarray:
    """Paint what lies next to the ventricles near their base: the right atrium, and the aorta or an outflow tract.

    Where the plane of the tricuspid valve has passed the slice, they lie in the right ventricle's place.
    """
    rows, columns = _polar(image.shape, centre)
    outer, side = cut.shape.lv_radius + cut.shape.wall, float(rng.choice((-1, 1)))
    direction, blood = subject.heart.rv_direction, tissue.blood * tissue.rv_blood
    chambers = (
        (0.7, direction + side * rng.uniform(0.9, 1.6), outer * rng.uniform(1.15, 1.8), rng.uniform(14, 26)),
        (0.4, direction - side * rng.uniform(0.6, 1.5), outer * rng.uniform(1.25, 1.9), rng.uniform(9, 17)),
    )
    if cut.shape.rv is None:
        atrium, tract = rng.uniform(14, 26), rng.uniform(8, 16)
        chambers = (
            (0.95, direction + side * rng.uniform(0.1, 1.1), outer + atrium * rng.uniform(0.4, 1.0), atrium),
            (0.85, direction - side * rng.uniform(0.1, 1.1), outer + tract * rng.uniform(0.4, 1.1), tract),
        )
    for chance, angle, distance, radius in chambers:
        if rng.random() > chance:
            continue
        ellipse = (angle, distance * scale, radius * scale, rng.uniform(0.75, 1.3), rng.uniform(0, np.pi))
        wall = (rng.uniform(0.3, 3.0) * scale, tissue.blood * tissue.muscle * rng.uniform(0.6, 1.4))
        image = _add_chamber(image, rows, columns, ellipse, wall, blood * rng.uniform(0.85, 1.1))
    return image


def _labels(fields: HeartFields, cut: Cut, spacing_mm: float) -> np.ndarray:
    labels, area = fields.labels(), spacing_mm**2
    if cut.above_base:
        labels[labels != RV] = 0
    if (labels == RV).sum() * area < MIN_POOL_MM2:
        labels[labels == RV] = 0
    if (labels >= MYO).sum() * area < MIN_RING_MM2:
        labels[labels >= MYO] = 0
    return labels


def _any_tissue(rng: np.random.Generator, pixels_per_mm: float) -> Tissue:
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
        rim_darkening=rng.uniform(0, 0.5),
        rim=rim,
        rv_wall=rng.uniform(0, 5) * pixels_per_mm,
    )


def _draw_tissue(rng: np.random.Generator, subject: Subject, scale: float, contraction: float, bright: bool) -> Tissue:
    tissue = _any_tissue(rng, scale)
    rv_wall = HYPERTROPHIED_RV_MM if subject.group == "RV" else (0.5, 4.0)
    slow = rng.random() < 0.2  # slow blood in the RV's apex or in systole, hardly brighter than muscle
    if bright:
        tissue = replace(tissue, blood=rng.uniform(0.85, 1.1), rv_blood=rng.uniform(0.35, 0.75))
    return replace(
        tissue,
        rv_wall=rng.uniform(*rv_wall) * scale * (1 + 0.8 * contraction),
        rim=tissue.rim if rng.random() < 0.6 else None,
        outer_layer=rng.uniform(0, OUTER_LAYER_MM) * scale * (1 + contraction),
        rv_blood=rng.uniform(0.5, 0.8) if slow and not bright else tissue.rv_blood,
    )


def _paint(
    rng: np.random.Generator,
    image: np.ndarray,
    subject: Subject,
    cut: Cut,
    spacing_mm: float,
    centre: Point,
    bright: bool,
) -> tuple[np.ndarray, np.ndarray]:
    scale = 1 / spacing_mm
    tissue = _draw_tissue(rng, subject, scale, cut.contraction, bright)
    if cut.above_base and rng.random() < 0.8:  # the outflow tract: nothing of the ventricles is left
        return _paint_valves(rng, image, subject, cut, tissue, scale, centre), np.zeros(image.shape, np.uint8)
    fields = rasterise(in_pixels(cut.shape, spacing_mm, centre), image.shape)
    valve_passed = cut.shape.rv is None and cut.level < 0.5
    if valve_passed or (cut.level < BASAL_LEVEL and rng.random() < 0.8):
        image = _add_basal_neighbours(rng, image, subject, cut, tissue, scale, centre)
    if rng.random() < 0.6:
        image = _add_fat(rng, image, np.maximum(fields.epicardium, fields.rv), scale)
    radius = max(cut.shape.lv_radius * scale, 1.0)
    image = paint_heart(image, fields, tissue, radius, rng)
    if rng.random() < 0.7:
        image = _add_rv_strands(rng, image, fields, tissue)
    if not cut.above_base:
        width = subject.trabeculae * scale * rng.uniform(0.6, 1.2) * (1 + 0.2 * cut.contraction)
        image = _add_trabeculae(rng, image, fields, tissue, width, PixelCut(radius, cut.contraction))
    else:  # the atrium behind the valve has no thick wall
        rows, columns = _polar(image.shape, centre)
        ellipse = (0.0, 0.0, radius * rng.uniform(0.8, 1.1), rng.uniform(0.85, 1.2), rng.uniform(0, np.pi))
        image = _add_chamber(image, rows, columns, ellipse, (1.5 * scale, 0.2), tissue.blood)
    return image, _labels(fields, cut, spacing_mm)


def draw_slice(
    rng: np.random.Generator, subject: Subject, shape: tuple[int, int], spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return image (H, W) float32 in [0, 1] and labels (H, W) uint8 of a random slice of a subject."""
    cut = draw_cut(rng, subject)
    centre = (rng.normal(0.48, 0.08) * shape[0], rng.normal(0.49, 0.08) * shape[1])
    image = _background(rng, subject, cut, shape, spacing_mm, centre)
    bright = rng.random() < BRIGHT_SHARE
    if bright:
        image *= rng.uniform(0.4, 0.9)
    labels = np.zeros(shape, np.uint8)
    if rng.random() >= EMPTY_SHARE:
        image, labels = _paint(rng, image, subject, cut, spacing_mm, centre, bright)
    # Pixels of 0.7 to 2.5 mm, brought to the grid: coarse ones are blurred.
    blur = 0.42 * rng.uniform(0.7, 2.5) / spacing_mm * rng.uniform(0.8, 1.6)
    if rng.random() < 0.2:  # a thick slice that cuts the wall obliquely
        image = 0.5 * image + 0.5 * gaussian_filter(image, rng.uniform(1, 3))
    scanner = Scanner(max(blur, 0.3), rng.uniform(0, 0.35), rng.uniform(0, 0.05))
    return acquire(image, scanner, rng), labels


def turned(array: np.ndarray, turn: int) -> np.ndarray:
    """Return a square array turned by `turn % 4` right angles, mirrored first where `turn >= 4`."""
    return np.rot90(array[:, ::-1] if turn >= 4 else array, turn % 4)


def draw_bank(
    count: int,
    shape: tuple[int, int],
    spacing_mm: float,
    seed: int,
    rv_direction: float = RV_TOWARDS_FIRST_ROW,
    any_direction: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a bank of slices; those of one subject follow each other and depend on (seed, subject) alone.

    Args:
        count: Number of slices N.
        shape: Pixels (H, W); square where `any_direction`.
        spacing_mm: Pixel size.
        seed: Source of all randomness.
        rv_direction: Mean direction of the RV, radians as in `anatomy`.
        any_direction: Turn by random right angles and mirror half of the slices.

    Returns:
        Images (N, H, W) scaled by 255 and labels (N, H, W), both uint8.
    """
    images, labels = np.empty((count, *shape), np.uint8), np.empty((count, *shape), np.uint8)
    subjects = np.random.SeedSequence(seed).spawn(-(-count // SLICES_PER_SUBJECT))
    for index in tracked(range(count), "drawing synthetic slices", count):
        if index % SLICES_PER_SUBJECT == 0:
            rng = np.random.default_rng(subjects[index // SLICES_PER_SUBJECT])
            subject = draw_subject(rng, rv_direction)
        image, label = draw_slice(rng, subject, shape, spacing_mm)
        turn = int(rng.integers(8)) if any_direction else 0
        images[index], labels[index] = turned(np.round(image * 255), turn), turned(label, turn)
    return images, labels
