"""What all layouts of data sets share: cases listed once, masks read as classes, faults reported together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.config.data import layout_values
from unia_med.data.checks import DataFault, as_fault, faults_of, raise_faults
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.orientation import slice_count
from unia_med.data.io.read import read_header
from unia_med.data.io.read_labels import check_label_header, read_mask_on
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import VolumeInfo
from unia_med.data.masks import only_ignored, relabel
from unia_med.data.sample import CaseFiles, EvaluationCase, Part
from unia_med.errors import UserError
from unia_med.labels import BACKGROUND, IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig

_SHOWN_VALUES = 8


class Layout(ABC):
    """A data set in one layout; see `CaseDataset`. A layout lists its cases, and says which mask values it knows.

    Args:
        config: Needs `root` and `classes`; reads `class_values`, `channels`, `grid` and the layout's own part.

    Attributes:
        root: Folder of the data set.
        classes: The T class names, before any merging.
        class_values: Value of each class in the mask files.
        own_values: Values of all classes that the layout itself defines, see `registry.CLASS_VALUES`.
        channels: How an image's channels are stored.
    """

    def __init__(self, config: DataConfig) -> None:
        if config.root is None:
            raise UserError("no data folder is named", where="data.root", remedy="Add --set data.root=DIR")
        self.root = Path(config.root)
        self.classes = list(config.classes)
        self.class_values = tuple(config.mask_values.values())
        self.own_values = tuple(layout_values(config.name).values())
        self.channels = ChannelFiles.of(config)
        self._background_values = tuple(config.background_values)
        self._grid = config.grid
        self._tags_from = config.tags.source
        self._cases: list[CaseFiles] | None = None
        self._headers: dict[Path, VolumeInfo] = {}

    @abstractmethod
    def found_cases(self, faults: list[DataFault]) -> list[CaseFiles]:
        """Return the cases as `cases` does, adding what is wrong to `faults` in place of raising it."""

    @property
    @abstractmethod
    def foreign_remedy(self) -> str:
        """What to do about a mask with other values."""

    @abstractmethod
    def missing_mask(self, case: CaseFiles) -> DataFault:
        """Return the fault of a case that has no mask."""

    @property
    def known_values(self) -> tuple[int, ...]:
        """Values that a mask may hold: background, the classes, and what counts as background."""
        return (BACKGROUND, *self.class_values, *self._background_values)

    def cases(self) -> list[CaseFiles]:
        """Return all cases in a fixed order, with every header checked and no voxel read.

        Raises:
            UserError: Lists all faults of the data set at once.
        """
        if self._cases is None:
            faults: list[DataFault] = []
            cases = self.found_cases(faults)
            raise_faults(faults, self.root)
            self._cases = cases
        return list(self._cases)

    def labels(self, case: CaseFiles) -> np.ndarray:
        """Return the mask of a case as uint8 (X, Y, Z): 0 background, 1..T classes, IGNORE on borders of pictures."""
        return self.all_labels([case])[case.name]

    def all_labels(self, cases: Sequence[CaseFiles]) -> dict[str, np.ndarray]:
        """Return the masks of several cases by case name; faults of all of them are reported together."""
        faults: list[DataFault] = []
        labels = {case.name: self._labels(case, faults) for case in cases}
        raise_faults(faults, self.root)
        return labels

    def evaluation_case(self, case: CaseFiles) -> EvaluationCase:
        """Return image and mask of one case, for validation and evaluation only."""
        volume, labels = self.channels.read(case.image), self.labels(case)
        if labels.shape != volume.shape[:3]:
            expected = f"{volume.shape[:3]} as the image"
            remedy = "Image and mask must have the same size"
            raise_faults([DataFault(case.mask or case.image, f"shape {labels.shape}", expected, remedy)])
        return EvaluationCase(case, volume, labels)

    def slice_counts(self, cases: Sequence[CaseFiles]) -> dict[str, int]:
        """Return the number of slices along `data.grid.slice_axis` by case name, from the headers alone."""
        infos = {case.name: self._headers.get(case.image) or self.channels.header(case.image) for case in cases}
        return {case: slice_count(info.shape, info.affine, self._grid.slice_axis) for case, info in infos.items()}

    def _labels(self, case: CaseFiles, faults: list[DataFault]) -> np.ndarray:
        nothing = np.zeros((0, 0, 0), np.uint8)
        if case.mask is None:
            faults.append(self.missing_mask(case))
            return nothing
        try:
            mask = read_mask_on(case.mask, read_header(case.image), self.classes, self.class_values)
        except UserError as error:
            faults.extend(faults_of(error, case.mask))
            return nothing
        ignore = is_image(case.mask)
        fault = self._foreign_values(mask, case.mask, ignore)
        if fault is not None:
            faults.append(fault)
            return nothing
        return relabel(mask, self.class_values, ignore)

    def _foreign_values(self, mask: np.ndarray, path: Path, ignore: bool) -> DataFault | None:
        known = {*self.known_values, IGNORE} if ignore else set(self.known_values)
        foreign = sorted(set(np.unique(mask).tolist()) - known)
        if ignore and not foreign and IGNORE not in self.known_values and only_ignored(mask):
            remedy = "Give the class this value (data.class_values: [255]), or save the mask with class numbers"
            expected = "a class; 255 marks pixels that do not count"
            return DataFault(path, "label values 0 and 255 alone", expected, remedy)
        if not foreign:
            return None
        found = f"label values {', '.join(f'{value:g}' for value in foreign[:_SHOWN_VALUES])}"
        return DataFault(path, found, f"only {_span(known)}", self.foreign_remedy)

    def _check_case(self, case: CaseFiles, faults: list[DataFault]) -> None:
        """Add what is wrong with the headers of a case: unreadable files, and labels on another grid than the image."""
        try:
            info = self.channels.header(case.image)
        except UserError as error:
            faults.append(as_fault(error, case.image))
            return
        self._headers[case.image] = info
        for path in dict.fromkeys((*([case.mask] if case.mask else []), *case.labels.values())):
            self._check_label(path, info, faults)

    def _check_label(self, path: Path, image: VolumeInfo, faults: list[DataFault]) -> None:
        """Add a fault where a mask or weak label cannot be brought to the grid of its image.

        Another extent, spacing or orientation is no fault: such labels are brought to the image's grid when they are
        read.
        """
        try:
            check_label_header(path, image)
        except UserError as error:
            faults.append(as_fault(error, path, f"labels that overlap {image.path.name} in mm"))


class AnnotatedLayout(Layout):
    """A layout whose annotations of objects give tags, and whose images are cases and "patients" of their own."""

    @abstractmethod
    def _annotated_classes(self, case: CaseFiles, faults: list[DataFault]) -> set[str]:
        """Return the names of the classes that the annotation of an image holds."""

    def annotation_tags(self, cases: Sequence[CaseFiles]) -> dict[str, np.ndarray]:
        """Return int8 tags (1, T) by case name from the annotations of objects, for `tags.source: annotations`.

        A class is present when any object of it is annotated, a crowd, a difficult or a truncated one too, and else
        absent.
        """
        faults: list[DataFault] = []
        tags = {}
        for case in cases:
            names = self._annotated_classes(case, faults)
            tags[case.name] = np.array([[name in names for name in self.classes]], np.int8)
        raise_faults(faults, self.root)
        return tags

    @property
    def foreign_remedy(self) -> str:
        """What to do about a mask with other values."""
        return "Name these classes in data.classes and data.class_values"

    def missing_mask(self, case: CaseFiles) -> DataFault:
        """Return the fault of a case that has no mask."""
        remedy = "Add the mask, or set data.tags.source to annotations, onehot or csv"
        return DataFault(case.image, "no mask", "one with these tags (data.tags.source)", remedy)


def first_file(folders: Iterable[Path], name: str) -> Path | None:
    """Return the file of a name in the first folder that has it, or None."""
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def refuse_doubles(cases: Sequence[CaseFiles], where: Mapping[Part, Path], faults: list[DataFault]) -> None:
    """Add a fault for each image that is listed twice, in one part or in two.

    Args:
        cases: All cases.
        where: List or annotation file of each part.
        faults: Gets them.
    """
    first: dict[str, Part] = {}
    for case in cases:
        part = case.part or "train"
        if case.name in first:
            found = f"{case.name}, which is in {where[first[case.name]].name} already"
            faults.append(DataFault(where[part], found, "each image once", "Remove it from one of the two"))
        first.setdefault(case.name, part)


def _span(values: Iterable[int]) -> str:
    """Return values as text: `[0, 1, 2]`, or `0 to 20, 255` where there are many."""
    runs: list[list[int]] = []
    ordered = sorted(set(values))
    if len(ordered) <= _SHOWN_VALUES:
        return str(ordered)
    for value in ordered:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 3 else ", ".join(map(str, run)) for run in runs)
