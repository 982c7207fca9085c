"""What lies around a heart through a whole short-axis stack: chest wall, lung, diaphragm, aorta, great vessels.

Unlike `surroundings`, which draws arbitrary slices, the same organs run through all slices of one patient and change
smoothly with depth: the chest wall and the diaphragm come closer towards the apex, the aorta is seen near the base.
Lengths are in mm, relative to the middle of the heart; directions follow `anatomy` (0 down, pi/2 right).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unia_med.data.structured.fields import blend, enlarge, soft_step

FIELD_KNOTS = (5, 9, 26)
TISSUES = 5
CORNER_MM = 34.0
"""How round the chest's outline is: the scale of the smooth minimum that joins its sides."""


@dataclass(frozen=True)
class Chest:
    """The surroundings of one patient; `noise` holds coarse random grids, a pair of each, mixed along the depth.

    Attributes:
        body: Distances in mm of the body's surface towards (first row, last row, first column) at the base.
        approach: How many mm the surface has come closer at the apex, for the same three sides.
        fat, ribs: Thickness in mm of subcutaneous fat, and of the muscle below it.
        lung: Intensity of lung, and direction and distance in mm of its border.
        diaphragm: Direction, distance in mm at base and at apex, and intensity of the organ below it.
        aorta: Direction, distance in mm, radius in mm and relative depth where it ends.
        tissues: Intensities of the soft tissues near the heart.
        noise: Per entry of `FIELD_KNOTS`, grids (2, n, k, k).
    """

    body: tuple[float, float, float]
    approach: tuple[float, float, float]
    fat: tuple[float, float]
    ribs: tuple[float, float]
    lung: tuple[float, float, float]
    diaphragm: tuple[float, float, float, float]
    aorta: tuple[float, float, float, float]
    tissues: tuple[float, ...]
    blood: float
    noise: tuple[np.ndarray, ...]


def draw_chest(rng: np.random.Generator, reach_mm: float, rv_direction: float, blood: float) -> Chest:
    """Random surroundings for a heart of epicardial radius `reach_mm` whose RV lies towards `rv_direction`."""
    free_wall, inferior = rv_direction + np.pi, rv_direction - np.pi / 2
    grids = tuple(rng.standard_normal((2, TISSUES, knots, knots), dtype=np.float32) for knots in FIELD_KNOTS)
    return Chest(
        body=(reach_mm + rng.uniform(60, 95), reach_mm + rng.uniform(75, 125), reach_mm + rng.uniform(55, 100)),
        approach=(rng.uniform(-10, 20), rng.uniform(20, 60), rng.uniform(25, 60)),
        fat=(rng.uniform(0.75, 1.0), rng.uniform(4, 16)),
        ribs=(rng.uniform(0.15, 0.4), rng.uniform(6, 14)),
        lung=(rng.uniform(0.02, 0.10), free_wall - rng.uniform(0.0, 0.8), reach_mm * rng.uniform(-0.2, 0.5)),
        diaphragm=(
            inferior + rng.normal(0, 0.2),
            reach_mm * rng.uniform(1.5, 2.3),
            reach_mm * rng.uniform(0.7, 1.2),
            rng.uniform(0.18, 0.38),
        ),
        aorta=(
            inferior + rng.uniform(0.2, 0.9),
            reach_mm + rng.uniform(22, 38),
            rng.uniform(9, 13),
            rng.uniform(0.4, 0.9),
        ),
        tissues=tuple(rng.uniform((0.04, 0.12, 0.2, 0.25, 0.5), (0.12, 0.25, 0.35, 0.5, 0.85))),
        blood=blood,
        noise=grids,
    )


def _mixed(pair: np.ndarray, level: float, shape: tuple[int, int]) -> np.ndarray:
    """Fields (n, H, W) of constant variance that turn from the pair's first set into its second along the stack."""
    angle = np.clip(level, -0.3, 1.3) * np.pi / 2
    return enlarge(np.float32(np.cos(angle)) * pair[0] + np.float32(np.sin(angle)) * pair[1], shape)


def _towards(rows: np.ndarray, columns: np.ndarray, direction: float) -> np.ndarray:
    return rows * np.float32(np.cos(direction)) + columns * np.float32(np.sin(direction))


def _body_depth(chest: Chest, level: float, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Depth in mm below the skin (H, W): a box open to the right, its corners rounded by a smooth minimum."""
    first, last, left = (side - near * level for side, near in zip(chest.body, chest.approach, strict=True))
    sides = np.stack([rows + first, last - rows, columns + left])
    return -CORNER_MM * np.log(np.exp(-np.clip(sides, -600, 600) / CORNER_MM).sum(0))


def _soft_tissue(chest: Chest, fields: np.ndarray, fine: np.ndarray) -> np.ndarray:
    mixed = fields + 0.45 * fine
    weights = np.exp(8 * (mixed - mixed.max(0)))
    values = np.asarray(chest.tissues, np.float32)
    return np.tensordot(values, weights / weights.sum(0), 1)


def _organs(
    chest: Chest, image: np.ndarray, level: float, rows: np.ndarray, columns: np.ndarray, fields: list[np.ndarray]
) -> np.ndarray:
    """Lung with its vessels, the organs below the diaphragm, and the descending aorta."""
    coarse, middle, fine = fields
    value, direction, distance = chest.lung
    lung = soft_step((_towards(rows, columns, direction) - distance + 9 * coarse[0]) / 1.5, 1.0)
    vessels = 0.45 * soft_step(fine[0] - 1.7, 0.15)
    image = blend(image, lung, value + vessels)
    direction, base, apex, value = chest.diaphragm
    depth = _towards(rows, columns, direction) - (base + (apex - base) * np.clip(level, 0, 1)) + 10 * coarse[1]
    fat_line = np.exp(-((depth / 4) ** 2)) * soft_step(middle[2], 0.4)
    gut = soft_step(middle[1] - 0.8, 0.15) + soft_step(coarse[3] - 1.0, 0.1)
    organ = value * (1 + 0.10 * fine[1] + 0.8 * gut - 0.8 * soft_step(middle[0] - 1.3, 0.15))
    image = blend(blend(image, soft_step(depth, 1.0), organ), fat_line, 0.7)
    direction, distance, radius, end = chest.aorta
    offset = np.hypot(rows - distance * np.cos(direction), columns - distance * np.sin(direction))
    image = blend(image, soft_step(radius + 2 - offset, 0.6) * soft_step((end - level) / 0.1), 0.2)
    return blend(image, soft_step(radius - offset, 0.6) * soft_step((end - level) / 0.1), chest.blood)


def paint_chest(
    chest: Chest, level: float, shape: tuple[int, int], spacing_mm: float, centre: tuple[float, float]
) -> np.ndarray:
    """One slice (H, W) float32 in [0, 1] of the surroundings.

    Args:
        chest: The patient's surroundings.
        level: Relative depth, 0 at the base and 1 at the apex of the LV; may lie outside.
        shape: Pixels (H, W).
        spacing_mm: Pixel size.
        centre: Middle of the heart in pixels.
    """
    rows = (np.arange(shape[0], dtype=np.float32)[:, None] - centre[0]) * spacing_mm + np.zeros(
        (1, shape[1]), np.float32
    )
    columns = (np.arange(shape[1], dtype=np.float32)[None] - centre[1]) * spacing_mm + np.zeros(
        (shape[0], 1), np.float32
    )
    fields = [_mixed(pair, level, shape) for pair in chest.noise]
    image = _organs(chest, _soft_tissue(chest, fields[0], fields[1]), level, rows, columns, fields)
    skin = _body_depth(chest, level, rows, columns)
    inner = skin - chest.fat[1] * np.clip(1 + 0.5 * fields[0][2] + 0.6 * level, 0.3, 3)
    image = blend(
        image, soft_step(chest.ribs[1] - inner + 3 * fields[1][3], 1.0), chest.ribs[0] * (1 + 0.25 * fields[2][2])
    )
    image = blend(image, soft_step(-inner + 1.5 * fields[1][4], 0.8), chest.fat[0] * (1 + 0.06 * fields[2][3]))
    image = blend(image, soft_step(-skin, 0.8), 0.0)
    return np.clip(image, 0, 1).astype(np.float32)
