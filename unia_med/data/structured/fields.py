"""Smooth random fields, the raw material of synthetic tissue.

A field is a coarse grid of random numbers, enlarged by cubic interpolation. The interpolation is linear in the
grid, so it is two small matrix products with a cached matrix: a 128 x 128 field costs tens of microseconds.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline


@lru_cache(maxsize=256)
def interpolation_matrix(pixels: int, knots: int) -> np.ndarray:
    """Matrix (pixels, knots) that samples a cubic spline through `knots` equally spaced values at `pixels` points."""
    positions = np.linspace(0, knots - 1, pixels)
    return CubicSpline(np.arange(knots), np.eye(knots), bc_type="natural")(positions).astype(np.float32)


def enlarge(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarges coarse grids (..., g, g) to (..., H, W) by cubic splines."""
    rows = interpolation_matrix(shape[0], grid.shape[-2])
    columns = interpolation_matrix(shape[1], grid.shape[-1])
    return rows @ grid @ columns.T


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], knots: int, count: int | None = None) -> np.ndarray:
    """Draw normal noise that varies over `knots` cells per side: (H, W), or (count, H, W) when `count` is given."""
    size = (knots, knots) if count is None else (count, knots, knots)
    return enlarge(rng.standard_normal(size, dtype=np.float32), shape)


def soft_step(signed_distance: np.ndarray | float, softness: float = 0.45) -> np.ndarray:
    """Coverage in [0, 1] of an edge from its signed distance in pixels (positive inside): partial volume of a slice."""
    return 1.0 / (1.0 + np.exp(-np.clip(signed_distance / softness, -30, 30)))


def blend(image: np.ndarray, coverage: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    """Return an image (H, W) that something of the given value covers, by its share in [0, 1] of each pixel."""
    return image + coverage * (value - image)


def add_noise(rng: np.random.Generator, image: np.ndarray, bias: float, noise: float) -> np.ndarray:
    """Return slices (Z, H, W) under a smooth gain, the same in all of them, and with noise as in a magnitude image.

    Args:
        rng: Source of randomness.
        image: (Z, H, W) in [0, 1].
        bias: Standard deviation of the gain's logarithm.
        noise: Standard deviation of the noise in the real and in the imaginary part.
    """
    gain = np.exp(bias * smooth_field(rng, (image.shape[1], image.shape[2]), 3))
    real, imaginary = noise * rng.standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image * gain + real, imaginary)
