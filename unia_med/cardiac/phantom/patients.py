"""Synthetic patients of the five diagnostic groups of ACDC: body, heart, scan and tissue, drawn from a seed.

Ranges are those that define the groups (Bernard et al., IEEE TMI 37, 2018) and textbook values of the healthy heart
per m2 of body surface; none was fitted to masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unia_med.cardiac.phantom.anatomy import RightVentricle, random_modes
from unia_med.cardiac.phantom.chest import Chest, draw_chest
from unia_med.cardiac.phantom.heart import Heart, Scar, left_ventricle, solve_right_ventricle
from unia_med.cardiac.phantom.tissue import Scanner, Tissue
from unia_med.errors import UserError

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
Range = tuple[float, float]


@dataclass(frozen=True)
class GroupRanges:
    """Ranges of a group: LV and RV volumes in ml/m2 at end diastole, ejection fractions, mean LV wall in mm."""

    lv_volume: Range
    lv_fraction: Range
    wall_mm: Range
    rv_volume: Range
    rv_fraction: Range


RANGES = {
    "NOR": GroupRanges((66, 84), (0.56, 0.67), (7.0, 8.8), (72, 90), (0.50, 0.62)),
    "DCM": GroupRanges((120, 165), (0.15, 0.34), (6.0, 8.2), (70, 105), (0.28, 0.48)),
    "HCM": GroupRanges((60, 78), (0.66, 0.78), (13.0, 16.5), (60, 78), (0.56, 0.68)),
    "MINF": GroupRanges((86, 118), (0.22, 0.38), (7.0, 8.6), (66, 88), (0.45, 0.58)),
    "RV": GroupRanges((58, 76), (0.54, 0.65), (6.4, 8.2), (118, 150), (0.28, 0.42)),
}


@dataclass(frozen=True)
class Scan:
    """How a patient is scanned: `shape` (X, Y) pixels, `spacing_mm` (x, y, z), `depths` of the slices in mm.

    `centres` are the LV centres in pixels per slice (Z, 2); `scale` maps [0, 1] to the scanner's arbitrary units.
    """

    shape: tuple[int, int]
    spacing_mm: tuple[float, float, float]
    depths: tuple[float, ...]
    centres: tuple[tuple[float, float], ...]
    thickness_mm: float
    scanner: Scanner
    scale: float


@dataclass(frozen=True)
class Patient:
    """A synthetic patient; `frames` of one heart beat, the first is end diastole, `es_frame` (from 1) end systole."""

    group: str
    height_cm: float
    weight_kg: float
    frames: int
    es_frame: int
    heart: Heart
    scan: Scan
    chest: Chest
    tissue: Tissue
    noise_seed: int


def _draw_unit_rv(rng: np.random.Generator) -> RightVentricle:
    lobe = (float(rng.choice((-1, 1))) * rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.8)) if rng.random() < 0.4 else None
    return RightVentricle(
        direction=0.0,
        tangential=rng.uniform(1.0, 1.2),
        radial=rng.uniform(0.6, 0.75),
        distance=rng.uniform(-0.3, 0.0),
        shift=rng.normal(0, 0.08),
        tilt=rng.normal(0, 0.12),
        bend=rng.uniform(0.15, 0.45),
        modes=random_modes(rng, {2: 0.05, 3: 0.08, 4: 0.04}),
        gap=rng.uniform(0.0, 0.8),
        lobe=lobe,
    )


def _draw_scar(rng: np.random.Generator) -> Scar:
    return Scar(rng.uniform(-2.4, 2.4), rng.uniform(1.5, 4), rng.uniform(0.4, 0.6), rng.uniform(0.35, 0.85))


def draw_heart(group: str, surface_m2: float, rng: np.random.Generator) -> Heart:
    """Return a heart of a group for a body of `surface_m2`."""
    ranges = RANGES[group]
    volume, fraction = surface_m2 * rng.uniform(*ranges.lv_volume), rng.uniform(*ranges.lv_fraction)
    wall = rng.uniform(*ranges.wall_mm)
    length = 86 * (volume / 135) ** 0.27 * rng.uniform(0.94, 1.06)
    opening = (rng.uniform(-0.9, 0.9), rng.uniform(0.3, 0.7), rng.uniform(0.05, 0.4)) if rng.random() < 0.5 else None
    heart = Heart(
        lv_volume=volume,
        lv_fraction=fraction,
        length=length,
        descent=length * 0.23 * fraction * rng.uniform(0.8, 1.1),
        wall=wall,
        cap=wall * rng.uniform(0.5, 0.8),
        wall_modes=random_modes(rng, {2: 0.08, 3: 0.05}),
        lv_modes=random_modes(rng, {2: 0.08, 3: 0.04, 4: 0.025}),
        septal=rng.uniform(0.15, 0.35) if group == "HCM" else rng.uniform(0, 0.08),
        scar=_draw_scar(rng) if group == "MINF" else None,
        rv_direction=np.pi + rng.normal(0, 0.25),
        rv_twist=rng.normal(0, 0.25),
        rv=_draw_unit_rv(rng),
        rv_span=(rng.uniform(-0.05, 0.03), rng.uniform(0.78, 0.93)),
        opening=opening,
    )
    return solve_right_ventricle(heart, surface_m2 * rng.uniform(*ranges.rv_volume), rng.uniform(*ranges.rv_fraction))


def _draw_depths(heart: Heart, gap: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Slice positions from just inside the base to the last muscle, with at most one empty slice at either end."""
    first = rng.uniform(0.3, 0.7) * gap - (gap if rng.random() < 0.35 else 0)
    last = heart.length + heart.cap * 0.6 + (gap if rng.random() < 0.35 else 0)
    return tuple(float(depth) for depth in np.arange(first, last, gap))


def _draw_matrix(spacing: float, rng: np.random.Generator) -> tuple[int, int]:
    width = rng.uniform(240, 330)
    sides = [int(np.clip(round(side / spacing), 150, 256)) for side in (width, width * rng.uniform(1.08, 1.3))]
    sides[0] = min(sides[0], sides[1] - 4)
    return (sides[0], sides[1]) if rng.random() < 0.8 else (sides[1], sides[0])


def draw_scan(heart: Heart, rng: np.random.Generator) -> Scan:
    """How the heart is scanned: grid, slice positions, slightly shifted by breathing from slice to slice."""
    spacing, gap = float(np.round(rng.uniform(1.3, 1.8), 4)), float(rng.choice((5, 6, 7, 8, 9, 10, 10)))
    shape = _draw_matrix(spacing, rng)
    depths = _draw_depths(heart, gap, rng)
    middle = np.array([shape[0] * 0.48, shape[1] * 0.48]) + rng.normal(0, 6, 2) / spacing
    slope = rng.normal((0.0, -0.08), 0.12)
    offsets = (np.asarray(depths)[:, None] - heart.length / 2) * slope + rng.normal(0, 0.8, (len(depths), 2))
    centres = middle + offsets / spacing
    scanner = Scanner(rng.uniform(0.5, 0.9), rng.uniform(0.08, 0.3), rng.uniform(0.008, 0.03))
    return Scan(
        shape=shape,
        spacing_mm=(spacing, spacing, gap),
        depths=depths,
        centres=tuple((float(row), float(column)) for row, column in centres),
        thickness_mm=min(gap, float(rng.uniform(5, 8))),
        scanner=scanner,
        scale=float(np.exp(rng.uniform(np.log(180), np.log(2500)))),
    )


def draw_tissue(rng: np.random.Generator, spacing_mm: float) -> Tissue:
    """Intensities of a balanced steady-state cine: bright blood, dark muscle, some fat round the heart."""
    muscles = tuple(
        (angle + rng.normal(0, 0.25), rng.uniform(0.5, 0.75), rng.uniform(0.10, 0.22), rng.uniform(0.6, 1))
        for angle in (-0.9, 1.2)
    )
    rim = (rng.uniform(0.45, 0.9), rng.uniform(0.5, 4.5) / spacing_mm) if rng.random() < 0.6 else None
    return Tissue(
        blood=rng.uniform(0.62, 0.85),
        muscle=rng.uniform(0.24, 0.42),
        rv_blood=rng.uniform(0.85, 1.05),
        muscle_texture=rng.uniform(0.04, 0.12),
        muscle_gradient=rng.uniform(0, 0.15),
        trabeculae=rng.uniform(0.1, 0.5),
        papillary=muscles,
        rim_darkening=rng.uniform(0.05, 0.25),
        rim=rim,
        rv_wall=rng.uniform(2, 4) / spacing_mm,
    )


def draw_patient(group: str, seed: int, index: int = 0, frames: int = 0) -> Patient:
    """Return a patient of an ACDC group; depends on nothing but the arguments.

    Args:
        group: One of `GROUPS`.
        seed: Seed of the data set, at least 0.
        index: Number of the patient in the data set, from 0.
        frames: Frames of the heart beat, at least 2; 0 draws a number between 12 and 35.
    """
    if group not in RANGES:
        raise UserError(f"unknown phantom group {group!r}", remedy=f"use one of {', '.join(GROUPS)}")
    if frames != 0 and frames < 2:
        raise UserError(f"a heart beat of {frames} frames has no end systole", remedy="use 0 or at least 2 frames")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    height = rng.uniform(152, 190)
    weight = rng.uniform(21, 30) * (height / 100) ** 2
    drawn = int(rng.integers(12, 36))
    heart = draw_heart(group, float(np.sqrt(height * weight / 3600)), rng)
    scan = draw_scan(heart, rng)
    tissue = draw_tissue(rng, scan.spacing_mm[0])
    reach = sum((left_ventricle(heart, 0.0).radius, heart.wall))
    chest = draw_chest(rng, reach, heart.rv_direction, tissue.blood)
    frames = frames or drawn
    es_frame = max(2, round(1 + 0.37 * frames))
    return Patient(
        group,
        round(height, 1),
        round(weight, 1),
        frames,
        es_frame,
        heart,
        scan,
        chest,
        tissue,
        int(rng.integers(2**31)),
    )


def contraction_at(patient: Patient, frame: int) -> float:
    """Contraction in [0, 1] at a frame counted from 1: 0 at end diastole, 1 at end systole, smooth in between."""
    if frame <= patient.es_frame:
        share = (frame - 1) / (patient.es_frame - 1)
    else:
        share = 1 - (frame - patient.es_frame) / (patient.frames + 1 - patient.es_frame)
    return float(np.sin(np.pi / 2 * share) ** 2)
