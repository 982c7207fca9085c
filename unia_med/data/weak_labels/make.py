"""Makes weak labels from dense masks, for research: pure functions of the mask, the case's name and a seed.

Every slice draws from its own generator, seeded by run, kind, case and slice, so that neither the order of cases nor
their number changes what is drawn.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from unia_med.config.weak_labels import LabelKind, MakeConfig
from unia_med.labels import BACKGROUND, IGNORE

_EIGHT = np.ones((3, 3), bool)
_WOBBLE = 0.25  # how far the background loop's distance varies along it, as a share: nobody draws it evenly
_EMPTY_LOOP = 0.2  # radius of the background loop in a slice without a class, as a share of the shorter side


def make_labels(kind: LabelKind, mask: np.ndarray, case: str, seed: int, settings: MakeConfig) -> np.ndarray:
    """Return uint8 labels (X, Y, Z) of one case, IGNORE where nothing is drawn; for boxes, what lies outside them.

    Args:
        kind: "points", "scribbles", "blocks", "boxes" or "masks".
        mask: uint8 (X, Y, Z), 0 background and 1..T.
        case: Name of the case.
        seed: Of the run.
        settings: How much is drawn.
    """
    if kind == "masks":
        return mask.astype(np.uint8)
    if kind == "boxes":
        return outside_boxes(box_masks(mask, int(mask.max(initial=1))))
    maker = _MAKERS[kind]
    labels = np.full(mask.shape, IGNORE, np.uint8)
    for z in range(mask.shape[2]):
        labels[:, :, z] = maker(mask[:, :, z], _generator(seed, kind, case, z), settings)
    return labels


def points(mask: np.ndarray, generator: np.random.Generator, settings: MakeConfig) -> np.ndarray:
    """Return points of one slice as uint8 (X, Y): some per class, well inside it, and some of the background.

    Args:
        mask: uint8 (X, Y).
        generator: Draws.
        settings: `points`, `background_points`, `background_distance_px`.
    """
    labels = np.full(mask.shape, IGNORE, np.uint8)
    for label in _classes(mask):
        depth = ndimage.distance_transform_edt(np.pad(mask == label, 1))[1:-1, 1:-1]
        inner = np.argwhere(depth >= depth.max() / 2)  # nobody clicks on a rim
        picked = generator.choice(len(inner), min(settings.points, len(inner)), replace=False)
        labels[tuple(inner[picked].T)] = label
    near = settings.background_distance_px
    distance, centre = _from_structures(mask)
    ring = np.argwhere((mask == 0) & (distance >= near) & (distance <= 3 * near))
    if not len(ring):
        ring = np.argwhere((mask == 0) & (distance >= 2))
    for position in _one_per_direction(ring - centre, settings.background_points, generator):
        labels[tuple(ring[position])] = BACKGROUND
    return labels


def scribbles(mask: np.ndarray, generator: np.random.Generator, settings: MakeConfig) -> np.ndarray:
    """Return scribbles of one slice as uint8 (X, Y): a stroke along each piece's skeleton, a loop of background.

    Args:
        mask: uint8 (X, Y).
        generator: Draws.
        settings: `scribble_share`, `background_distance_px`.
    """
    from skimage.morphology import skeletonize  # slow to import, and only scribbles need it

    labels = np.full(mask.shape, IGNORE, np.uint8)
    labels[background_loop(mask, generator, settings)] = BACKGROUND
    for label in _classes(mask):
        pieces, count = ndimage.label(mask == label, _EIGHT)
        for piece in range(1, count + 1):
            # A smoothed piece has a skeleton without the spurs that every step of its outline would send out.
            whole = pieces == piece
            smooth = ndimage.binary_opening(whole) if whole.sum() > 60 else whole
            skeleton = skeletonize(smooth if smooth.any() else whole)
            labels[_stroke(skeleton, settings.scribble_share, generator)] = label
    return labels


def background_loop(mask: np.ndarray, generator: np.random.Generator, settings: MakeConfig) -> np.ndarray:
    """Return bool (X, Y): a closed line one pixel wide round all structures; open only where it leaves the image.

    Its distance from the structures varies along it, and is two pixels at least. Without a structure it is a circle
    about the middle of the slice.

    Args:
        mask: uint8 (X, Y).
        generator: Draws.
        settings: `background_distance_px`.
    """
    distance, centre = _from_structures(mask)
    if not (mask > 0).any():
        distance = np.maximum(0, distance - _EMPTY_LOOP * min(mask.shape))
    angle = np.arctan2(*np.moveaxis(np.indices(mask.shape).transpose(1, 2, 0) - centre, -1, 0))
    waves = np.zeros(mask.shape)
    for order in (1, 2, 3):
        waves += generator.normal() * np.cos(order * angle + generator.uniform(0, 2 * np.pi)) / np.sqrt(3)
    reach = settings.background_distance_px * (1 + _WOBBLE * np.clip(waves, -1, 1))
    inside = ndimage.binary_fill_holes(distance <= np.maximum(reach, 2))
    return inside & ~ndimage.binary_erosion(inside, border_value=1) & (distance >= 1) & (mask == 0)


def blocks(mask: np.ndarray, generator: np.random.Generator, settings: MakeConfig) -> np.ndarray:
    """Return blocks of one slice as uint8 (X, Y): squares of a regular tiling, annotated pixel by pixel.

    The kind of annotation is that of Lin et al., ICCV 2019 (block annotation).

    Args:
        mask: uint8 (X, Y).
        generator: Draws.
        settings: `block_size`, `blocks`.
    """
    size = settings.block_size
    tile = np.indices(mask.shape) // size
    number = tile[0] * (tile[1].max() + 1) + tile[1]
    holds = {label: np.unique(number[mask == label]) for label in _classes(mask)}
    empty = np.setdiff1d(np.unique(number), np.unique(number[mask > 0]))
    chosen: list[int] = []
    for tiles, wanted in [*((tiles, settings.blocks) for tiles in holds.values()), (empty, 1)]:
        missing = max(0, min(wanted, len(tiles)) - len(np.intersect1d(tiles, chosen)))
        free = np.setdiff1d(tiles, chosen)
        chosen += generator.choice(free, missing, replace=False).tolist()
    return np.where(np.isin(number, chosen), mask, IGNORE).astype(np.uint8)


def box_masks(mask: np.ndarray, classes: int) -> np.ndarray:
    """Return bool (T, X, Y, Z): the tight box of each class in each slice, filled.

    Args:
        mask: uint8 (X, Y, Z) with labels up to T.
        classes: T.
    """
    boxes = np.zeros((classes, *mask.shape), bool)
    for label in range(1, classes + 1):
        inside = mask == label
        rows, columns = _span(inside.any(1), 0), _span(inside.any(0), 0)
        boxes[label - 1] = rows[:, None] & columns[None]
    return boxes


def outside_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return uint8 (X, Y, Z): background outside all boxes (T, X, Y, Z), IGNORE inside."""
    return np.where(boxes.any(0), IGNORE, BACKGROUND).astype(np.uint8)


def _span(hits: np.ndarray, axis: int) -> np.ndarray:
    """Return true from the first to the last true value along an axis."""
    before = np.logical_or.accumulate(hits, axis)
    after = np.flip(np.logical_or.accumulate(np.flip(hits, axis), axis), axis)
    return before & after


def _generator(seed: int, kind: str, case: str, z: int) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(f"{kind}/{case}".encode()), z))


def _classes(mask: np.ndarray) -> list[int]:
    return [int(label) for label in np.unique(mask) if label not in (BACKGROUND, IGNORE)]


def _from_structures(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (X, Y) in pixels from all structures and their middle; without any, from the middle of the slice."""
    structures = mask > 0
    if not structures.any():
        centre = (np.asarray(mask.shape) - 1) / 2
        return np.hypot(*(np.indices(mask.shape) - centre[:, None, None])), centre
    return ndimage.distance_transform_edt(~structures), np.argwhere(structures).mean(0)


def _one_per_direction(offsets: np.ndarray, count: int, generator: np.random.Generator) -> list[int]:
    """Positions of offsets (N, 2): one drawn from each of `count` equal sectors, the first at a random angle."""
    if not count or not len(offsets):
        return []
    turn = generator.uniform(0, 2 * np.pi)
    sector = ((np.arctan2(offsets[:, 0], offsets[:, 1]) + turn) % (2 * np.pi) / (2 * np.pi) * count).astype(int)
    members = [np.flatnonzero(sector == number) for number in range(count)]
    return [int(generator.choice(member)) for member in members if len(member)]


def _stroke(skeleton: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return the part of a skeleton that lies next, along it, to one of its pixels drawn at random."""
    from skimage.graph import MCP_Geometric  # slow to import, and only scribbles need it

    pixels = np.argwhere(skeleton)
    wanted = max(1, round(share * len(pixels)))
    if wanted == len(pixels):
        return skeleton
    start = pixels[generator.integers(len(pixels))]
    path = MCP_Geometric(np.where(skeleton, 1.0, np.inf)).find_costs([tuple(start)])[0]
    nearest = np.argsort(path[tuple(pixels.T)], kind="stable")[:wanted]
    stroke = np.zeros_like(skeleton)
    stroke[tuple(pixels[nearest].T)] = True
    return stroke


_MAKERS: dict[str, Callable[[np.ndarray, np.random.Generator, MakeConfig], np.ndarray]] = {
    "points": points,
    "scribbles": scribbles,
    "blocks": blocks,
}
