"""Recognises the files of annotation programs, and says of those that cannot be read what to export instead.

Polygons and boxes on pictures are read (`shapes`); these notes are about what lies next to other labels, is damaged,
holds nothing that belongs to a picture here, or marks volumes.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unia_med.files import decoded
from unia_med.names import number_of

OTHER_SUFFIXES = (".xml", ".geojson", ".roi", "roiset.zip", ".rois_series", ".rois", ".mps")
"""Endings of annotations that are neither tables nor JSON."""

_MOST_BYTES = 1 << 25  # of a file that is opened to see whose it is
_MASKS = "save a mask per image as PNG, pixels being class numbers or a colour per class"
_REMEDIES = {
    "labelme": f"{_MASKS} (labelme's labelme2voc script writes SegmentationClassPNG)",
    "COCO": f"{_MASKS}, or use data.name: coco, which reads instances_*.json",
    "CVAT": "export the task as 'Segmentation mask 1.1', whose folders are read",
    "VGG Image Annotator": "write a table of boxes (image, class, x, y, width, height), or of polygons a mask each",
    "Label Studio": f"export brush labels as PNG, or of boxes a table; {_MASKS}",
    "Pascal VOC": "write a table of its boxes (image, class, x_min, y_min, x_max, y_max)",
    "YOLO": "write a table of its boxes in pixels (image, class, x, y, width, height)",
    "QuPath": f"{_MASKS} (QuPath: export a labelled image)",
    "ImageJ": "fill the regions in a mask per image (Edit > Selection > Create Mask) and save it as PNG or TIFF",
    "Horos or OsiriX": "export the regions as DICOM SEG or RTSTRUCT, or open them in 3D Slicer and save a .seg.nrrd",
    "MITK point sets": "save a segmentation, or write a table of points (image, class, x, y, slice; voxels from 0)",
    "napari": "write a table of points with the columns image, class, x, y, slice (voxels from 0), or save a Labels "
    "layer and export it as NIfTI",
}


def unread_annotations(files: Iterable[Path]) -> list[str]:
    """Return a note per program whose annotations were found: how many files, and what to save in place of them.

    Args:
        files: texts, tables and files of `OTHER_SUFFIXES`.
    """
    by_program: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        program = program_of(path)
        if program:
            by_program[program].append(path)
    notes = []
    for program, paths in by_program.items():
        notes.append(
            f"{number_of(len(paths), 'file')} of {program}, such as {paths[0]}, left out: {_REMEDIES[program]}"
        )
    return notes


def program_of(path: Path) -> str | None:
    """Return the program, or the format, in which a file holds annotations; None where it is something else.

    Args:
        path: a file of any kind.
    """
    suffix = path.suffix.lower()
    if suffix in (".rois", ".rois_series"):
        return "Horos or OsiriX"
    if suffix in (".roi", ".zip"):
        return "ImageJ"
    if path.stat().st_size > _MOST_BYTES:
        return None
    try:
        text = decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError):
        return None
    if suffix in (".json", ".geojson"):
        return _of_json(text)
    return _of_xml(text) if text.lstrip().startswith("<") else _of_lines(text, suffix)


def _of_json(text: str) -> str | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    first: Any = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict):
        return None
    if {"shapes", "imagePath"} <= first.keys():
        return "labelme"
    if {"images", "annotations", "categories"} <= first.keys():
        return "COCO"
    if first.get("type") in ("FeatureCollection", "Feature"):
        return "QuPath"
    if "data" in first and ("annotations" in first or "predictions" in first):
        return "Label Studio"
    some = next(iter(first.values()), None)
    if "_via_img_metadata" in first or (isinstance(some, dict) and {"filename", "regions"} <= some.keys()):
        return "VGG Image Annotator"
    return "Horos or OsiriX" if isinstance(some, list) and "ROIs" in text[:2000] else None


def _of_xml(text: str) -> str | None:
    head = text[:4000]
    if "<point_set" in head:
        return "MITK point sets"
    if "<annotations>" in head and re.search("<image |<track |<meta>", head):
        return "CVAT"
    if "<annotation>" in head and "<object>" in text:
        return "Pascal VOC"
    return "Horos or OsiriX" if "<plist" in head and "Images" in head else None


def _of_lines(text: str, suffix: str) -> str | None:
    head = text.partition("\n")[0]
    if suffix == ".csv":
        if "region_shape_attributes" in head:
            return "VGG Image Annotator"
        return "napari" if re.match(r"index,(shape-type,|vertex-index,)*axis-0", head.replace('"', "")) else None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    numbers = all(len(line) >= 5 and all(map(_is_share, line[1:])) and line[0].isdigit() for line in lines)
    return "YOLO" if suffix == ".txt" and lines and numbers else None


def _is_share(cell: str) -> bool:
    return re.fullmatch(r"0?\.\d+|[01](\.0*)?", cell) is not None
