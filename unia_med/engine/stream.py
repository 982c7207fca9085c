"""Batches of a run from any step on: their order is a pure function of the seed, so nothing needs storing to resume."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from unia_med import distributed
from unia_med.data.slices.batches import batch_indices
from unia_med.errors import UserError

_LOADER_REMEDY = "Set data.workers to 0, or give the computer more shared memory (/dev/shm)"


class SliceSource(Protocol):
    """What the trainer needs of a data set.

    Items are dicts with `image` (1, H, W) float32, `tags` (T,) int8, `index`, and where there are any `scores`
    (K, H, W) float32 and `labels` (H, W) uint8. `batch_order(seed, epoch, batch_size)` and `cases` are optional.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Failure:
    """An item that could not be made: carried through the loader, which would wrap an exception beyond recognition."""

    item: str
    reason: str
    remedy: str | None
    trace: str


class BatchStream:
    """All batches of steps `start` to `stop`, each a dict of stacked tensors plus the slices' positions on the host."""

    def __init__(
        self,
        dataset: SliceSource,
        seed: int,
        batch_size: int,
        start: int,
        stop: int,
        boundaries: Iterable[int] = (),
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Describe a part of a run.

        Args:
            dataset: see `SliceSource`.
            seed: of the run; with the epoch it decides the order.
            batch_size: slices per step and process.
            start: first step, from 0.
            stop: step after the last one.
            boundaries: steps before which the data set may change; loading ahead stops there.
            workers: loading processes; 0 loads in this one.
            pin_memory: True speeds up copies to a GPU.
        """
        self._dataset, self._seed, self._batch_size = dataset, seed, batch_size * distributed.world_size()
        inner = sorted(step for step in set(boundaries) if start < step < stop)
        self._edges = [start, *inner, stop]
        self._workers, self._pin_memory = workers, pin_memory

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for begin, end in zip(self._edges, self._edges[1:], strict=False):
            yield from self._load(begin, end)

    def _load(self, begin: int, end: int) -> Iterator[dict[str, Any]]:
        loader: DataLoader[Any] = DataLoader(
            cast(Any, _NamedItems(self._dataset)),  # any object with a length and items; torch's type asks for its base
            batch_sampler=_StepBatches(self._dataset, self._seed, self._batch_size, begin, end),
            collate_fn=collate,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
        )
        try:
            for batch in loader:
                yield _checked(batch)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(f"a loading process died: {error}", remedy=_LOADER_REMEDY) from error


class _StepBatches:
    """Index lists of the steps of a range; the share of this process only."""

    def __init__(self, dataset: SliceSource, seed: int, batch_size: int, begin: int, end: int) -> None:
        self._source, self._seed, self._batch_size = dataset, seed, batch_size
        self._begin, self._end = begin, end

    def __len__(self) -> int:
        return self._end - self._begin

    def __iter__(self) -> Iterator[list[int]]:
        batches = steps_from(self._source, self._seed, self._batch_size, self._begin)
        for _, indices in zip(range(len(self)), batches, strict=False):
            yield distributed.share(indices)


class _NamedItems:
    """A data set whose failing items say which case they are."""

    def __init__(self, dataset: SliceSource) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Mapping[str, Any] | Failure:
        try:
            return self._dataset[index]
        except UserError as error:
            return Failure(item_name(self._dataset, index), str(error), None, traceback.format_exc())
        except Exception as error:  # whatever a reader throws, the user needs the case first
            reason = f"{type(error).__name__}: {error}"
            return Failure(item_name(self._dataset, index), reason, "Repair or remove the file", traceback.format_exc())


def steps_from(dataset: SliceSource, seed: int, batch_size: int, start: int) -> Iterator[list[int]]:
    """Index lists of all steps from `start` on, without end.

    Args:
        dataset: its `batch_order` is asked when it has one, `unia_med.data.slices.dataset.batch_indices` otherwise.
        seed: of the run.
        batch_size: slices per step.
        start: first step wanted.
    """
    skipped = 0
    for epoch in count():
        batches = _epoch_batches(dataset, seed, epoch, batch_size)
        if skipped + len(batches) > start:
            for indices in batches[max(start - skipped, 0) :]:
                yield [int(index) for index in indices]
        skipped += len(batches)


def item_name(dataset: object, index: int) -> str:
    """Return what a slice is called in messages: its case and position where the data set knows them.

    Args:
        dataset: may have `cases`, a sequence whose entries start with the case and the slice position.
        index: of the item.
    """
    cases = getattr(dataset, "cases", None)
    if cases is None or not 0 <= index < len(cases):
        return f"item {index}"
    case, position = cases[index][:2]
    return f"{getattr(case, 'name', case)} slice {position}"


def collate(items: Sequence[dict[str, Any] | Failure]) -> dict[str, Any] | Failure:
    """Stack items; the slices' positions stay a plain list, so that naming them needs no device.

    Args:
        items: of one batch; a failure among them is handed on alone.
    """
    for item in items:
        if isinstance(item, Failure):
            return item
    good = [item for item in items if isinstance(item, dict)]
    batch: dict[str, Any] = {key: _stack([item[key] for item in good]) for key in good[0]}
    batch["index"] = [int(item["index"]) for item in good]
    return batch


def _epoch_batches(dataset: SliceSource, seed: int, epoch: int, batch_size: int) -> Sequence[Any]:
    """Return index sequences, one per batch."""
    order = getattr(dataset, "batch_order", None)
    if order is None:
        batches: Sequence[Any] = batch_indices(seed, epoch, np.empty((len(dataset), 0)), batch_size)
    else:
        batches = order(seed, epoch, batch_size)
    if not len(batches):
        raise UserError("the data set has no slice to train on", remedy="Check data.root and data.split")
    return batches


def _stack(values: Sequence[Any]) -> Tensor:
    return torch.stack([value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value)) for value in values])


def _checked(batch: dict[str, Any] | Failure) -> dict[str, Any]:
    if isinstance(batch, Failure):
        raise UserError(f"cannot be loaded: {batch.reason}", batch.item, batch.remedy)
    return batch
