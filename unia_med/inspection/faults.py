"""Walks a data set and gathers every fault, of files, tables and splits, before any of them stops a training."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.checks import DataFault, faults_of
from unia_med.data.sample import CaseFiles
from unia_med.data.splits import PARTS, split_cases
from unia_med.data.weak_labels.case_tags import load_tags, tags_table
from unia_med.data.weak_labels.meaning import unsaid_background
from unia_med.data.weak_labels.read import find_files
from unia_med.data.weak_labels.tags import read_tags_csv, tagged_as_a_whole
from unia_med.errors import UserError
from unia_med.inspection.case_facts import CaseFacts, gather
from unia_med.labels import TAG_UNKNOWN

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig, RunConfig
    from unia_med.data.dataset import CaseDataset

Progress = Callable[[int, int], None]
"""Called with how many cases are done and how many there are."""


@dataclass
class Walk:
    """A data set after every file of it was read once.

    Attributes:
        facts: per case, in the order of the cases.
        parts: "train", "val" or "test" by case; cases that no part uses are missing.
        tags: int8 (Z, T) by case, before any merging of classes; empty where they could not be had.
        faults: all that is wrong.
        whole: training cases whose table of tags names no slice of them, though they have several.
    """

    facts: list[CaseFacts]
    parts: dict[str, str]
    tags: dict[str, np.ndarray]
    faults: list[DataFault]
    whole: Sequence[str] = ()


def walk(dataset: CaseDataset, config: RunConfig, progress: Progress = lambda done, total: None) -> Walk:
    """Read everything there is, in parallel.

    Args:
        dataset: What to look at.
        config: `data` and `seed` are read.
        progress: See `Progress`.

    Raises:
        UserError: There is no case at all.
    """
    faults: list[DataFault] = []
    cases = dataset.found_cases(faults)
    if not cases:
        first = f" The first fault: {faults[0]}" if faults else ""
        raise UserError(f"not one usable case.{first}", where=dataset.root, remedy="Check data.root")
    parts = _parts(cases, config, faults)
    files = _label_files(cases, config.data, faults)
    facts = _gather_all(dataset, cases, config.data, files, progress)
    faults.extend(fault for one in facts for fault in one.faults)
    faults.extend(_unsaid(facts, config.data, files))
    tags = _tags(dataset, facts, parts, config.data, faults)
    faults.extend(_shared_images(facts, parts))
    return Walk(facts, parts, tags, _without_repeats(faults), _tagged_as_a_whole(facts, tags, config.data))


def _gather_all(
    dataset: CaseDataset,
    cases: Sequence[CaseFiles],
    config: DataConfig,
    files: dict[int, dict[str, Path]],
    progress: Progress,
) -> list[CaseFacts]:
    # Threads: most of the time goes into unpacking and counting, which numpy and zlib do outside the lock.
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        waiting = {threads.submit(gather, dataset, case, config, files): i for i, case in enumerate(cases)}
        found: dict[int, CaseFacts] = {}
        for done, future in enumerate(as_completed(waiting), start=1):
            found[waiting[future]] = future.result()
            progress(done, len(cases))
    return [found[i] for i in range(len(cases))]


def _parts(cases: Sequence[CaseFiles], config: RunConfig, faults: list[DataFault]) -> dict[str, str]:
    try:
        split = split_cases(cases, config.data.split, config.seed)
    except UserError as error:
        faults.append(DataFault(error.where or "data.split", error.what, "a split by patient", error.remedy or ""))
        return {case.name: "train" for case in cases}
    return {case.name: part for part in PARTS for case in split[part]}


def _label_files(cases: Sequence[CaseFiles], config: DataConfig, faults: list[DataFault]) -> dict[int, dict[str, Path]]:
    """Label files by position in `data.labels`; labels that are made from masks have none."""
    found = {}
    for position, source in enumerate(config.labels):
        if source.source == "files":
            try:
                found[position] = find_files(source, cases, config)
            except UserError as error:
                faults.append(DataFault(error.where or "data.labels", error.what, "label files", error.remedy or ""))
    return found


def _unsaid(facts: Sequence[CaseFacts], config: DataConfig, files: dict[int, dict[str, Path]]) -> list[DataFault]:
    """Return label sets whose 0 can mean background or nothing, while the config leaves it open."""
    found = []
    for position, source in enumerate(config.labels):
        counts = [one.labels[position].background for one in facts if position in one.labels]
        known = [count for count in counts if count is not None]
        found.append(unsaid_background(source, known, list(files.get(position, {}).values()), position))
    return [fault for fault in found if fault is not None]


def _tags(
    dataset: CaseDataset,
    facts: Sequence[CaseFacts],
    parts: dict[str, str],
    config: DataConfig,
    faults: list[DataFault],
) -> dict[str, np.ndarray]:
    training = [one for one in facts if parts.get(one.files.name) == "train"]
    if config.tags.source == "csv":
        return _table_tags(facts, training, config, faults)
    if config.tags.source in ("annotations", "onehot"):
        return _stated_tags(dataset, [one.files for one in training if one.shape is not None], config, faults)
    if config.tags.source == "masks":
        for one in training:
            if one.files.mask is None:
                remedy = "Add the mask, or give tags by a table (data.tags.source: csv)"
                faults.append(DataFault(one.files.image, "no mask", "one to derive tags from", remedy))
    return {one.files.name: one.mask_tags for one in training if one.mask_tags is not None}


def _stated_tags(
    dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig, faults: list[DataFault]
) -> dict[str, np.ndarray]:
    """Return the tags that annotations of objects or a list give, before any merging of classes."""
    try:
        return load_tags(dataset, cases, config.model_copy(update={"groups": None}))
    except UserError as error:
        faults.extend(faults_of(error, dataset.root))
        return {}


def _table_tags(
    facts: Sequence[CaseFacts], training: Sequence[CaseFacts], config: DataConfig, faults: list[DataFault]
) -> dict[str, np.ndarray]:
    path = tags_table(config)
    counts = {one.files.name: one.slices for one in facts if one.shape is not None}
    try:
        table = read_tags_csv(path, config.classes, counts)
    except UserError as error:
        unread = {one.files.name for one in facts if one.shape is None}
        faults.extend(f for f in faults_of(error, path) if not any(repr(case) in f.found for case in unread))
        return {}
    found = {one.files.name: table[one.files.name] for one in training if one.files.name in table}
    if config.tags.missing == "error":
        for one in training:
            if one.files.name in found and (found[one.files.name] == TAG_UNKNOWN).all():
                remedy = "Add a row, leave the case out, or set data.tags.missing to unknown"
                faults.append(DataFault(one.files.image, f"no tag in {path.name}", "a row for it", remedy))
    return found


def _tagged_as_a_whole(facts: Sequence[CaseFacts], tags: dict[str, np.ndarray], config: DataConfig) -> Sequence[str]:
    """Return the training cases that a table tags without naming slices; none where the table has faults."""
    if config.tags.source != "csv" or not tags:
        return []
    counts = {one.files.name: one.slices for one in facts if one.shape is not None}
    return [name for name in tagged_as_a_whole(tags_table(config), config.classes, counts) if name in tags]


def _shared_images(facts: Sequence[CaseFacts], parts: dict[str, str]) -> list[DataFault]:
    """Images with the same voxels in two parts of the split: what is trained on would be tested on."""
    by_digest: dict[str, list[CaseFacts]] = defaultdict(list)
    for one in facts:
        if one.digest is not None and one.files.name in parts:
            by_digest[one.digest].append(one)
    faults = []
    for same in by_digest.values():
        first = same[0]
        for other in same[1:]:
            mine, theirs = parts[first.files.name], parts[other.files.name]
            if mine != theirs:
                found = f"the same voxels as {first.files.name}, this one in {theirs}, that one in {mine}"
                remedy = "Remove one of the two, or give both the same patient"
                faults.append(DataFault(other.files.image, found, "different images in train, val and test", remedy))
    return faults


def _without_repeats(faults: Sequence[DataFault]) -> list[DataFault]:
    """Keep the first of the faults with one cause in one file, such as an unreadable header and unreadable voxels."""
    return list({(str(fault.file), fault.found): fault for fault in reversed(faults)}.values())[::-1]
