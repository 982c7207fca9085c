"""COCO: annotation files with polygons, run lengths and crowds, to tags and, for scoring, to masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unia_med.data.checks import DataFault, raise_faults
from unia_med.data.layouts.base import AnnotatedLayout, first_file, refuse_doubles
from unia_med.data.sample import CaseFiles, Part
from unia_med.data.splits import PARTS
from unia_med.errors import UserError, nearest
from unia_med.files import read_json
from unia_med.labels import BACKGROUND, IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig

_MOST_PIXELS = 1 << 16
_PARTS_OF_A_FILE = ("images", "annotations", "categories")

Objects = dict[str, tuple[Mapping[str, Any], list[Mapping[str, Any]]]]
"""Entry of the image and annotations, with their category's name, by case."""


class CocoDataset(AnnotatedLayout):
    """The images of COCO annotation files; each case is called like its file, as "COCO_val2014_000000000042".

    Categories are known by their names, so that their ids, which have gaps, matter nowhere else.

    Args:
        config: See `CocoConfig`.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._settings = config.coco
        self._classes_of: dict[str, set[str]] = {}
        self._objects: dict[Path, Objects] = {}

    def found_cases(self, faults: list[DataFault]) -> list[CaseFiles]:
        """Return the images of all files, train, val, test, adding what is wrong to `faults` and raising nothing."""
        names = {part: getattr(self._settings, part) for part in PARTS}
        files = {part: self.root / name for part, name in names.items() if name is not None}
        if not files["train"].is_file():
            there = sorted(path.relative_to(self.root).as_posix() for path in self.root.glob("annotations/*.json"))
            remedy = f"Set data.coco.train to one of {there}" if there else "Set data.coco.train"
            raise UserError("no such annotation file", where=files["train"], remedy=remedy)
        cases = [case for part, path in files.items() if path.is_file() for case in self._annotated(part, path, faults)]
        refuse_doubles(cases, files, faults)
        return cases

    def _labels(self, case: CaseFiles, faults: list[DataFault]) -> np.ndarray:
        """Return the mask of a case as uint8 (H, W, 1): 0 background, 1..T classes, IGNORE on crowds and borders.

        Where objects overlap, the smaller lies on top. Outlines are drawn by pycocotools.
        """
        if case.mask is None or case.mask.suffix != ".json":
            return super()._labels(case, faults)
        if case.mask not in self._objects:
            self._objects[case.mask] = _objects(_read(case.mask))
        entry, objects = self._objects[case.mask][case.name]
        height, width = self._size(entry, case)
        labels = np.full((height, width), BACKGROUND, np.uint8)
        ignored = np.zeros((height, width), bool)
        numbers = {name: label for label, name in enumerate(self.classes, 1)}
        for found in sorted(objects, key=lambda found: -_area(found)):
            if found["category"] not in numbers:
                continue
            inside = _drawn(found, height, width, case.mask)
            if found.get("iscrowd"):  # its outline holds other things, too
                ignored |= inside
            else:
                labels[inside] = numbers[found["category"]]
        labels[ignored & (labels == BACKGROUND)] = IGNORE
        return labels[:, :, None]

    def _size(self, entry: Mapping[str, Any], case: CaseFiles) -> tuple[int, int]:
        """Return height and width of an image from its entry, or from its file where the entry does not say them."""
        if entry.get("height") is None and entry.get("width") is None:
            height, width = self.channels.header(case.image).shape[:2]
            return height, width
        return _stated_size(entry, case.mask or case.image)

    def _annotated(self, part: Part, path: Path, faults: list[DataFault]) -> list[CaseFiles]:
        content = _read(path)
        names = self._categories(content, path, faults)
        classes: dict[int, set[str]] = {image["id"]: set() for image in content["images"]}
        unknown: dict[int, int] = defaultdict(int)
        homeless = 0
        for found in content["annotations"]:
            if found["image_id"] not in classes:
                homeless += 1
            elif found["category_id"] not in names:
                unknown[found["category_id"]] += 1
            else:
                classes[found["image_id"]].add(names[found["category_id"]])
        for number, count in sorted(unknown.items(), key=str):
            text = f"{count} annotations of category id {number}"
            faults.append(DataFault(path, text, "an id of its categories", "Add the category, or remove these"))
        if homeless:
            text = f"{homeless} annotations of images that are not listed"
            faults.append(DataFault(path, text, "listed images", "Add the images, or remove these"))
        return self._cases_of(part, path, content["images"], classes, faults)

    def _categories(self, content: Mapping[str, Any], path: Path, faults: list[DataFault]) -> dict[int, str]:
        names = {category["id"]: category["name"] for category in content["categories"]}
        for name in sorted(set(names.values()) - set(self.classes) - set(self._settings.other_categories)):
            close = nearest(name, self.classes)
            remedy = f"Did you mean {close!r}? Else add it" if close else "Add it"
            remedy += " to data.classes, or to data.coco.other_categories if it shall be background"
            faults.append(DataFault(path, f"category {name!r}", "a class of data.classes", remedy))
        return names

    def _cases_of(
        self,
        part: Part,
        path: Path,
        images: list[Mapping[str, Any]],
        classes: Mapping[int, set[str]],
        faults: list[DataFault],
    ) -> list[CaseFiles]:
        folder = self.root / (self._settings.images or path.stem.removeprefix("instances_"))
        # One listing, since asking for 80,000 files one by one is slow on a network drive.
        present = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        cases = []
        for image in images:
            name = Path(image["file_name"]).name
            if name not in present:
                expected, remedy = f"it in {folder}", "Add the image, or set data.coco.images to the folder"
                faults.append(DataFault(path, f"the image {name}", expected, remedy))
                continue
            case = Path(name).stem
            folders = [self.root / masks for masks in self._settings.masks]
            mask = first_file(folders, f"{case}.png") if folders else path
            self._classes_of[case] = classes[image["id"]]
            cases.append(CaseFiles(case, case, folder / name, mask, part=part))
        return sorted(cases, key=lambda case: case.name)

    def _annotated_classes(self, case: CaseFiles, faults: list[DataFault]) -> set[str]:
        return self._classes_of[case.name]


def _read(path: Path) -> dict[str, Any]:
    """Return an annotation file after checking the entries that are used."""
    content = read_json(path, "Copy the file again")
    found = content if isinstance(content, dict) else {}
    missing = [key for key in _PARTS_OF_A_FILE if not isinstance(found.get(key), list)]
    if missing:
        remedy = "Give an instances_*.json; captions and keypoints have no outlines"
        raise UserError(f"lacks the lists {', '.join(missing)}", where=path, remedy=remedy)
    needed = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id"), "categories": ("id", "name")}
    for part, keys in needed.items():
        for position, entry in enumerate(content[part]):
            if not isinstance(entry, dict) or any(not _is_key(entry.get(key)) for key in keys):
                what = f"entry {position} of {part} lacks {' or '.join(keys)} as a number or text"
                raise UserError(what, where=path, remedy="Correct the entry, or copy the file again")
            for key in ("file_name", "name"):
                if key in keys and not isinstance(entry[key], str):
                    what = f"entry {position} of {part} has the {key} {entry[key]!r}, expected a text"
                    raise UserError(what, where=path, remedy="Correct the entry, or copy the file again")
    return content


def _is_key(value: Any) -> bool:
    """Return whether a value can be an id: a number or a text."""
    return isinstance(value, (int, str)) and not isinstance(value, bool) and value != ""


def _area(found: Mapping[str, Any]) -> float:
    """Return the area of an object, of its box where none is given, in pixels; 0 where neither is given."""
    numbers: list[Any] = [found.get("area")] if found.get("area") is not None else []
    try:
        if not numbers and found.get("bbox"):
            numbers = [float(found["bbox"][2]) * float(found["bbox"][3])]
        area = float(numbers[0]) if numbers else 0.0
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        return 0.0
    return area if np.isfinite(area) else 0.0


def _stated_size(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Return height and width of an image from its entry."""
    try:
        height, width = int(image["height"]), int(image["width"])
    except (KeyError, TypeError, ValueError, OverflowError):
        height = width = 0
    if not (0 < height < _MOST_PIXELS and 0 < width < _MOST_PIXELS):
        what = f"image {image['id']} has the height {image.get('height')!r} and the width {image.get('width')!r}"
        raise UserError(what, where=path, remedy="Write its size in pixels, or copy the file again")
    return height, width


def _objects(content: Mapping[str, Any]) -> Objects:
    """Return the entry of the image and its objects, with their category's name, by case."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for found in content["annotations"]:
        by_image[found["image_id"]].append({**found, "category": names.get(found["category_id"])})
    return {Path(image["file_name"]).stem: (image, by_image[image["id"]]) for image in content["images"]}


def _drawn(found: Mapping[str, Any], height: int, width: int, path: Path) -> np.ndarray:
    """Bool (H, W), the pixels of an object: polygons, run lengths as numbers, or packed run lengths."""
    shape: Any = found.get("segmentation")
    number = f"annotation {found.get('id')}"
    if shape is None:
        remedy = "Give an instances_*.json with outlines, or take tags alone (data.tags.source: annotations)"
        raise_faults([DataFault(path, f"{number} without an outline (segmentation)", "an outline to draw", remedy)])
    try:
        return _polygons(shape, height, width) if isinstance(shape, list) else _runs(shape, height, width)
    except ImportError as error:
        remedy = "Run: pip install 'unia-med[coco]', or name folders of mask PNGs in data.coco.masks"
        raise UserError("masks from annotations need pycocotools", where=path, remedy=remedy) from error
    except Exception as error:  # pycocotools raises whatever its C code meets
        expected = f"polygons or run lengths of an image of {height} x {width}"
        text = f"{number}, whose outline cannot be drawn ({error})"
        raise_faults([DataFault(path, text, expected, "Repair or remove it")])
        raise


def _polygons(shape: list[Any], height: int, width: int) -> np.ndarray:
    from pycocotools import mask as drawing

    if not shape:
        return np.zeros((height, width), bool)
    for corners in shape if isinstance(shape[0], (list, dict)) else [shape]:
        places = np.asarray(corners, np.float64)
        if places.ndim != 1 or not (np.abs(places) < 2 * _MOST_PIXELS).all():  # its C code would ask for any memory
            raise ValueError("corners that are no numbers, or far outside of any image")
    inside: np.ndarray = drawing.decode(drawing.merge(drawing.frPyObjects(shape, height, width))).astype(bool)
    return inside


def _runs(shape: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """Bool (H, W) of run lengths, column by column, by turns outside and inside.

    Read here, since pycocotools writes beyond its memory where they are longer than the image.
    """
    if [int(size) for size in shape["size"]] != [height, width]:
        raise ValueError(f"run lengths of size {shape['size']}")
    stated = shape["counts"]
    counts = np.asarray(_unpacked(stated) if isinstance(stated, str) else stated)
    if counts.ndim != 1 or counts.dtype.kind not in "iuf" or not (counts == np.floor(counts)).all():
        raise ValueError("run lengths that are no whole numbers")
    if (counts < 0).any() or counts.sum(dtype=np.float64) > height * width:
        raise ValueError("run lengths that are negative, or longer than the image")
    flat = np.zeros(height * width, bool)
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts.astype(np.int64))
    flat[: len(runs)] = runs
    return flat.reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """Return run lengths of COCO's packed form: five bits a letter, later ones as differences to the last but one.

    Args:
        text: as pycocotools writes it.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("packed run lengths that nobody wrote")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("packed run lengths that are cut off")
    return counts
