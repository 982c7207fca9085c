"""Markups of 3D Slicer, points and boxes (ROI) in mm, which become label volumes: `.mrk.json` and `.fcsv`."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unia_med.data.io.label_file import is_background_name
from unia_med.data.io.label_names import tokens
from unia_med.data.io.suffixes import MARKUP_SUFFIXES, label_stem
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError
from unia_med.names import number_of
from unia_med.project.coordinates import ONE_CLASS, Coordinates, as_volumes

_FLIPPED = np.array([-1.0, -1.0, 1.0])  # LPS to RAS
_NAMELESS = {"f", "p", "r", "l", "roi", "point", "points", "list", "pointlist", "markups", "fiducials", "fiducial"}
_SYSTEMS = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}


class Mark(NamedTuple):
    """A point, or a box by its corners.

    Attributes:
        name: its label without a number, empty where the viewer chose it.
        places: (1, 3) or (8, 3), RAS mm.
    """

    name: str
    places: np.ndarray


def as_label(path: Path) -> Path:
    """Return the path that a label volume of the same name would have, by which its image is found."""
    suffix = next(suffix for suffix in MARKUP_SUFFIXES if path.name.lower().endswith(suffix))
    return path.with_name(path.name[: -len(suffix)] + ".nrrd")


def read_markups(path: Path) -> list[Mark]:
    """Return the points and boxes of a file.

    Args:
        path: `.mrk.json` or `.fcsv`.

    Raises:
        UserError: it is damaged, or counts from the corner of an image that it does not name.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _of_table(text) if path.suffix.lower() == ".fcsv" else _of_json(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        what = f"cannot be read as markups of 3D Slicer ({type(error).__name__}: {error})"
        raise UserError(
            what, where=path, remedy="Save the markups again, in LPS or RAS, or leave the file out"
        ) from error


def markup_volumes(
    files: Mapping[Path, Path], images: Mapping[Path, VolumeInfo], folder: Path
) -> tuple[Coordinates, str] | None:
    """Return the label volumes of all markups and a sentence about them; None where they hold nothing.

    Args:
        files: image of each file.
        images: headers.
        folder: in which the volumes will lie.

    Raises:
        UserError: a file is damaged, or a point lies outside of its image.
    """
    marks = [(path, _named(mark, path, files[path])) for path in files for mark in read_markups(path)]
    kind = "points" if any(len(mark.places) == 1 for _, mark in marks) else "boxes"
    used = [(path, mark) for path, mark in marks if (len(mark.places) == 1) == (kind == "points")]
    classes = sorted({mark.name for _, mark in used if not is_background_name(mark.name)})
    if not classes:
        return None
    drawn: dict[Path, np.ndarray] = {}
    for path, mark in used:
        header = images[files[path]]
        canvas = drawn.setdefault(files[path], np.zeros((len(classes) + 1, *header.shape[:3]), bool))
        label = classes.index(mark.name) + 1 if mark.name in classes else 0
        canvas[label][_voxels(mark, header, path)] = True
    where = f"{number_of(len(used), 'markup')} of 3D Slicer in {number_of(len(files), 'file')}, placed in mm"
    left = len(marks) - len(used)
    note = f"{left} boxes of markups are left out, since points are learned from" if left else ""
    return as_volumes(drawn, images, kind, classes, folder, where), note


def _of_json(content: Mapping[str, Any]) -> list[Mark]:
    found = []
    for markup in content["markups"]:
        scale = _FLIPPED if _SYSTEMS[str(markup.get("coordinateSystem", "LPS"))] == "LPS" else np.ones(3)
        if str(markup["type"]).upper() == "ROI":
            axes = np.asarray(markup.get("orientation", np.eye(3)), float).reshape(3, 3)
            signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), -1).reshape(-1, 3)
            corners = np.asarray(markup["center"], float) + signs * np.asarray(markup["size"], float) @ axes.T
            found.append(Mark("", corners * scale))
            continue
        for point in markup["controlPoints"]:
            if point.get("positionStatus", "defined") == "defined":
                found.append(Mark(_without_number(str(point.get("label", ""))), _place(point["position"]) * scale))
    return found


def _of_table(text: str) -> list[Mark]:
    head = dict(re.findall(r"^#\s*(CoordinateSystem|columns)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    scale = _FLIPPED if _SYSTEMS[head.get("CoordinateSystem", "0").upper()] == "LPS" else np.ones(3)
    columns = head.get("columns", "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID").split(",")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = [dict(zip(columns, cells, strict=False)) for cells in csv.reader(lines)]
    return [Mark(_without_number(row.get("label", "")), _place([row[axis] for axis in "xyz"]) * scale) for row in rows]


def _place(position: Sequence[Any]) -> np.ndarray:
    place = np.array([[float(value) for value in position]])
    if place.shape != (1, 3) or not np.isfinite(place).all():
        raise ValueError(f"{list(position)} is no place in mm")
    return place


def _without_number(label: str) -> str:
    """Return a label without the number that the viewer appends.

    Example:
        >>> _without_number("KIDNEY-12"), _without_number("T2"), _without_number("F-1")
        ('KIDNEY', 'T2', 'F')
    """
    return re.sub(r"[\s_-]+\d+$", "", label.strip())


def _named(mark: Mark, path: Path, image: Path) -> Mark:
    """Return a mark with the name of its class: its label or, where the viewer chose that, what its file adds."""
    if mark.name and re.sub(r"\W|_", "", mark.name).casefold() not in _NAMELESS:
        return mark
    stem = label_stem(as_label(path))
    rest = _without_number(stem.removeprefix(image.name.split(".")[0]).strip(" _-."))
    words = [word for word in tokens(rest) if word not in _NAMELESS]
    return mark._replace(name=rest if words else ONE_CLASS)


def _voxels(mark: Mark, header: VolumeInfo, path: Path) -> tuple[slice, slice, slice]:
    """Return the voxel of a point, or the voxels whose centres lie in the box round the corners."""
    inverse = np.linalg.inv(np.asarray(header.affine, float))
    places = mark.places @ inverse[:3, :3].T + inverse[:3, 3]
    low, high = places.min(0), places.max(0)
    if len(places) == 1:
        low = high = np.rint(places[0])
    first, last = np.ceil(low - 1e-3).astype(int), np.floor(high + 1e-3).astype(int)
    size = np.array(header.shape[:3])
    if (last < 0).any() or (first >= size).any():
        place = ", ".join(f"{value:.1f}" for value in mark.places.mean(0))
        raise UserError(
            f"{mark.name} at ({place}) mm RAS lies outside {header.path.name}",
            where=path,
            remedy="Name the file like the image in which it was marked, or save the markups again with it",
        )
    x, y, z = (slice(max(0, a), min(n - 1, b) + 1) for a, b, n in zip(first, last, size, strict=True))
    return x, y, z
