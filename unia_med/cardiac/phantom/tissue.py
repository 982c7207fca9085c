"""What a short-axis slice looks like: surroundings, blood, muscle, and the scanner's blur, bias and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from unia_med.cardiac.phantom.anatomy import HeartFields
from unia_med.data.structured.fields import blend, smooth_field, soft_step


@dataclass(frozen=True)
class Tissue:
    """Intensities on the [0, 1] scale of a normalised volume, and how uneven they are.

    Attributes:
        blood: LV blood pool.
        muscle: Myocardium as a share of the blood's intensity.
        rv_blood: RV blood as a share of the LV's.
        muscle_texture, muscle_gradient: Relative smooth texture, and relative change round the ring.
        trabeculae: Share in [0, 1] of the RV pool that is darkened by muscle strands.
        papillary: Spots as (angle, distance in LV radii, radius in LV radii, darkness).
        rim_darkening: Partial volume at the endocardium: relative darkening next to the wall.
        rim: Bright fat or dark line round the heart as (intensity, width in pixels), or None.
        rv_wall: Width in pixels of the dark free wall of the RV.
        outer_layer: Width in pixels of what looks like muscle and is not labelled, outside the epicardium: pericardium,
            the dark line between fat and muscle, trabeculae of the RV along the septum.
    """

    blood: float
    muscle: float
    rv_blood: float
    muscle_texture: float = 0.1
    muscle_gradient: float = 0.1
    trabeculae: float = 0.1
    papillary: tuple[tuple[float, float, float, float], ...] = ()
    rim_darkening: float = 0.2
    rim: tuple[float, float] | None = None
    rv_wall: float = 1.0
    outer_layer: float = 0.0


@dataclass(frozen=True)
class Scanner:
    """Blur (Gaussian sigma, pixels), multiplicative bias field (log amplitude) and noise (standard deviation)."""

    blur: float = 0.7
    bias: float = 0.15
    noise: float = 0.02


def _left_pool(fields: HeartFields, tissue: Tissue, lv_radius: float, rng: np.random.Generator) -> np.ndarray:
    """LV blood with papillary muscles: they are dark but belong to the pool, as in the ACDC annotation."""
    pool: Any = np.full(fields.lv.shape, tissue.blood, np.float32)
    pool *= 1 + 0.05 * smooth_field(rng, pool.shape, 7)
    pool *= 1 - tissue.rim_darkening * np.exp(-np.maximum(fields.lv, 0) / 1.6)
    muscle = tissue.blood * tissue.muscle
    for angle, distance, radius, darkness in tissue.papillary:
        squared = (
            fields.rho**2
            + (distance * lv_radius) ** 2
            - 2 * fields.rho * distance * lv_radius * np.cos(fields.theta - angle)
        )
        spot = darkness * np.exp(-np.maximum(squared, 0) / (2 * (radius * lv_radius) ** 2))
        pool = blend(pool, spot, muscle)
    return pool


def _right_pool(fields: HeartFields, tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    shape = fields.rv.shape
    pool = tissue.blood * tissue.rv_blood * (1 + 0.07 * smooth_field(rng, shape, 7))
    strands = smooth_field(rng, shape, max(8, min(shape) // 4))
    edge = 0.4 + 0.6 * np.exp(-np.maximum(fields.rv, 0) / 4)
    return blend(pool, tissue.trabeculae * edge * soft_step(strands - 0.6, 0.25), tissue.blood * tissue.muscle)


def paint_heart(
    background: np.ndarray, fields: HeartFields, tissue: Tissue, lv_radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Paints the heart over a background (H, W); returns the noiseless image (H, W) float32."""
    image = background.astype(np.float32)
    heart = np.maximum(fields.epicardium, fields.rv)
    if tissue.rim is not None:
        value, width = tissue.rim
        patchy = soft_step(smooth_field(rng, image.shape, 5), 0.4)
        image = blend(image, patchy * soft_step(heart + tissue.rv_wall + width) * soft_step(-heart), value)
    muscle = tissue.blood * tissue.muscle * (1 + tissue.muscle_texture * smooth_field(rng, image.shape, 9))
    muscle *= 1 + tissue.muscle_gradient * np.cos(fields.theta - rng.uniform(0, 2 * np.pi))
    image = blend(image, soft_step(fields.rv + tissue.rv_wall), muscle)
    image = blend(image, soft_step(fields.rv), _right_pool(fields, tissue, rng))
    image = blend(image, soft_step(fields.epicardium + tissue.outer_layer), muscle)
    return blend(image, soft_step(fields.lv), _left_pool(fields, tissue, lv_radius, rng))


def acquire(image: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Apply blur, bias field and noise; returns (H, W) float32 clipped to [0, 1]."""
    image = gaussian_filter(image, scanner.blur)
    image = image * np.exp(scanner.bias * smooth_field(rng, image.shape, 3))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    # Half of the noise is correlated between neighbours, as after the scanner's interpolation.
    correlated = gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 0.8) * 2.8
    return np.clip(np.abs(image + scanner.noise * (0.7 * noise + 0.7 * correlated)), 0, 1).astype(np.float32)
