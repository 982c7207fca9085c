"""Reading dense masks of volumes, with the faults of several told together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.checks import DataFault, as_fault, raise_faults
from unia_med.data.io.orientation import orient_array
from unia_med.data.io.read import read_header
from unia_med.data.io.read_labels import read_mask_on
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig


class MaskedVolumes(ABC):
    """The part of a `CaseDataset` that reads masks; a layout says which values it knows and how to mend the rest.

    Attributes:
        root: Folder of the data set.
        classes: Names of the classes, by which a viewer's segments are told.
        class_values: Value of each class in the mask files.
    """

    root: Path
    classes: list[str]
    class_values: tuple[int, ...]

    @property
    @abstractmethod
    def known_values(self) -> tuple[int, ...]:
        """Values that a mask may hold: background, the classes, and what counts as background."""

    @property
    @abstractmethod
    def foreign_remedy(self) -> str:
        """How to mend a mask with other values."""

    @abstractmethod
    def missing_mask(self, case: CaseFiles) -> DataFault:
        """Return the fault of a case that has no mask."""

    def labels(self, case: CaseFiles) -> np.ndarray:
        """Return the mask of a case as uint8 (X, Y, Z): 0 background, 1..T in the order of `classes`."""
        return self.all_labels([case])[case.name]

    def all_labels(self, cases: Sequence[CaseFiles]) -> dict[str, np.ndarray]:
        """Return the masks of several cases by case name; faults of all of them are reported together."""
        faults: list[DataFault] = []
        labels = {case.name: self._labels(case, faults) for case in cases}
        raise_faults(faults, self.root)
        return labels

    def _labels(self, case: CaseFiles, faults: list[DataFault]) -> np.ndarray:
        if case.mask is None:
            faults.append(self.missing_mask(case))
            return np.zeros((0, 0, 0), np.uint8)
        try:
            mask = read_mask_on(case.mask, read_header(case.image), self.classes, self.class_values)
        except UserError as error:
            faults.append(as_fault(error, case.mask))
            return np.zeros((0, 0, 0), np.uint8)
        foreign = sorted(set(np.unique(mask).tolist()) - set(self.known_values))
        if foreign:
            found = ", ".join(f"{value:g}" for value in foreign[:8])
            expected = f"only {sorted(set(self.known_values))}"
            faults.append(DataFault(case.mask, f"label values {found}", expected, self.foreign_remedy))
        return relabel(mask, self.class_values)


def relabel(mask: np.ndarray, class_values: Sequence[int]) -> np.ndarray:
    """Return uint8 labels of the mask's shape: k + 1 where the mask is `class_values[k]`, 0 elsewhere."""
    labels = np.zeros(mask.shape, np.uint8)
    for label, value in enumerate(class_values, start=1):
        labels[mask == value] = label
    return labels


def sliced_labels(labels: np.ndarray, case: CaseFiles, config: DataConfig) -> np.ndarray:
    """Return a mask (X, Y, Z) turned as its image's slices are; see `GridConfig.slice_axis`."""
    axis = config.grid.slice_axis
    return labels if axis == "stored" else orient_array(labels, read_header(case.image).affine, axis)
