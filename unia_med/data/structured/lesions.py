"""Lesions of varied size and number in one organ, among vessels and organs that are as bright."""

from __future__ import annotations

import numpy as np

from unia_med.data.structured.body import SHAPE, SLICES, Body, draw_blob
from unia_med.data.structured.fields import blend, smooth_field, soft_step

CLASSES = ("lesion",)
HEALTHY = 0.25
"""Share of volumes without a lesion."""
COUNT = (1, 3)
RADIUS = (8.0, 14.0)
"""In pixels, at a lesion's middle; small ones are as likely as large ones, on a logarithmic scale."""
SLICE_PIXELS = 4.0
"""Distance of slices in pixels: a lesion is a ball, seen in as many slices as it is thick."""
CONTRAST = (0.2, 0.35)
MIN_PIXELS = 60
"""A cross-section with fewer pixels is neither drawn nor labelled: a tag says what can be seen on a coarser grid."""
_TRIES = 40


def draw_lesions(rng: np.random.Generator, body: Body) -> tuple[np.ndarray, np.ndarray]:
    """Return the body's image (Z, H, W) with lesions in its largest organ, and their mask (1).

    Args:
        rng: Source of randomness.
        body: Surroundings.
    """
    image, mask = body.image.copy(), np.zeros(body.image.shape, np.uint8)
    if rng.random() < HEALTHY:
        return image, mask
    for _ in range(int(rng.integers(COUNT[0], COUNT[1] + 1))):
        _add_lesion(rng, body, image, mask)
    return image, mask


def _add_lesion(rng: np.random.Generator, body: Body, image: np.ndarray, mask: np.ndarray) -> None:
    for _ in range(_TRIES):
        radius, middle = float(np.exp(rng.uniform(*np.log(RADIUS)))), int(rng.integers(SLICES))
        row, column = rng.uniform(10, SHAPE[0] - 10, 2)
        blob = draw_blob(rng, (row, column), radius, 1.4)
        if body.host[middle, int(row), int(column)] <= 1:
            continue
        inside = blob.depth() > 0
        if body.host[middle][inside].min() > 1 and not mask[:, inside].any():
            break
    else:
        return
    value = image[middle][inside].mean() + rng.uniform(*CONTRAST)
    pattern = value * (1 + 0.12 * smooth_field(rng, SHAPE, 26))
    for z in range(SLICES):
        scale = np.sqrt(max(0.0, 1 - ((z - middle) * SLICE_PIXELS / radius) ** 2))
        depth = np.minimum(blob.depth(scale), body.host[z])
        if (depth > 0).sum() >= MIN_PIXELS:
            image[z] = blend(image[z], soft_step(depth, 0.6), pattern)
            mask[z][depth > 0] = 1
