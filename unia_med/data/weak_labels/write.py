"""Writes weak labels made from masks as volumes in the geometry of the images, and as tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from unia_med.config.weak_labels import MakeConfig
from unia_med.data.io.nifti import write_like
from unia_med.data.io.orientation import orient_back
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.masks import sliced_labels
from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.make import box_masks, make_labels
from unia_med.data.weak_labels.read import encode, encode_boxes, not_annotated
from unia_med.data.weak_labels.tags import tags_from_mask
from unia_med.files import write_text
from unia_med.labels import BACKGROUND, IGNORE
from unia_med.names import spreadsheet_text

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig
    from unia_med.data.dataset import CaseDataset

WeakKind = Literal["tags", "scribbles", "points", "blocks", "boxes"]
"""What can be made from masks."""

COLUMNS = {
    "points": ("image", "class", "x", "y", "z"),
    "boxes": ("image", "class", "x_min", "x_max", "y_min", "y_max", "z_min", "z_max"),
}
"""Head of the table of coordinates: voxels of the stored volume, from 0, both ends of a box inside it."""


class Weakened(NamedTuple):
    """The made labels of a case: its tags int8 (Z, T), and its rows in the table of coordinates."""

    tags: np.ndarray
    rows: list[tuple]


def weaken_case(
    dataset: CaseDataset,
    case: CaseFiles,
    config: DataConfig,
    kind: WeakKind,
    seed: int,
    settings: MakeConfig,
    folder: Path,
) -> Weakened:
    """Make one case's weak labels and write their volume `NAME_kind.nii.gz`, which appears whole or not at all.

    Args:
        dataset: Gives the mask.
        case: The case.
        config: Uses `classes` and `grid.slice_axis`.
        kind: What to make; tags have no volume.
        seed: With the case's name, it decides all that is drawn.
        settings: How much is drawn.
        folder: Where the volume goes.
    """
    mask = sliced_labels(dataset.labels(case), case, config)
    tags = tags_from_mask(mask, range(1, len(config.classes) + 1))
    if kind == "tags":
        return Weakened(tags, [])
    affine, axis = read_header(case.image).affine, config.grid.slice_axis
    if kind == "boxes":
        boxes = np.stack([orient_back(part, affine, axis) for part in box_masks(mask, len(config.classes))])
        volume = encode_boxes(boxes)
        rows = _box_rows(case.name, box_masks(mask, len(config.classes)), affine, config)
    else:
        labels = orient_back(make_labels(kind, mask, case.name, seed, settings), affine, axis)
        volume = encode(labels, dataset.class_values, not_annotated(dataset))
        rows = _point_rows(case.name, labels, config.classes) if kind == "points" else []
    image = read_volume(case.image)
    # An image of several channels has an axis more than its labels.
    file = volume_file(folder, case.name, kind)
    assert file is not None
    write_like(volume, image if image.array.ndim == 3 else image.frame(0), file)
    return Weakened(tags, rows)


def volume_file(folder: Path, case: str, kind: WeakKind) -> Path | None:
    """Return the volume that `weaken_case` writes, or None, of tags.

    Args:
        folder: of the volumes.
        case: its name.
        kind: what is made.
    """
    return None if kind == "tags" else folder / f"{case}_{kind}.nii.gz"


def write_table(path: Path, columns: Sequence[str], rows: Sequence[tuple]) -> None:
    """Write a CSV that appears whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows([spreadsheet_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    write_text(path, text.getvalue())


def _point_rows(case: str, labels: np.ndarray, classes: Sequence[str]) -> list[tuple]:
    names = {BACKGROUND: "background", **dict(enumerate(classes, start=1))}
    places = np.argwhere(labels != IGNORE)
    places = places[np.lexsort((places[:, 1], places[:, 0], places[:, 2]))]
    return [(case, names[int(labels[tuple(place)])], *(int(i) for i in place)) for place in places]


def _box_rows(case: str, boxes: np.ndarray, affine: np.ndarray, config: DataConfig) -> list[tuple]:
    """One row per class and slice; a slice need not lie along the third stored axis."""
    rows = []
    for label, name in enumerate(config.classes):
        for z in np.flatnonzero(boxes[label].any((0, 1))):
            only = np.zeros_like(boxes[label])
            only[:, :, z] = boxes[label][:, :, z]
            places = np.argwhere(orient_back(only, affine, config.grid.slice_axis))
            low, high = places.min(0), places.max(0)
            rows.append((case, name, *(int(v) for pair in zip(low, high, strict=True) for v in pair)))
    return rows
