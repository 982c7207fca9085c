"""Polygons and boxes on pictures as labelme, COCO, CVAT, VIA, Label Studio, VOC, YOLO and QuPath write them.

A file of one of them becomes a label volume per picture: masks where it holds a polygon, else boxes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from unia_med.data.io.label_file import LabelFile
from unia_med.data.io.tables import read_table
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError
from unia_med.files import decoded
from unia_med.names import number_of
from unia_med.project.coordinates import ONE_CLASS, Coordinates, as_volumes
from unia_med.project.meaning import Meaning
from unia_med.project.names import case_of
from unia_med.project.programs import program_of

_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))
_CLASS_LISTS = ("classes.txt", "obj.names", "labels.txt")


class Shape(NamedTuple):
    """A polygon or box on a picture.

    Attributes:
        image: name of the picture, as the file has it.
        name: of the class.
        points: (N, 2), x to the right and y down, in pixels or shares of the sides.
        box: it is the rectangle around its points.
        shares: points are shares of the picture's sides, 0 to 1.
    """

    image: str
    name: str
    points: np.ndarray
    box: bool
    shares: bool = False


def read_shapes(path: Path) -> list[Shape]:
    """Return the polygons and boxes of a file; none where it is of no program that draws them, or damaged.

    Args:
        path: JSON, GeoJSON, XML, CSV or text.
    """
    reader = _READERS.get(program_of(path) or "")
    if reader is None:
        return []
    try:
        return [shape for shape in reader(path) if len(shape.points) > 1 and np.isfinite(shape.points).all()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ElementTree.ParseError, UserError):
        return []


def shape_volumes(
    paths: Sequence[Path], images: Mapping[Path, VolumeInfo], names: Mapping[str, Path], folder: Path
) -> tuple[Coordinates, list[Path]] | None:
    """Return the label volumes of all shapes, and the files they are from; None where there are none.

    Args:
        paths: files of annotation programs.
        images: headers.
        names: of `cases_by_name`.
        folder: in which the volumes will lie.
    """
    found: list[tuple[Path, Shape]] = []
    used: list[Path] = []
    for path in paths:
        placed = [(image, shape) for shape in read_shapes(path) if (image := _picture_of(shape.image, names, images))]
        found += placed
        used += [path] if placed else []
    if not found:
        return None
    classes = sorted({shape.name for _, shape in found})
    where = f"{number_of(len(found), 'shape')} of {program_of(used[0])} in {number_of(len(used), 'file')}"
    drawn: dict[Path, list[Shape]] = {}
    for image, shape in found:
        drawn.setdefault(image, []).append(shape)
    if all(shape.box for _, shape in found):
        boxes = {image: _boxes(shapes, classes, images[image].shape) for image, shapes in drawn.items()}
        return as_volumes(boxes, images, "boxes", classes, folder, where), used
    masks = {image: _mask(shapes, classes, images[image].shape) for image, shapes in drawn.items()}
    return _as_masks(masks, images, classes, folder, where), used


def _picture_of(name: str, names: Mapping[str, Path], images: Mapping[Path, VolumeInfo]) -> Path | None:
    """Return the picture that a file names; uploads of Label Studio have letters and a hyphen before their names."""
    bare = name.replace("\\", "/").rpartition("/")[2]
    image = case_of(name, names) or case_of(bare, names) or case_of(re.sub(r"^[0-9a-f]{8}-", "", bare), names)
    return image if image is not None and images[image].shape[2] == 1 else None


def _scaled(shape: Shape, size: Sequence[int]) -> np.ndarray:
    return shape.points * (size[1], size[0]) if shape.shares else shape.points


def _boxes(shapes: Sequence[Shape], classes: Sequence[str], size: Sequence[int]) -> np.ndarray:
    """Return bool (T + 1, H, W, 1); a pixel lies in a box where its centre does."""
    canvas = np.zeros((len(classes) + 1, *size[:3]), bool)
    for shape in shapes:
        points = _scaled(shape, size)
        (left, top), (right, bottom) = np.rint(points.min(0)).astype(int), np.rint(points.max(0)).astype(int)
        canvas[
            classes.index(shape.name) + 1, max(0, top) : max(bottom, top + 1), max(0, left) : max(right, left + 1)
        ] = 1
    return canvas


def _mask(shapes: Sequence[Shape], classes: Sequence[str], size: Sequence[int]) -> np.ndarray:
    """Return uint8 (H, W, 1): of overlapping shapes the smaller lies on top."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    outlines = [(shape, _scaled(shape, size)) for shape in shapes]
    for shape, points in sorted(outlines, key=lambda one: -_area(one[1])):
        low, high = points.min(0), points.max(0)
        outline = np.array([low + (high - low) * corner for corner in _CORNERS]) if shape.box else points
        if len(outline) > 2:
            draw.polygon([tuple(point) for point in outline.tolist()], fill=classes.index(shape.name) + 1)
    return np.asarray(canvas, np.uint8)[:, :, None]


def _area(points: np.ndarray) -> float:
    sides = points.max(0) - points.min(0)
    return float(sides[0] * sides[1])


def _as_masks(
    masks: Mapping[Path, np.ndarray],
    images: Mapping[Path, VolumeInfo],
    classes: Sequence[str],
    folder: Path,
    where: str,
) -> Coordinates:
    named = dict(enumerate(classes, start=1))
    files = {
        image: LabelFile(
            mask, np.asarray(images[image].affine, np.float64), folder / f"{number:04d}_{image.stem}.nii.gz"
        )
        for number, (image, mask) in enumerate(masks.items())
    }
    counts = {value: sum(bool((mask == value).any()) for mask in masks.values()) for value in named}
    why = {0: f"outside all shapes ({where}): background"}
    why |= {value: f"class {name!r}, in {number_of(counts[value], 'image')}" for value, name in named.items()}
    return Coordinates(Meaning("masks", named, None, 0, {}, counts, why), files)


def _json(path: Path) -> Any:
    return json.loads(decoded(path.read_bytes()))


def _xy(points: Any) -> np.ndarray:
    return np.asarray(points, float).reshape(-1, 2)


def _rectangle(x: Any, y: Any, width: Any, height: Any) -> np.ndarray:
    return _xy([[float(x), float(y)], [float(x) + float(width), float(y) + float(height)]])


def _labelme(path: Path) -> Iterator[Shape]:
    content = _json(path)
    for shape in content["shapes"]:
        kind, points = shape.get("shape_type", "polygon"), _xy(shape["points"])
        if kind in ("polygon", "rectangle"):
            yield Shape(content["imagePath"], str(shape["label"]), points, kind == "rectangle")


def _coco(path: Path) -> Iterator[Shape]:
    content = _json(path)
    files = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    for one in content["annotations"]:
        image, name, outlines = files[one["image_id"]], names[one["category_id"]], one.get("segmentation")
        if isinstance(outlines, list) and outlines:
            yield from (Shape(image, name, _xy(outline), False) for outline in outlines)
        elif one.get("bbox") and not outlines:
            yield Shape(image, name, _rectangle(*one["bbox"]), True)


def _cvat(path: Path) -> Iterator[Shape]:
    for image in ElementTree.fromstring(decoded(path.read_bytes())).iter("image"):
        for shape in image:
            name = shape.get("label", ONE_CLASS)
            if shape.tag == "polygon":
                points = [pair.split(",") for pair in shape.attrib["points"].split(";")]
                yield Shape(image.attrib["name"], name, _xy(points), False)
            elif shape.tag == "box":
                corners = [float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr")]
                yield Shape(image.attrib["name"], name, _xy(corners), True)


def _voc(path: Path) -> Iterator[Shape]:
    root = ElementTree.fromstring(decoded(path.read_bytes()))
    for one in root.iter("object"):
        left, top, *last = (float(one.findtext(f"bndbox/{key}") or "nan") for key in ("xmin", "ymin", "xmax", "ymax"))
        corners = [left - 1, top - 1, *last]  # pixels counted from 1, both ends inside
        yield Shape(root.findtext("filename") or path.stem, one.findtext("name") or ONE_CLASS, _xy(corners), True)


def _yolo(path: Path) -> Iterator[Shape]:
    lists = (folder / name for folder in (path.parent, path.parent.parent) for name in _CLASS_LISTS)
    listed = next((decoded(names.read_bytes()).splitlines() for names in lists if names.is_file()), [])
    for line in decoded(path.read_bytes()).splitlines():
        if not line.strip():
            continue
        index, *numbers = line.split()
        name = listed[int(index)].strip() if int(index) < len(listed) else f"class_{index}"
        values = [float(number) for number in numbers]
        if len(values) == 4:
            x, y, width, height = values
            yield Shape(path.stem, name, _rectangle(x - width / 2, y - height / 2, width, height), True, True)
        else:
            yield Shape(path.stem, name, _xy(values), False, True)


def _via(path: Path) -> Iterator[Shape]:
    if path.suffix.lower() == ".csv":
        for record in read_table(path)[1]:
            cells = record.cells
            yield from _via_region(
                cells["filename"],
                json.loads(cells["region_shape_attributes"]),
                json.loads(cells.get("region_attributes", "{}")),
            )
        return
    content = _json(path)
    for image in content.get("_via_img_metadata", content).values():
        regions = image["regions"]
        for region in regions.values() if isinstance(regions, dict) else regions:
            yield from _via_region(image["filename"], region["shape_attributes"], region.get("region_attributes", {}))


def _via_region(image: str, shape: Mapping[str, Any], attributes: Mapping[str, Any]) -> Iterator[Shape]:
    name = next((value for value in attributes.values() if isinstance(value, str) and value), ONE_CLASS)
    if shape.get("name") == "rect":
        yield Shape(image, name, _rectangle(shape["x"], shape["y"], shape["width"], shape["height"]), True)
    elif shape.get("name") in ("polygon", "polyline"):
        points = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        yield Shape(image, name, _xy(list(points)), False)


def _qupath(path: Path) -> Iterator[Shape]:
    content = _json(path)
    for feature in content["features"] if isinstance(content, dict) and "features" in content else [content]:
        geometry = feature["geometry"]
        name = str((feature.get("properties", {}).get("classification") or {}).get("name", ONE_CLASS))
        polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        if geometry["type"] in ("Polygon", "MultiPolygon"):
            yield from (Shape(path.stem, name, _xy(rings[0]), False) for rings in polygons)


def _label_studio(path: Path) -> Iterator[Shape]:
    for task in _json(path):
        image = next(value for value in task["data"].values() if isinstance(value, str))
        for region in (region for one in task["annotations"] for region in one["result"]):
            value = region.get("value", {})
            name = str(next((names[0] for key, names in value.items() if key.endswith("labels") and names), ONE_CLASS))
            if "points" in value:
                yield Shape(image, name, _xy(value["points"]) / 100, False, True)
            elif {"x", "y", "width", "height"} <= value.keys():
                sides = (value[key] / 100 for key in ("x", "y", "width", "height"))
                yield Shape(image, name, _rectangle(*sides), True, True)


_READERS: dict[str, Callable[[Path], Iterator[Shape]]] = {
    "labelme": _labelme,
    "COCO": _coco,
    "CVAT": _cvat,
    "Pascal VOC": _voc,
    "YOLO": _yolo,
    "VGG Image Annotator": _via,
    "QuPath": _qupath,
    "Label Studio": _label_studio,
}
