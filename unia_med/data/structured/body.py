"""A trunk in cross-section: outline, fat, muscle and organs that run through a stack of slices.

Lengths are in pixels of `SHAPE`; depths are positive inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unia_med.data.structured.fields import blend, smooth_field, soft_step

SHAPE = (96, 96)
SLICES = 9
ORGANS = 7
VESSELS = 6
HOST_RADIUS = (24.0, 32.0)
"""Half axes of the largest organ, which lesions grow in."""


@dataclass(frozen=True)
class Blob:
    """A rounded shape with a wavy outline, in one slice or as an ellipsoid through several.

    Attributes:
        centre: (row, column).
        radius: Mean radius.
        stretch: Ratio of the axes, from 1.
        tilt: Direction of the longer axis in radians.
        modes: Waves of the outline: (order, relative amplitude, phase).
    """

    centre: tuple[float, float]
    radius: float
    stretch: float
    tilt: float
    modes: tuple[tuple[int, float, float], ...]

    def depth(self, scale: float = 1.0) -> np.ndarray:
        """Return how deep each pixel (H, W) is inside the shape, enlarged by `scale`; exact for discs."""
        rows, columns = (
            a - c for a, c in zip(np.indices(SHAPE, dtype=np.float32, sparse=True), self.centre, strict=True)
        )
        along = (rows * np.cos(self.tilt) + columns * np.sin(self.tilt)) / np.sqrt(self.stretch)
        across = (columns * np.cos(self.tilt) - rows * np.sin(self.tilt)) * np.sqrt(self.stretch)
        angle = np.arctan2(across, along)
        waves = sum((size * np.cos(order * angle + phase) for order, size, phase in self.modes), np.float32(0))
        return np.asarray(self.radius * scale * (1 + waves) - np.hypot(along, across), np.float32)


def draw_blob(
    rng: np.random.Generator, centre: tuple[float, float], radius: float, stretch: float = 1.5, waves: float = 0.08
) -> Blob:
    """Return a blob of random form.

    Args:
        rng: Source of randomness.
        centre: (row, column).
        radius: Mean radius in pixels.
        stretch: Largest ratio of the axes.
        waves: Largest relative amplitude of an outline's wave.
    """
    modes = tuple((order, rng.uniform(0, waves), rng.uniform(0, 2 * np.pi)) for order in (2, 3, 4))
    return Blob(centre, radius, rng.uniform(1, stretch), rng.uniform(0, np.pi), modes)


@dataclass(frozen=True)
class Body:
    """Surroundings of what is to be found.

    Attributes:
        image: (Z, H, W) float32, noiseless.
        depth: (Z, H, W), below the fat.
        host: (Z, H, W), depth in the largest organ.
    """

    image: np.ndarray
    depth: np.ndarray
    host: np.ndarray


def draw_body(rng: np.random.Generator) -> Body:
    """Return a random trunk whose form changes smoothly through the stack."""
    middle = (SHAPE[0] / 2 - 0.5, SHAPE[1] / 2 - 0.5)
    trunk = draw_blob(rng, middle, rng.uniform(40, 44), stretch=1.15, waves=0.02)
    fat = rng.uniform(2, 5)
    # Rounded like the trunk, and narrower from slice to slice at one end.
    scales = 1 - rng.uniform(0, 0.08) * np.linspace(0, 1, SLICES)[:: rng.choice((-1, 1))]
    depth = np.stack([trunk.depth(scale) - fat for scale in scales])
    fine = smooth_field(rng, SHAPE, 32)
    image = np.stack([_soft_tissue(rng, 0.3, fine)] * SLICES)
    image, host = _add_organs(rng, image, depth, fine)
    image = _add_vessels(rng, image, depth)
    wall = rng.uniform(3, 5)
    for z in range(SLICES):
        image[z] = blend(image[z], soft_step(wall - depth[z], 0.7), 0.22 * (1 + 0.1 * fine))
        image[z] = blend(image[z], soft_step(-depth[z], 0.6), 0.8 * (1 + 0.04 * fine))
        image[z] = blend(image[z], soft_step(-depth[z] - fat, 0.6), 0.0)
    return Body(image.astype(np.float32), depth, host)


def _soft_tissue(rng: np.random.Generator, tone: float, fine: np.ndarray) -> np.ndarray:
    return tone * (1 + 0.12 * smooth_field(rng, SHAPE, 6) + 0.08 * fine)


def _add_organs(
    rng: np.random.Generator, image: np.ndarray, depth: np.ndarray, fine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image with organs that fade out towards the ends of the stack, and the depth in the largest."""
    side = rng.choice((-1, 1))
    host = draw_blob(rng, (46 + rng.normal(0, 3), 47.5 + side * rng.uniform(8, 13)), rng.uniform(*HOST_RADIUS), 1.3)
    image, levels = image.copy(), np.linspace(-1, 1, SLICES)
    for _ in range(ORGANS):
        organ = draw_blob(rng, tuple(rng.uniform(16, 80, 2)), rng.uniform(7, 16), 1.8)
        peak, reach, tone = rng.uniform(-1, 1), rng.uniform(0.6, 2.0), rng.uniform(0.12, 0.55)
        texture = _soft_tissue(rng, tone, fine)
        for z, level in enumerate(levels):
            scale = np.sqrt(max(0.0, 1 - ((level - peak) / reach) ** 2))
            image[z] = blend(image[z], soft_step(organ.depth(scale), 0.6), texture)
    liver = _soft_tissue(rng, rng.uniform(0.3, 0.42), fine)
    hosts = np.stack([host.depth(1 - 0.2 * abs(level)) for level in levels])
    for z in range(SLICES):
        image[z] = blend(image[z], soft_step(hosts[z], 0.6), liver)
    return image, np.minimum(hosts, depth - 5)


def _add_vessels(rng: np.random.Generator, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the image with bright tubes through all slices: what is small, round and bright need not be a lesion."""
    for _ in range(VESSELS):
        start, drift, radius = rng.uniform(20, 76, 2), rng.normal(0, 1.0, 2), rng.uniform(1.0, 1.8)
        tone = rng.uniform(0.5, 0.75)
        for z in range(SLICES):
            row, column = start + drift * z
            disc = Blob((row, column), radius, 1.0, 0.0, ()).depth()
            image[z] = blend(image[z], soft_step(np.minimum(disc, depth[z] - 4), 0.4), tone)
    return image
