"""Whole hearts behind the synthetic slices of a bank: five groups, two phases, and where the slices cut them.

Sizes come from guidelines, not from masks:

- Volumes and ejection fractions of NOR, DCM, HCM, MINF, RV: the definitions of the groups (Bernard et al., IEEE TMI 37,
  2018) about the reference ranges of Kawel-Boehm et al., J Cardiovasc Magn Reson 22:87, 2020, widened by `JITTER`:
  diseases begin at moderate sizes. The RV's volume is drawn on its own, so that it does not follow a large LV.
- Wall at end diastole: 6-10 mm normal (Lang et al., J Am Soc Echocardiogr 28:1, 2015), 15 mm and more at the thickest
  place where hypertrophied (Elliott et al., Eur Heart J 35:2733, 2014). Trabeculae count as cavity (Schulz-Menger et
  al., J Cardiovasc Magn Reson 22:19, 2020), so the compact layer that is labelled is thinner than wall and trabeculae.
- Systole thickens the wall so that the muscle keeps its volume (`heart.systolic_wall`), which gives 40 to 60 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unia_med.cardiac.phantom.anatomy import HeartShape, RightVentricle, random_modes
from unia_med.cardiac.phantom.chest import Chest, draw_chest
from unia_med.cardiac.phantom.heart import Heart, Scar, heart_slice, left_ventricle, solve_right_ventricle
from unia_med.cardiac.phantom.patients import RANGES

COMPACT_WALL_MM = {"NOR": (5.3, 9.5), "DCM": (4.8, 8.2), "HCM": (9.5, 16.0), "MINF": (5.0, 9.0), "RV": (5.0, 9.0)}
"""Mean thickness of the compact LV wall at end diastole."""
PACKED_TRABECULAE = 0.1
"""Share by which trabeculae that are packed together in systole may add to the labelled wall."""
DILATED_RV, FAILING_RV = (100.0, 210.0), (0.15, 0.45)
"""RV volume (ml/m2) and ejection fraction of group RV. It starts at 100 to 110 (Bernard et al.); a leaking pulmonary
valve is replaced at about 160 (Baumgartner et al., Eur Heart J 42:563, 2021), so that larger ones are common."""
EXTRA_DESCENT_MM = 14.0
"""How much further the tricuspid plane comes down than the mitral one, at most: 17 to 30 mm (Rudski et al., J Am Soc
Echocardiogr 23:685, 2010) against 11 to 16 mm. Basal slices in systole show the right atrium beside the LV."""
RV_GROUP_SHARE = 0.3
"""Hearts of group RV; the other groups share the rest. Their shapes vary most."""
APEX_FORMING = (0.9, 1.25)
"""Level at which a dilated RV ends, in lengths of the LV: it may form the apex of the heart in place of the LV."""
APICAL_SHARE = 0.35
"""Infarcts that take the whole ring at the apex, as after an occlusion of the anterior descending artery."""
OBLITERATED_SHARE = 0.4
"""Systolic slices of hypertrophied hearts below the base whose walls touch or nearly touch."""
JITTER = 0.15
"""Relative half-width by which volumes and fractions leave the ranges that define a group."""
ABOVE_BASE_MM, BEYOND_APEX_MM = 10.0, 6.0
"""How far a stack reaches beyond the ventricle: slices at the valves and below the apex are part of every study."""


@dataclass(frozen=True)
class Subject:
    """One heart with its surroundings; `trabeculae` is the thickness in mm of the LV's trabeculated layer."""

    group: str
    heart: Heart
    chest: Chest
    trabeculae: float


@dataclass(frozen=True)
class Cut:
    """One slice through a subject: `shape` in mm about the LV, `level` from 0 at the cavity's base to 1 at its apex."""

    shape: HeartShape
    level: float
    contraction: float

    @property
    def above_base(self) -> bool:
        """Whether atria and outflow tracts are seen in place of the left ventricle."""
        return self.level < 0


def _draw_right_ventricle(rng: np.random.Generator, dilated: bool) -> RightVentricle:
    lobe = (float(rng.choice((-1, 1))) * rng.uniform(0.4, 0.9), rng.uniform(0.5, 0.9)) if rng.random() < 0.4 else None
    if dilated:  # round, not bent round the LV
        sizes = {"tangential": rng.uniform(1.0, 1.6), "radial": rng.uniform(0.6, 1.0), "bend": rng.uniform(0.0, 0.25)}
    else:
        sizes = {"tangential": rng.uniform(0.85, 1.3), "radial": rng.uniform(0.5, 0.9), "bend": rng.uniform(0.05, 0.5)}
    return RightVentricle(
        direction=0.0,
        distance=rng.uniform(-0.15, 0.3) if dilated else rng.uniform(-0.45, 0.2),
        shift=rng.normal(0, 0.13),
        tilt=rng.normal(0, 0.18),
        modes=random_modes(rng, {2: 0.1, 3: 0.08, 4: 0.05} if dilated else {2: 0.1, 3: 0.13, 4: 0.07, 5: 0.05}),
        gap=rng.uniform(-0.8, 0.8),
        lobe=lobe,
        **sizes,
    )


def _draw_scar(rng: np.random.Generator) -> Scar:
    thinning = rng.uniform(0.4, 0.7)
    if rng.random() < APICAL_SHARE:
        return Scar(0.0, 0.0, thinning, rng.uniform(0.75, 1.0), whole_ring=True)
    return Scar(rng.uniform(-2.4, 2.4), rng.uniform(1.5, 4), thinning, rng.uniform(0.3, 0.9))


def _draw_heart(rng: np.random.Generator, group: str, rv_direction: float) -> Heart:
    ranges, surface = RANGES[group], rng.uniform(1.4, 2.4)

    def around(low: float, high: float) -> float:
        return float(rng.uniform(low * (1 - JITTER), high * (1 + JITTER)))

    volume, wall = surface * around(*ranges.lv_volume), float(rng.uniform(*COMPACT_WALL_MM[group]))
    fraction = min(around(*ranges.lv_fraction), 0.85)
    length = 86 * (volume / 135) ** 0.27 * rng.uniform(0.9, 1.1)
    opening = (rng.uniform(-1.2, 1.2), rng.uniform(0.25, 1.1), rng.uniform(0.05, 0.5)) if rng.random() < 0.7 else None
    rv_fraction = float(rng.uniform(*FAILING_RV)) if group == "RV" else min(around(*ranges.rv_fraction), 0.8)
    scar, dilated = _draw_scar(rng), group == "RV"
    lv_modes = random_modes(rng, {2: 0.12, 3: 0.06, 4: 0.035})
    if dilated:  # its pressure flattens the septum: the LV becomes a D
        lv_modes += ((2, rng.uniform(0, 0.2), np.pi - 2 * rv_direction),)
    heart = Heart(
        lv_volume=volume,
        lv_fraction=fraction,
        length=length,
        descent=length * 0.23 * fraction * rng.uniform(0.7, 1.2),
        wall=wall,
        cap=wall * rng.uniform(0.4, 0.9),
        wall_modes=random_modes(rng, {1: 0.12, 2: 0.12, 3: 0.07}),
        lv_modes=lv_modes,
        septal=rng.uniform(0.1, 0.4) if group == "HCM" else rng.uniform(0, 0.08),
        scar=scar if group == "MINF" else None,
        rv_direction=rv_direction + rng.normal(0, 0.45),
        rv_twist=rng.normal(0, 0.3),
        rv=_draw_right_ventricle(rng, dilated),
        rv_span=(rng.uniform(-0.12, 0.06), rng.uniform(*(APEX_FORMING if dilated else (0.75, 1.0)))),
        opening=opening,
        rv_descent=rng.uniform(0, EXTRA_DESCENT_MM) / length * min(rv_fraction / 0.5, 1.0),
    )
    rv_volume = float(rng.uniform(*DILATED_RV)) if dilated else around(*ranges.rv_volume)
    return solve_right_ventricle(heart, surface * rv_volume, rv_fraction, coarse=True)


def draw_subject(rng: np.random.Generator, rv_direction: float) -> Subject:
    """Return a heart of a random group whose RV lies about `rv_direction` (radians, see `anatomy`)."""
    others = (1 - RV_GROUP_SHARE) / (len(RANGES) - 1)
    group = str(rng.choice(list(RANGES), p=[RV_GROUP_SHARE if one == "RV" else others for one in RANGES]))
    heart = _draw_heart(rng, group, rv_direction)
    reach = left_ventricle(heart, 0.0).radius + heart.wall
    chest = draw_chest(rng, reach, heart.rv_direction, rng.uniform(0.5, 1))
    # Below the compact layer's thickness: from 2.3 times of it on it is a disease (Petersen et al., JACC 46:101, 2005).
    trabeculae = rng.uniform(1.0, 6.0) if rng.random() < 0.85 else 0.0
    return Subject(group, heart, chest, trabeculae)


def draw_cut(rng: np.random.Generator, subject: Subject) -> Cut:
    """Return a random slice at end diastole or end systole, or, one time in five, between the two."""
    contraction = float(rng.choice((0.0, 1.0))) if rng.random() < 0.8 else float(rng.random())
    lv = left_ventricle(subject.heart, contraction)
    depth = lv.base + rng.uniform(-ABOVE_BASE_MM, lv.length + lv.cap + BEYOND_APEX_MM)
    shape = heart_slice(subject.heart, float(depth), contraction)
    obliterated = subject.group == "HCM" and contraction > 0.8 and lv.level(float(depth)) > 0.3
    if obliterated and rng.random() < OBLITERATED_SHARE:
        left = shape.lv_radius * rng.uniform(0.1, 0.7)
        shape = replace(shape, lv_radius=left, wall=shape.wall + shape.lv_radius - left)
    lv_modes = shape.lv_modes + random_modes(rng, {2: 0.03, 3: 0.03, 5: 0.02})
    packed = 1 + contraction * rng.uniform(0, PACKED_TRABECULAE)
    return Cut(replace(shape, lv_modes=lv_modes, wall=shape.wall * packed), lv.level(float(depth)), contraction)
