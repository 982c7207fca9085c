"""Textured objects: three classes that differ only in texture, in scenes with known co-occurrence.

A stack is three scenes of three slices each. `SCENES` gives their probabilities, so that the shares of slices with a
class, or with one class given another, can be read off: `stripes` and `dots` exclude each other, `mottle` is next to
`dots` in three of four slices that have `dots`, and each class has slices of its own, without which no method could
separate it. Brightness, size and place are drawn from the same ranges for all classes.
"""

from __future__ import annotations

import numpy as np

from unia_med.data.structured.body import SHAPE, SLICES, Blob, Body, draw_blob
from unia_med.data.structured.fields import blend, smooth_field, soft_step

CLASSES = ("stripes", "dots", "mottle")
SCENES: dict[tuple[str, ...], float] = {
    (): 0.15,
    ("stripes",): 0.15,
    ("dots",): 0.10,
    ("mottle",): 0.10,
    ("dots", "mottle"): 0.30,
    ("stripes", "mottle"): 0.20,
}
"""Probability of each set of classes in a slice."""

SCENE_SLICES = 3
RADIUS = (10.0, 18.0)
CONTRAST = (0.15, 0.3)
"""Difference in tone, brighter or darker, from the mean of what an object covers."""
TEXTURE = 0.1
"""Amplitude of the texture in an object's middle."""
RIM = 0.35
"""Share of the radius over which the texture fades to nothing, so that at the border only the tone is left."""
_SCALES = (0.85, 1.0, 0.85)  # cross-sections of an object in the slices of its scene
_TRIES = 60


def draw_objects(rng: np.random.Generator, body: Body) -> tuple[np.ndarray, np.ndarray]:
    """Return the body's image (Z, H, W) with objects in it, and their mask: k + 1 where class k is.

    Args:
        rng: Source of randomness.
        body: Surroundings; objects are put into the trunk, and hide what they cover.
    """
    image, mask = body.image.copy(), np.zeros(body.image.shape, np.uint8)
    scenes, shares = list(SCENES), list(SCENES.values())
    for start in range(0, SLICES, SCENE_SLICES):
        stack = slice(start, start + SCENE_SLICES)
        classes = scenes[rng.choice(len(scenes), p=shares)]
        room = body.depth[stack].min(0)
        for name in rng.permutation(np.array(classes, dtype=object)):
            for extra in range(int(rng.integers(1, 3))):
                blob = _place(rng, room, RADIUS[1] if extra == 0 else RADIUS[1] * 0.75)
                if blob is None:
                    break
                room = np.minimum(room, -blob.depth() - 2)
                _paint(rng, image[stack], mask[stack], blob, name)
    return image, mask


def _place(rng: np.random.Generator, room: np.ndarray, largest: float) -> Blob | None:
    """Return a blob in the room that is left (H, W, as a depth); None if none was found."""
    for attempt in range(_TRIES):
        top = max(RADIUS[0], largest * (1 - attempt / _TRIES))  # a narrow place has to do for a small one
        row, column = rng.uniform(14, SHAPE[0] - 14, 2)
        blob = draw_blob(rng, (row, column), rng.uniform(RADIUS[0], top))
        # Its middle first: that is quick, and most places are refused by it.
        if room[int(row), int(column)] > 2 and room[blob.depth() > 0].min() > 2:
            return blob
    return None


def _paint(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, blob: Blob, name: str) -> None:
    """Draw an object into the slices (Z, H, W) of its scene, in place."""
    shift = rng.choice((-1, 1)) * rng.uniform(*CONTRAST)
    tone = float(np.clip(image[:, blob.depth() > 0].mean() + shift, 0.08, 0.85))
    pattern = texture(rng, name) * TEXTURE
    for z, scale in enumerate(_SCALES):
        depth = blob.depth(scale)
        middle = np.clip(depth / (RIM * blob.radius), 0, 1)
        image[z] = blend(image[z], soft_step(depth, 0.6), tone + pattern * middle)
        mask[z][depth > 0] = CLASSES.index(name) + 1


def texture(rng: np.random.Generator, name: str) -> np.ndarray:
    """Return the pattern (H, W) of a class, of mean about 0 and standard deviation about 1.

    Its details are 6 to 8 pixels apart, so that a network on two thirds of the pixels still sees them.

    Args:
        rng: Source of randomness: direction, phase and wavelength.
        name: One of `CLASSES`.
    """
    if name == "mottle":
        return smooth_field(rng, SHAPE, 17)
    rows, columns = np.indices(SHAPE, dtype=np.float32, sparse=True)
    angle, length = rng.uniform(0, np.pi), rng.uniform(6.0, 8.0)
    along = (rows * np.cos(angle) + columns * np.sin(angle)) * (2 * np.pi / length) + rng.uniform(0, 2 * np.pi)
    across = (columns * np.cos(angle) - rows * np.sin(angle)) * (2 * np.pi / length) + rng.uniform(0, 2 * np.pi)
    if name == "stripes":
        return np.asarray(np.sqrt(2) * np.sin(along), np.float32)
    bumps = np.exp(np.cos(along) + np.cos(across))  # round spots on a square lattice
    return np.asarray((bumps - bumps.mean()) / bumps.std(), np.float32)
