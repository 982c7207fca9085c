"""Synthetic thorax around the heart: lungs, chest wall, liver, vessels, or arbitrary patches of tissue."""

from __future__ import annotations

import numpy as np

from unia_med.data.structured.fields import smooth_field, soft_step


def _coordinates(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.meshgrid(np.arange(shape[0], dtype=np.float32), np.arange(shape[1], dtype=np.float32), indexing="ij")


def random_patches(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Seven soft regions of arbitrary intensity: a domain-randomised background (H, W) that means nothing."""
    knots = int(rng.integers(3, 7))
    fields = smooth_field(rng, shape, knots, 7) + 0.35 * smooth_field(rng, shape, 12, 7)
    weights = np.exp(rng.uniform(4, 14) * (fields - fields.max(0)))
    kind = rng.choice(3, size=7, p=(0.35, 0.40, 0.25))
    low, high = np.array([0.0, 0.1, 0.4])[kind], np.array([0.12, 0.45, 1.0])[kind]
    values = rng.uniform(low, high).astype(np.float32)
    return np.tensordot(values, weights / weights.sum(0), 1)


def _half_plane(
    rng: np.random.Generator, shape: tuple[int, int], centre: tuple[float, float], direction: float, distance: float
) -> np.ndarray:
    """Signed distance to a wavy half-plane that starts `distance` pixels from `centre` along `direction`."""
    rows, columns = _coordinates(shape)
    along = (rows - centre[0]) * np.cos(direction) + (columns - centre[1]) * np.sin(direction)
    return along - distance + rng.uniform(1, 7) * smooth_field(rng, shape, 5)


def add_chest_wall(
    rng: np.random.Generator, image: np.ndarray, centre: tuple[float, float], direction: float, distance: float
) -> np.ndarray:
    """Add a bright layer of fat, and what lies behind it, beyond `distance` pixels from the heart."""
    depth = _half_plane(rng, image.shape, centre, direction, distance)
    image = image + soft_step(depth, 0.7) * (rng.uniform(0.3, 1.0) - image)
    behind = soft_step(depth - rng.uniform(4, 16), 0.7)
    return image + behind * (rng.uniform(0, 0.4) - image)


def thorax(
    rng: np.random.Generator, shape: tuple[int, int], centre: tuple[float, float], rv_direction: float, reach: float
) -> np.ndarray:
    """Render a thorax (H, W): dark lung on the free-wall side, tissue patches elsewhere, liver towards one side.

    Args:
        rng: Source of randomness.
        shape: Pixels (H, W).
        centre: LV centre in pixels.
        rv_direction: Angle from the LV to the RV; the lung lies roughly opposite.
        reach: Radius of the heart in pixels, the scale of all distances.
    """
    image = random_patches(rng, shape) * rng.uniform(0.5, 1.0)
    lung_direction = rv_direction + np.pi + rng.normal(0, 0.6)
    lung = soft_step(_half_plane(rng, shape, centre, lung_direction, reach * rng.uniform(-0.6, 0.9)), 1.0)
    vessels = soft_step(smooth_field(rng, shape, int(rng.integers(16, 30))) - 1.9, 0.12) * rng.uniform(0, 0.5)
    image = image + lung * (rng.uniform(0, 0.16) + vessels - image)
    if rng.random() < 0.5:
        organ_direction = rv_direction + rng.choice((-1, 1)) * rng.uniform(1.0, 2.4)
        organ = soft_step(_half_plane(rng, shape, centre, organ_direction, reach * rng.uniform(1.0, 1.7)), 1.0)
        texture = rng.uniform(0.15, 0.6) * (1 + 0.15 * smooth_field(rng, shape, 12))
        image = image + organ * (texture - image)
    return np.clip(image, 0, 1)


def add_vessels(
    rng: np.random.Generator, image: np.ndarray, centre: tuple[float, float], reach: float, count: int
) -> np.ndarray:
    """Add bright round decoys (aorta, veins, atrium) outside the heart, so that 'bright and round' is not enough."""
    rows, columns = _coordinates(image.shape)
    for _ in range(count):
        radius = rng.uniform(2.5, 10)
        distance, angle = reach + radius + rng.uniform(1, 42), rng.uniform(0, 2 * np.pi)
        row, column = centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle)
        stretch, tilt = rng.uniform(0.75, 1.3), rng.uniform(0, np.pi)
        u = (rows - row) * np.cos(tilt) + (columns - column) * np.sin(tilt)
        v = (columns - column) * np.cos(tilt) - (rows - row) * np.sin(tilt)
        inside = radius - np.hypot(u * stretch, v / stretch)
        image = image + soft_step(inside + rng.uniform(0, 1.8)) * (rng.uniform(0, 0.3) - image)
        image = image + soft_step(inside) * (rng.uniform(0.4, 1.0) - image)
    return image
