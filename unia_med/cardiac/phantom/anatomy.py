"""The shape of one short-axis slice: left ventricle, myocardium and right ventricle as signed distances.

Angles are in radians in array coordinates: 0 points along rows downwards, pi/2 along columns to the right, so a
direction `a` is the unit vector (cos a, sin a) in (row, column). Lengths are in pixels of the slice that is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RV, MYO, LV = 1, 2, 3
Modes = tuple[tuple[int, float, float], ...]  # (angular order, relative amplitude, phase)


@dataclass(frozen=True)
class RightVentricle:
    """A stretched blob, bent round the epicardium.

    Attributes:
        direction: Angle of the line from the LV centre to the RV centre.
        tangential: Half-axis across that line.
        radial: Half-axis along it.
        distance: Distance between the two centres.
        shift: Displacement of the centre across the line.
        tilt: Rotation of the blob about its own centre.
        bend: How strongly the ends fold back round the LV; 0 is an ellipse.
        modes: Cosine deformation of the outline.
        gap: Tissue between the pool and the LV epicardium; negative lets them overlap before the cut.
        lobe: Extra basal outflow lobe as (tangential position in half-axes, radius in radial half-axes), or None.
    """

    direction: float
    tangential: float
    radial: float
    distance: float
    shift: float = 0.0
    tilt: float = 0.0
    bend: float = 0.0
    modes: Modes = ()
    gap: float = 0.0
    lobe: tuple[float, float] | None = None


@dataclass(frozen=True)
class HeartShape:
    """One slice of a heart. `open_sector` (angle, half-width, remaining share) thins the wall of a basal slice."""

    centre: tuple[float, float]
    lv_radius: float
    wall: float
    lv_modes: Modes = ()
    wall_modes: Modes = ()
    rv: RightVentricle | None = None
    minimal_wall: float = 1.8
    open_sector: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class HeartFields:
    """Signed distances in pixels, positive inside, each (H, W); `rho` and `theta` are polar about the LV centre."""

    lv: np.ndarray
    epicardium: np.ndarray
    rv: np.ndarray
    rho: np.ndarray
    theta: np.ndarray

    def labels(self) -> np.ndarray:
        """Return the label map (H, W) uint8: 0 background, 1 RV, 2 MYO, 3 LV."""
        labels = np.zeros(self.lv.shape, np.uint8)
        labels[self.rv > 0] = RV
        labels[self.epicardium > 0] = MYO
        labels[self.lv > 0] = LV
        return labels


def _modulation(theta: np.ndarray, modes: Modes) -> np.ndarray:
    result = np.ones_like(theta)
    for order, amplitude, phase in modes:
        result += amplitude * np.cos(order * theta + phase)
    return result


def _wall_thickness(shape: HeartShape, theta: np.ndarray) -> np.ndarray:
    wall = np.maximum(shape.wall * _modulation(theta, shape.wall_modes), shape.minimal_wall)
    if shape.open_sector is None:
        return wall
    angle, half_width, share = shape.open_sector
    distance = np.abs(np.angle(np.exp(1j * (theta - angle))))
    inside = 1.0 / (1.0 + np.exp((distance - half_width) / 0.12))
    return wall * (1 - inside * (1 - share))


def _rv_field(rv: RightVentricle, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Signed distance of the blob before it is cut by the LV epicardium; coordinates are relative to the LV centre."""
    along = rows * np.cos(rv.direction) + columns * np.sin(rv.direction) - rv.distance
    across = -rows * np.sin(rv.direction) + columns * np.cos(rv.direction) - rv.shift
    u = (across * np.cos(rv.tilt) + along * np.sin(rv.tilt)) / rv.tangential
    v = (along * np.cos(rv.tilt) - across * np.sin(rv.tilt)) / rv.radial
    v_bent = v + rv.bend * u**2
    radius = np.hypot(u, v_bent)
    scale = min(rv.tangential, rv.radial)
    distance = (_modulation(np.arctan2(v_bent, u), rv.modes) - radius) * scale
    if rv.lobe is not None:
        position, size = rv.lobe
        lobe = (size - np.hypot((u - position) * rv.tangential / rv.radial, v_bent)) * rv.radial
        distance = np.maximum(distance, lobe)
    return distance


def rasterise(heart: HeartShape, shape: tuple[int, int]) -> HeartFields:
    """Draw a heart on a grid of `shape` (H, W) pixels, as signed distances."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - heart.centre[0] + np.zeros((1, shape[1]), np.float32)
    columns = np.arange(shape[1], dtype=np.float32)[None] - heart.centre[1] + np.zeros((shape[0], 1), np.float32)
    rho, theta = np.hypot(rows, columns), np.arctan2(columns, rows)
    outline = heart.lv_radius * _modulation(theta, heart.lv_modes)
    epicardium = outline + _wall_thickness(heart, theta) - rho
    rv = np.full(shape, -1e3, np.float32)
    if heart.rv is not None:
        rv = np.minimum(_rv_field(heart.rv, rows, columns), -epicardium - heart.rv.gap)
    return HeartFields(outline - rho, epicardium, rv, rho, theta)


def random_modes(rng: np.random.Generator, amplitudes: dict[int, float]) -> Modes:
    """Return cosine modes with amplitudes up to the given ones and random phases."""
    return tuple((order, rng.uniform(0, top), rng.uniform(0, 2 * np.pi)) for order, top in amplitudes.items())
