"""PASCAL VOC 2012, with the masks of SBD if wanted: lists, palette PNGs and XML annotations of a VOCdevkit folder."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.config.images import VOC_CLASSES
from unia_med.data.checks import DataFault
from unia_med.data.io.suffixes import IMAGE_SUFFIXES
from unia_med.data.layouts.base import AnnotatedLayout, first_file, refuse_doubles
from unia_med.data.sample import CaseFiles, Part
from unia_med.data.splits import PARTS
from unia_med.errors import UserError, nearest
from unia_med.files import decoded

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig

IMAGES, ANNOTATIONS, LISTS = "JPEGImages", "Annotations", "ImageSets/Segmentation"
"""Folders of a VOCdevkit, the same in every year of the challenge."""


class VocDataset(AnnotatedLayout):
    """The images that the lists of a VOC folder name; each case is called like its image, as "2007_000032".

    Args:
        config: See `VocConfig`.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._settings = config.voc
        self.root = _year_folder(self.root)

    def found_cases(self, faults: list[DataFault]) -> list[CaseFiles]:
        """Return the listed images, train, val, test, adding what is wrong to `faults` in place of raising it."""
        if not (self.root / IMAGES).is_dir():
            remedy = "Give VOC2012 or the folder that holds it as data.root"
            raise UserError(f"holds no folder {IMAGES}", where=self.root, remedy=remedy)
        lists = {part: self.root / LISTS / f"{name}.txt" for part, name in self._lists().items()}
        if not lists["train"].is_file():
            there = sorted(path.stem for path in lists["train"].parent.glob("*.txt"))
            remedy = f"Set data.voc.train to one of {there}" if there else f"Put the lists into {LISTS}"
            raise UserError("no such list of training images", where=lists["train"], remedy=remedy)
        cases = [case for part, path in lists.items() for case in self._listed(part, path, faults)]
        refuse_doubles(cases, lists, faults)
        return cases

    def _lists(self) -> dict[Part, str]:
        names = {part: getattr(self._settings, part) for part in PARTS}
        return {part: name for part, name in names.items() if name is not None}

    def _listed(self, part: Part, path: Path, faults: list[DataFault]) -> list[CaseFiles]:
        if not path.is_file():
            return []
        folder = self.root / IMAGES
        try:
            lines = decoded(path.read_bytes()).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(DataFault(path, f"no list of names ({error})", "a text file", "Copy the file again"))
            return []
        names = [Path(words[0]).stem for line in lines if (words := line.split())]
        cases = []
        for name in names:
            image = next((file for suffix in IMAGE_SUFFIXES if (file := folder / f"{name}{suffix}").is_file()), None)
            if image is None:
                expected = f"an image of it in {folder}"
                faults.append(DataFault(path, f"the name {name!r}", expected, "Add it, or drop the name"))
                continue
            mask = first_file((self.root / masks for masks in self._settings.masks), f"{name}.png")
            case = CaseFiles(name, name, image, mask, part=part)
            self._check_case(case, faults)
            cases.append(case)
        return cases

    def _check_case(self, case: CaseFiles, faults: list[DataFault]) -> None:
        """Check sizes by the headers; a training image has a mask where tags are made of them."""
        super()._check_case(case, faults)
        if case.mask is None and case.part == "train" and self._tags_from == "masks":
            expected = f"{case.name}.png in {' or '.join(self._settings.masks)}, from which tags are made"
            remedy = "Add the mask or its folder to data.voc.masks, or set data.tags.source"
            faults.append(DataFault(case.image, "no mask", expected, remedy))

    def _annotated_classes(self, case: CaseFiles, faults: list[DataFault]) -> set[str]:
        path = self.root / ANNOTATIONS / f"{case.name}.xml"
        try:
            objects = ElementTree.parse(path).getroot().findall("object")
        except (OSError, ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:
            remedy = "Add the file, or take tags from masks or onehot (data.tags.source)"
            faults.append(DataFault(path, f"no readable annotation ({error})", "the XML file of VOC", remedy))
            return set()
        names = {(found.findtext("name") or "").strip() for found in objects}
        for name in sorted(names - set(self.classes) - set(VOC_CLASSES)):
            close = nearest(name, self.classes)
            remedy = f"Did you mean {close!r}?" if close else "Add it to data.classes, or correct the file"
            faults.append(DataFault(path, f"an object {name!r}", "a class of data.classes", remedy))
        return names


def _year_folder(root: Path) -> Path:
    """Return the folder that holds the images: the root itself, or the one VOC2012 (or other year) at or below it."""
    if (root / IMAGES).is_dir():
        return root
    years = (*sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*")))
    found = [year for year in years if (year / IMAGES).is_dir()]
    if len(found) > 1:
        remedy = "Give one of them as data.root"
        raise UserError(f"holds several years: {', '.join(year.name for year in found)}", where=root, remedy=remedy)
    return found[0] if found else root
