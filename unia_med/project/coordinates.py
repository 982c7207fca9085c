"""Tables of coordinates: points and boxes as rows of a spreadsheet, which become label volumes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unia_med.data.io.label_file import LabelFile, is_background_name
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.tables import Record, read_table
from unia_med.data.io.volume import VolumeInfo
from unia_med.data.weak_labels.read import encode_boxes
from unia_med.errors import UserError
from unia_med.names import number_of
from unia_med.project.meaning import Meaning
from unia_med.project.names import case_of

_CLASS = ("class", "label", "category", "structure", "organ", "tissue", "segment", "finding", "name", "type", "target")
_SLICE = ("slice", "z", "sliceindex", "sliceno", "slicenumber", "zindex", "frame", "k")
# Columns of one corner and of the other, along x and along y; the third form gives sides in place of the other corner.
_CORNERS = (
    (("xmin", "ymin"), ("xmax", "ymax")),
    (("x0", "y0"), ("x1", "y1")),
    (("x1", "y1"), ("x2", "y2")),
    (("left", "top"), ("right", "bottom")),
    (("xstart", "ystart"), ("xend", "yend")),
)
_SIDES = ((("x", "y"), ("width", "height")), (("x", "y"), ("w", "h")), (("xmin", "ymin"), ("width", "height")))
_POINT = (("x", "y"), ("xcoord", "ycoord"), ("col", "row"), ("column", "row"), ("i", "j"))
ONE_CLASS = "object"
"""Name of the class where nothing says one."""
_REMEDY = "Coordinates are voxels of the image as stored, counted from 0"


class _Columns(NamedTuple):
    """Columns of a table: image, class, slice, corner, other corner (boxes), and whether that gives the sides."""

    image: str
    named: str | None
    slices: tuple[str, ...]
    low: tuple[str, str]
    high: tuple[str, str] | None
    sides: bool


class Coordinates(NamedTuple):
    """Points or boxes of a table.

    Attributes:
        meaning: what they are.
        files: label volume by image, to be written.
    """

    meaning: Meaning
    files: dict[Path, LabelFile]


def read_coordinates(
    path: Path, images: Mapping[Path, VolumeInfo], names: Mapping[str, Path], folder: Path, needs_class: bool = False
) -> Coordinates | None:
    """Return the points or boxes that a table lists, or None where it is something else.

    Columns are recognised by their names: the image (any column of image names), x and y, the slice or z, a class;
    of boxes x_min, y_min, x_max, y_max (with both ends inside the box), or x, y, width, height.

    Args:
        path: CSV or TSV.
        images: headers.
        names: of `cases_by_name`.
        folder: in which the volumes will lie.
        needs_class: a table without a column for the class is something else, such as one of sizes.

    Raises:
        UserError: it is such a table, and a row cannot be placed.
    """
    try:
        heads, records = read_table(path)
    except UserError:
        return None
    columns = _columns(heads, records, names)
    if columns is None or (needs_class and columns.named is None):
        return None
    rows = [(record, image) for record in records if (image := case_of(record.cells[columns.image], names))]
    named = [record.cells[columns.named].strip() if columns.named else ONE_CLASS for record in records]
    classes = sorted({name for name in named if name and not is_background_name(name)})
    if not classes:
        return None
    kind = "points" if columns.high is None else "boxes"
    drawn: dict[Path, np.ndarray] = {}
    for (record, image), name in zip(rows, named, strict=True):
        header = images[image]
        canvas = drawn.setdefault(image, np.zeros((len(classes) + 1, *header.shape[:3]), bool))
        if name:
            place = _place(record, columns, header, path)
            canvas[classes.index(name) + 1 if name in classes else 0][place] = True
    where = f"{number_of(len(rows), 'row')} of {path.name}, read as voxels counted from 0"
    where += "; both ends lie inside a box" if kind == "boxes" else ""
    return as_volumes(drawn, images, kind, classes, folder, where)


def as_volumes(
    drawn: Mapping[Path, np.ndarray],
    images: Mapping[Path, VolumeInfo],
    kind: str,
    classes: Sequence[str],
    folder: Path,
    where: str,
) -> Coordinates:
    """Return the label volumes of points or boxes, on the grids of their images.

    Args:
        drawn: bool (T + 1, X, Y, Z) by image, background first.
        images: headers.
        kind: "points" or "boxes".
        classes: the T names.
        folder: in which the volumes will lie.
        where: what they were read from, and how.
    """
    files = {}
    for number, (image, canvas) in enumerate(drawn.items()):
        stem = re.sub(r"\W+", "_", image.name.split(".")[0])
        affine = np.asarray(images[image].affine, np.float64)
        files[image] = LabelFile(_volume(canvas, kind), affine, folder / f"{number:04d}_{stem}_{kind}.nii.gz")
    return Coordinates(_meaning(kind, classes, list(drawn.values()), where), files)


def _columns(heads: Sequence[str], records: Sequence[Record], names: Mapping[str, Path]) -> _Columns | None:
    if not records:
        return None
    plain = {re.sub(r"[\W_]+", "", head).casefold(): head for head in heads}
    image = next((h for h in heads if all(case_of(record.cells[h], names) for record in records)), None)
    if image is None:
        return None
    corners = [(low, high, False) for low, high in _CORNERS] + [(low, high, True) for low, high in _SIDES]
    box = next((form for form in corners if {*form[0], *form[1]} <= plain.keys()), None)
    point = next((form for form in _POINT if set(form) <= plain.keys()), None)
    if box is None and point is None:
        return None
    named = next((plain[name] for name in _CLASS if name in plain and plain[name] != image), None)
    slices: tuple[str, ...] = next(((name,) for name in _SLICE if name in plain), ())
    slices = ("zmin", "zmax") if {"zmin", "zmax"} <= plain.keys() else slices
    low, high, sides = box or (point or ("", ""), None, False)
    at = (plain[low[0]], plain[low[1]])
    return _Columns(
        image, named, tuple(plain[s] for s in slices), at, (plain[high[0]], plain[high[1]]) if high else None, sides
    )


def _place(record: Record, columns: _Columns, header: VolumeInfo, path: Path) -> tuple[slice, slice, slice]:
    """Return the voxels of a row, as an index of the stored volume."""
    where = f"{path} line {record.line}"
    low = [_number(record.cells[head], where, head) for head in columns.low]
    high = [_number(record.cells[head], where, head) for head in columns.high] if columns.high else low
    if columns.sides:
        high = [corner + side - 1 for corner, side in zip(low, high, strict=True)]
    spans = [(min(a, b), max(a, b)) for a, b in zip(low, high, strict=True)]
    if is_image(header.path) and not columns.slices:
        spans.reverse()  # x of a picture counts columns, which are the second stored axis
    depth = [_number(record.cells[head], where, head) for head in columns.slices]
    if not depth and header.shape[2] > 1:
        what = f"has no column for the slice, and {header.path.name} has {header.shape[2]} slices"
        raise UserError(what, where=path, remedy="Add a column slice, counted from 0 along the third stored axis")
    spans.append((min(depth), max(depth)) if depth else (0, 0))
    for axis, (first, last), size in zip("xyz", spans, header.shape[:3], strict=True):
        if last < 0 or first > size - 1:
            what = f"{axis} = {first:g} lies outside {header.path.name}, which has {size} voxels along that axis"
            raise UserError(what, where=where, remedy=_REMEDY)
    x, y, z = (
        slice(max(0, round(a)), min(n - 1, round(b)) + 1) for (a, b), n in zip(spans, header.shape[:3], strict=True)
    )
    return x, y, z


def _number(text: str, where: str, head: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise UserError(f"{text!r} in column {head}, expected a number", where=where, remedy=_REMEDY) from None


def _volume(canvas: np.ndarray, kind: str) -> np.ndarray:
    """Return the uint8 volume of bool (T + 1, X, Y, Z), background first: bits of boxes; of points T + 1 is background.

    Where points of two classes lie on one voxel, the later class wins.
    """
    if kind == "boxes":
        return encode_boxes(canvas[1:])
    volume = np.zeros(canvas.shape[1:], np.uint8)
    volume[canvas[0]] = len(canvas)
    for label in range(1, len(canvas)):
        volume[canvas[label]] = label
    return volume


def _meaning(kind: str, classes: Sequence[str], drawn: Sequence[np.ndarray], where: str) -> Meaning:
    numbered = dict(enumerate(classes, start=1))
    files = {value: sum(bool(canvas[value].any()) for canvas in drawn) for value in numbered}
    boxes = kind == "boxes"
    marked = not boxes and any(canvas[0].any() for canvas in drawn)
    background = 0 if boxes else len(classes) + 1 if marked else None
    why = {value: f"class {name!r}, in {number_of(files[value], 'image')}" for value, name in numbered.items()}
    if boxes:
        why[0] = f"outside all boxes ({where}): background"
    else:
        why[0] = f"*not annotated* ({where})"
        why |= {len(classes) + 1: "annotated background"} if marked else {}
    return Meaning(
        "boxes" if boxes else "points", numbered, None if boxes else 0, background, {}, files, why, as_bits=boxes
    )
