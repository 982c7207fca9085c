"""Tags of cases as a config asks for them: from a table, from weak labels or, for research, from masks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.checks import DataFault, faults_of, raise_faults
from unia_med.data.dataset import AnnotatedDataset
from unia_med.data.masks import sliced_labels
from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.onehot_tags import read_onehot_tags
from unia_med.data.weak_labels.tags import group_tags, read_tags_csv, tags_from_mask, unknown_tags
from unia_med.errors import UserError
from unia_med.labels import TAG_UNKNOWN

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig
    from unia_med.data.dataset import CaseDataset


def load_tags(
    dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return int8 tags (Z, T) per case by `config.tags.source`, merged into the config's groups if any.

    Args:
        dataset: Gives the masks; they are read one by one, for tags only, and not kept.
        cases: Cases that need tags.
        config: Uses `tags`, `labels`, `classes`, `groups` and `grid.slice_axis`, along which Z counts.
        seed: Of the run, for tags from weak labels that are made from masks.
    """
    if config.tags.source == "csv":
        tags = _table_tags(dataset, cases, config)
    elif config.tags.source == "annotations":
        tags = _annotation_tags(dataset, cases)
    elif config.tags.source == "onehot":
        tags = read_onehot_tags(tags_table(config), cases, config.classes)
    elif config.tags.source == "labels":
        from unia_med.data.weak_labels.load import load_label_tags  # brings torch, for the network's grid

        tags = load_label_tags(dataset, cases, config, seed)
    elif config.tags.source == "none":
        tags = {case: unknown_tags(n, len(config.classes)) for case, n in dataset.slice_counts(cases).items()}
    else:
        tags = _mask_tags(dataset, cases, config)
    if config.groups:
        tags = {case: group_tags(rows, config.classes, config.groups) for case, rows in tags.items()}
    return tags


def tags_table(config: DataConfig) -> Path:
    """Return the path of the tags table, see `DataConfig.located`."""
    path = config.tags.path
    assert path is not None  # the config asks for it where tags come from a file
    return config.located(path)


def _table_tags(dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig) -> dict[str, np.ndarray]:
    path = tags_table(config)
    table = read_tags_csv(path, config.classes, dataset.slice_counts(dataset.cases()))
    tags = {case.name: table[case.name] for case in cases}
    if config.tags.missing == "error":
        untold = [case for case in cases if (tags[case.name] == TAG_UNKNOWN).all()]
        remedy = "Add a row, leave the case out, or set data.tags.missing to unknown"
        raise_faults([DataFault(case.image, f"no tag in {path.name}", "a row for it", remedy) for case in untold], path)
    return tags


def _annotation_tags(dataset: CaseDataset, cases: Sequence[CaseFiles]) -> dict[str, np.ndarray]:
    if not isinstance(dataset, AnnotatedDataset):
        remedy = "Take them from masks, csv or labels; annotations are those of voc and coco"
        raise UserError("this data set has no annotations to take tags from", where="data.tags.source", remedy=remedy)
    return dataset.annotation_tags(cases)


def _mask_tags(dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig) -> dict[str, np.ndarray]:
    values = range(1, len(config.classes) + 1)

    faults: list[DataFault] = []

    def of_case(case: CaseFiles) -> np.ndarray | None:
        try:
            return tags_from_mask(sliced_labels(dataset.labels(case), case, config), values)
        except UserError as error:
            faults.extend(faults_of(error, case.mask or case.image))
            return None

    with ThreadPoolExecutor(max(1, config.workers)) as threads:
        found = list(threads.map(of_case, cases))
    raise_faults(sorted(faults, key=lambda fault: str(fault.file)), dataset.root)
    return {case.name: tags for case, tags in zip(cases, found, strict=True) if tags is not None}
