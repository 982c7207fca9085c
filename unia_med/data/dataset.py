"""The interface of a data set for training, validation, prediction and inspection, whatever its layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from unia_med.data.checks import DataFault
from unia_med.data.sample import CaseFiles, EvaluationCase


@runtime_checkable
class CaseDataset(Protocol):
    """Cases with their files; masks are read for tags of research runs, for validation and for evaluation only.

    A new layout is a class with these members, made from the data part of a config, and a line in
    `unia_med.registry.DATASETS`.

    Attributes:
        root: Folder of the data set.
        classes: The T class names of the config, before any merging.
        class_values: Value of each class in the mask files.
        own_values: Values of all classes that the layout itself defines, learned or not; empty where users define them.
    """

    root: Path
    classes: list[str]
    class_values: tuple[int, ...]
    own_values: tuple[int, ...]

    def cases(self) -> list[CaseFiles]:
        """Return all cases in a fixed order, with every header checked and no voxel read.

        Raises:
            UserError: Lists all faults of the data set at once.
        """

    def found_cases(self, faults: list[DataFault]) -> list[CaseFiles]:
        """Return the cases as `cases` does, adding what is wrong to `faults` in place of raising it.

        A case with a fault may or may not be among them.
        """

    def labels(self, case: CaseFiles) -> np.ndarray:
        """Return the mask of a case as uint8 (X, Y, Z): 0 background, 1..T in the order of `classes`."""

    def all_labels(self, cases: Sequence[CaseFiles]) -> Mapping[str, np.ndarray]:
        """Return the masks of several cases by case name; faults of all of them are reported together."""

    def evaluation_case(self, case: CaseFiles) -> EvaluationCase:
        """Return image and mask of one case, for validation and evaluation only."""

    def slice_counts(self, cases: Sequence[CaseFiles]) -> dict[str, int]:
        """Return the number of slices along `data.grid.slice_axis` by case name, from the headers alone."""


@runtime_checkable
class AnnotatedDataset(Protocol):
    """A data set that derives tags from annotations of objects, as `voc` and `coco` do."""

    def annotation_tags(self, cases: Sequence[CaseFiles]) -> dict[str, np.ndarray]:
        """Return int8 tags (Z, T) by case name; faults of all cases are reported together."""
