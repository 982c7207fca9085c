"""The true labels that predictions are scored against: label files of a folder, or the masks of a data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.checks import DataFault
from unia_med.data.io.read import read_header
from unia_med.data.io.suffixes import is_image, is_segmentation
from unia_med.data.io.volume import VolumeInfo
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError
from unia_med.evaluation.labels import LabelScheme, plain_labels, scheme_of_segments
from unia_med.evaluation.pairs import Labels, find_labels, read_labels
from unia_med.names import number_of

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.data.dataset import CaseDataset

Truth = Callable[[VolumeInfo | None], Labels]
"""Reads the true labels of a case, uint8 0..T and IGNORE; given the grid of its prediction, if that has one."""


def segment_scheme(labels: Path) -> LabelScheme | None:
    """Return the scheme that label files give which name their segments, as viewers' do; None where they do not."""
    if not labels.exists():
        return None
    files = list(find_labels(labels, quiet=True).values())
    if not files or not all(is_segmentation(path) for path in files):
        return None
    return scheme_of_segments(read_labels(path) for path in files)


def truths(labels: Path, scheme: LabelScheme | None, config: RunConfig | None, split: str | None) -> dict[str, Truth]:
    """Return what reads the true labels, by case, in order.

    Args:
        labels: Folder of label files, one label file, or the folder of the config's data set.
        scheme: Meaning of the values; None where classes have no names.
        config: Says the layout of the data set.
        split: Part of the data set.

    Raises:
        UserError: There are no labels, or a case of the split has none.
    """
    if config is not None:
        cases = _cases(labels, config, split)
        if cases is not None:
            dataset, masked = cases
            return {case.name: partial(_mask_of, dataset, case, config) for case in masked}
    return {case: partial(_label_file, path, scheme) for case, path in find_labels(labels).items()}


def _cases(labels: Path, config: RunConfig, split: str | None) -> tuple[CaseDataset, list[CaseFiles]] | None:
    """Return the cases with masks of the config's data set; None where `labels` is a folder of label files instead."""
    from unia_med.build import build_dataset

    if labels.is_file():
        if split is None:
            return None
        raise UserError("one file has no split", where="--split", remedy="Give the folder of the data set as --labels")
    if split is not None:
        dataset = build_dataset(config.data.model_copy(update={"root": labels}))
        return dataset, _part(dataset, config, labels, split)
    try:
        dataset = build_dataset(config.data.model_copy(update={"root": labels}))
        faults: list[DataFault] = []
        masked = [case for case in dataset.found_cases(faults) if case.mask is not None]
    except UserError:
        return None  # not in the layout of the data set: label files, or a message of what is missing from there
    if not masked:
        return None
    return dataset, [case for case in dataset.cases() if case.mask is not None]


def _part(dataset: CaseDataset, config: RunConfig, labels: Path, split: str) -> list[CaseFiles]:
    from unia_med.data.splits import split_cases

    cases = split_cases(dataset.cases(), config.data.split, config.seed)[split]
    if not cases:
        raise UserError(f"the split leaves no {split} case", where=labels, remedy="Change data.split")
    unlabelled = [case.name for case in cases if case.mask is None]
    if unlabelled:
        shown = ", ".join(unlabelled[:5])
        remedy = "Add the masks, or score another part by --split"
        raise UserError(
            f"no mask of {number_of(len(unlabelled), f'{split} case')}: {shown}", where=labels, remedy=remedy
        )
    return cases


def _mask_of(dataset: CaseDataset, case: CaseFiles, config: RunConfig, grid: VolumeInfo | None) -> Labels:
    from unia_med.data.weak_labels.tags import group_labels

    array = dataset.labels(case)
    if config.data.groups:
        array = group_labels(array, config.data.classes, config.data.groups)
    if is_image(case.image):
        return Labels(array[:, :, 0], None, case.mask)
    return Labels(array, np.asarray(read_header(case.image).affine, np.float64), case.mask)


def _label_file(path: Path, scheme: LabelScheme | None, grid: VolumeInfo | None) -> Labels:
    found = read_labels(path, grid)
    return plain_labels(found, "the label", found.affine is None) if scheme is None else scheme.labels(found)
