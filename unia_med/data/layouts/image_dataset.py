"""What the data sets of photographs share: one slice per case, masks as PNG, faults told together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.checks import DataFault, faults_of, raise_faults
from unia_med.data.io.image import read_image, read_mask
from unia_med.data.masks import relabel
from unia_med.data.sample import CaseFiles, EvaluationCase
from unia_med.errors import UserError
from unia_med.labels import IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig


class ImageDataset(ABC):
    """Photographs, each a case of one slice and a "patient" of its own.

    Args:
        config: Needs `root` and `classes`; reads `class_values`, `channels` and `tags.source`.
        other_values: Mask values that are no class and count as background.
    """

    def __init__(self, config: DataConfig, other_values: Iterable[int]) -> None:
        if config.root is None:
            raise UserError("no data folder is named", where="data.root", remedy="Add --set data.root=DIR")
        self.root = Path(config.root)
        self.classes = list(config.classes)
        self.class_values = tuple(config.mask_values.values())
        self._channels = config.channels
        self._tags_from = config.tags.source
        self._other_values = tuple(other_values)
        self._cases: list[CaseFiles] | None = None

    @abstractmethod
    def found_cases(self, faults: list[DataFault]) -> list[CaseFiles]:
        """Return the cases as `cases` does, adding what is wrong to `faults` in place of raising it."""

    @abstractmethod
    def _annotated_classes(self, case: CaseFiles, faults: list[DataFault]) -> set[str]:
        """Return the names of the classes that the annotation of an image holds."""

    def cases(self) -> list[CaseFiles]:
        """Return all cases in order of parts and names; no pixel is read.

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
        """Return the mask of a case as uint8 (H, W, 1): 0 background, 1..T classes, IGNORE on borders."""
        if case.mask is None:
            remedy = "Add the mask, or set data.tags.source to annotations, onehot or csv"
            raise_faults([DataFault(case.image, "no mask", "one with these tags (data.tags.source)", remedy)])
        mask = read_mask(case.mask).array
        known = {0, IGNORE, *self.class_values, *self._other_values}
        foreign = sorted(set(np.unique(mask).tolist()) - known)
        if foreign:
            found = f"label values {', '.join(map(str, foreign[:8]))}"
            remedy = "Name these classes in data.classes and data.class_values, or list them in other_values"
            raise_faults([DataFault(case.mask, found, f"0, {IGNORE} and {_span(self.class_values)}", remedy)])
        labels = relabel(mask, self.class_values)
        labels[mask == IGNORE] = IGNORE
        return labels

    def all_labels(self, cases: Sequence[CaseFiles]) -> dict[str, np.ndarray]:
        """Return the masks of several cases by case name; faults of all of them are reported together."""
        faults: list[DataFault] = []
        found = {}
        for case in cases:
            try:
                found[case.name] = self.labels(case)
            except UserError as error:
                faults.extend(faults_of(error, case.mask or case.image))
        raise_faults(faults, self.root)
        return found

    def evaluation_case(self, case: CaseFiles) -> EvaluationCase:
        """Return image and mask of one case, for validation and evaluation only."""
        volume, labels = read_image(case.image, self._channels), self.labels(case)
        if labels.shape != volume.shape[:3]:
            expected = f"{volume.shape[:2]} as the image"
            remedy = "Image and mask must have the same size in pixels"
            raise_faults([DataFault(case.mask, f"size {labels.shape[:2]}", expected, remedy)])
        return EvaluationCase(case, volume, labels)

    def slice_counts(self, cases: Sequence[CaseFiles]) -> dict[str, int]:
        """Return 1 for every case."""
        return {case.name: 1 for case in cases}

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


def first_file(folders: Iterable[Path], name: str) -> Path | None:
    """Return the file of a name in the first folder that has it, or None."""
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def refuse_doubles(cases: Sequence[CaseFiles], where: dict[str, Path], faults: list[DataFault]) -> None:
    """Add a fault for each image that is listed twice, in one part or in two.

    Args:
        cases: All cases.
        where: List or annotation file of each part.
        faults: Gets them.
    """
    first: dict[str, str | None] = {}
    for case in cases:
        if case.name in first:
            found = f"{case.name}, which is in {where[first[case.name]].name} already"
            faults.append(DataFault(where[case.part], found, "each image once", "Remove it from one of the two"))
        first.setdefault(case.name, case.part)


def _span(values: Sequence[int]) -> str:
    plain = list(values) == list(range(1, len(values) + 1))
    return f"1 to {len(values)}" if plain else ", ".join(map(str, values))
