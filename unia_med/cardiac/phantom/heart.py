"""The geometry of a beating heart, base to apex: every cross-section at every instant of the beat.

The left ventricle is a truncated, blunted ellipsoid with a volume and an ejection fraction; the rest follows: the base
descends towards the apex in systole, the radius follows from the volume that is left, and the wall thickens so that
the volume of the muscle stays. The right ventricle is scaled until it has volumes of its own.

Depth is measured in mm from the base of the LV at end diastole, positive towards the apex. Angles as in `anatomy`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import ive

from unia_med.cardiac.phantom.anatomy import HeartShape, Modes, RightVentricle, rasterise

# Radius of the cavity at relative depth u is R * (1 - u**BLUNT) ** ROUND, between a cylinder and an ellipsoid.
BLUNT, ROUND = 2.3, 0.55


@dataclass(frozen=True)
class Scar:
    """A thinned, akinetic part of the LV wall: angle from the RV direction, sharpness, depth of the thinning.

    With `whole_ring`, as after an infarct of the apex, the wall about `level` is thin all round, and balloons.
    """

    angle: float
    sharpness: float
    thinning: float
    level: float
    whole_ring: bool = False


@dataclass(frozen=True)
class Heart:
    """A heart at rest and in motion; lengths in mm, volumes in ml, levels relative to the LV cavity (0 base, 1 apex).

    Attributes:
        lv_volume, lv_fraction: End-diastolic volume and ejection fraction of the LV.
        length: Length of the LV cavity at end diastole; `descent` of the base in systole.
        wall: Mean wall thickness at end diastole; `cap` is the muscle beyond the apex of the cavity.
        wall_modes, lv_modes: Unevenness round the ring. `septal` adds muscle on the side of the RV.
        scar: Only in MINF.
        rv_direction, rv_twist: Direction of the RV at the base, and its change up to the apex.
        rv: Unit RV (sizes relative to the epicardial radius); `rv_span` levels where it starts and ends.
        rv_descent: By how many levels the RV's base comes down further than the LV's in systole.
        rv_scale: Radial scale of the RV at end diastole and end systole, solved from its volumes.
        opening: Thinned sector of the most basal slice, as `HeartShape.open_sector` relative to the RV, or None.
    """

    lv_volume: float
    lv_fraction: float
    length: float
    descent: float
    wall: float
    cap: float
    wall_modes: Modes
    lv_modes: Modes
    septal: float
    scar: Scar | None
    rv_direction: float
    rv_twist: float
    rv: RightVentricle
    rv_span: tuple[float, float]
    rv_scale: tuple[float, float] = (1.0, 1.0)
    opening: tuple[float, float, float] | None = None
    rv_descent: float = 0.0


def _profile(level: np.ndarray | float) -> np.ndarray:
    return np.clip(1 - np.clip(level, 0, 1) ** BLUNT, 0, 1) ** ROUND


@lru_cache(maxsize=1)
def _profile_integral() -> float:
    return float(np.mean(_profile((np.arange(2000) + 0.5) / 2000) ** 2))


def _cavity_radius(volume_ml: float, length: float) -> float:
    return float(np.sqrt(volume_ml * 1000 / (np.pi * length * _profile_integral())))


def _muscle_volume(radius: float, wall: float, length: float, cap: float) -> float:
    """Volume in ml between the epicardium and the cavity."""
    outer = (radius + wall) ** 2 * (length + cap) - radius**2 * length
    return float(np.pi * _profile_integral() * outer / 1000)


def systolic_wall(radius: float, wall: float, length: float, cap: float, new_radius: float, new_length: float) -> float:
    """Wall thickness in mm that keeps the muscle's volume when the cavity changes to `new_radius`, `new_length`."""
    volume = _muscle_volume(radius, wall, length, cap) * 1000 / (np.pi * _profile_integral())
    return float(np.sqrt((volume + new_radius**2 * new_length) / (new_length + cap)) - new_radius)


@dataclass(frozen=True)
class LeftVentricle:
    """The LV at one instant: depth of its `base`, cavity `radius` at the base, `length` and `wall`, in mm."""

    base: float
    radius: float
    length: float
    wall: float
    cap: float

    def level(self, depth: float) -> float:
        """Relative depth in the cavity: 0 at the base, 1 at its apex."""
        return (depth - self.base) / self.length

    def radii(self, depth: float) -> tuple[float, float]:
        """Radius of cavity and epicardium at a depth; both 0 beyond the apex."""
        inner = self.radius * float(_profile(self.level(depth)))
        outer = (self.radius + self.wall) * float(_profile((depth - self.base) / (self.length + self.cap)))
        return inner, max(outer, inner)


def left_ventricle(heart: Heart, contraction: float) -> LeftVentricle:
    """Return the LV at `contraction` between 0 (end diastole) and 1 (end systole)."""
    base = heart.descent * contraction
    length = heart.length - base
    rest = _cavity_radius(heart.lv_volume, heart.length)
    radius = _cavity_radius(heart.lv_volume * (1 - heart.lv_fraction * contraction), length)
    wall = systolic_wall(rest, heart.wall, heart.length, heart.cap, radius, length)
    return LeftVentricle(base, radius, length, wall, heart.cap)


def _bump(amplitude: float, angle: float, sharpness: float) -> Modes:
    """Cosine modes of a smooth bump at `angle`, without its mean, so that areas stay."""
    return tuple((n, float(2 * amplitude * ive(n, sharpness)), -n * angle) for n in range(1, 7))


def _uneven(heart: Heart, lv: LeftVentricle, level: float, contraction: float) -> tuple[Modes, Modes]:
    """Modes of the cavity's outline and of the wall at a level."""
    direction = heart.rv_direction + heart.rv_twist * level
    wall_modes = heart.wall_modes + ((1, heart.septal, -direction),)
    lv_modes = heart.lv_modes
    if heart.scar is not None:
        extent = float(np.exp(-(((level - heart.scar.level) / 0.45) ** 2)))
        angle = direction + heart.scar.angle
        # The scar keeps its thickness while the rest of the wall thickens, and is pushed outwards.
        thinning = 1 - (1 - heart.scar.thinning) * heart.wall / lv.wall
        if heart.scar.whole_ring:
            ballooning = (0, (0.05 + 0.25 * contraction) * extent, 0.0)
            return (*lv_modes, ballooning), (*wall_modes, (0, -0.8 * thinning * extent, 0.0))
        wall_modes += _bump(-thinning * extent, angle, heart.scar.sharpness)
        lv_modes += _bump((0.05 + 0.12 * contraction) * extent, angle, heart.scar.sharpness)
    return lv_modes, wall_modes


def _right_ventricle(heart: Heart, lv: LeftVentricle, depth: float, contraction: float) -> RightVentricle | None:
    start, end = heart.rv_span[0] + heart.rv_descent * contraction, heart.rv_span[1]
    level = lv.level(depth)
    along = (level - start) / (end - start)
    if not 0 <= along < 1:
        return None
    size = float(np.sqrt(1 - along**2.4))
    outer = (lv.radius + lv.wall) * float(_profile(0.8 * np.clip(level, 0, 1)))
    scale = heart.rv_scale[0] + (heart.rv_scale[1] - heart.rv_scale[0]) * contraction
    radial = outer * heart.rv.radial * scale * size
    tangential = outer * heart.rv.tangential * size**0.6 * scale**0.5
    epicardium = lv.radii(depth)[1]
    return replace(
        heart.rv,
        direction=heart.rv_direction + heart.rv_twist * level,
        tangential=tangential,
        radial=radial,
        distance=epicardium + heart.rv.distance * radial,
        shift=heart.rv.shift * outer,
        lobe=heart.rv.lobe if along < 0.3 else None,
    )


def heart_slice(heart: Heart, depth: float, contraction: float) -> HeartShape:
    """Return the heart's shape in mm at a depth, centred on the LV; above the base, the thin-walled atrium's."""
    lv = left_ventricle(heart, contraction)
    inner, outer = lv.radii(depth)
    rv = _right_ventricle(heart, lv, depth, contraction)
    if depth < lv.base:
        return HeartShape((0.0, 0.0), 0.9 * inner, 2.5, ((2, 0.12, heart.rv_direction),), (), rv, 2.0)
    level = lv.level(depth)
    lv_modes, wall_modes = _uneven(heart, lv, min(level, 1.0), contraction)
    opening = None
    if heart.opening is not None and depth - lv.base < 12:
        opening = (heart.rv_direction + heart.opening[0], *heart.opening[1:])
    minimal = min(2.6, outer - inner)
    return HeartShape((0.0, 0.0), inner, outer - inner, lv_modes, wall_modes, rv, minimal, opening)


def in_pixels(shape: HeartShape, spacing_mm: float, centre: tuple[float, float]) -> HeartShape:
    """Return the same shape in pixels of `spacing_mm` about `centre`."""
    rv = shape.rv
    if rv is not None:
        names = ("tangential", "radial", "distance", "shift", "gap")
        rv = replace(rv, **{name: getattr(rv, name) / spacing_mm for name in names})
    return replace(
        shape,
        centre=centre,
        lv_radius=shape.lv_radius / spacing_mm,
        wall=shape.wall / spacing_mm,
        minimal_wall=shape.minimal_wall / spacing_mm,
        rv=rv,
    )


def _rv_volume(heart: Heart, contraction: float, pixel: float, step: float) -> float:
    """Volume in ml of the RV on a coarse grid."""
    lv = left_ventricle(heart, contraction)
    depths = np.arange(lv.base + heart.rv_span[0] * lv.length, lv.base + heart.rv_span[1] * lv.length, step) + step / 2
    total, side = 0, round(240 / pixel)
    for depth in depths:
        shape = in_pixels(heart_slice(heart, float(depth), contraction), pixel, (135 / pixel, 120 / pixel))
        total += int((rasterise(shape, (side, side)).rv > 0).sum())
    return total * pixel**2 * step / 1000


def solve_right_ventricle(heart: Heart, volume_ml: float, fraction: float, coarse: bool = False) -> Heart:
    """Scale the RV so that its volumes at end diastole and end systole are those asked for, by bisection.

    Args:
        heart: The heart; its `rv_scale` is ignored.
        volume_ml: At end diastole.
        fraction: Ejection fraction.
        coarse: Eight times faster and within 5 %, for random hearts whose exact volume does not matter.
    """
    scales, (pixel, step, halvings) = [], (5.0, 15.0, 6) if coarse else (3.0, 8.0, 9)
    for contraction, target in ((0.0, volume_ml), (1.0, volume_ml * (1 - fraction))):
        low, high = 0.1, 4.0
        for _ in range(halvings):
            middle = (low + high) / 2
            trial = replace(heart, rv_scale=(middle, middle))
            low, high = (middle, high) if _rv_volume(trial, contraction, pixel, step) < target else (low, middle)
        scales.append((low + high) / 2)
    return replace(heart, rv_scale=(scales[0], scales[1]))
