"""Loss values without a device round trip per step, and the search for the first that is not finite."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unia_med.errors import UserError

_LOG = logging.getLogger(__name__)

_DIVERGED = 30.0
"""Times the loss of the first step, or 1 where that is smaller; terms that join later add less than ten times it."""

_REMEDY = "Lower training.learning_rate or set training.amp to false; look at the named cases"


@dataclass(frozen=True)
class _Entry:
    step: int
    names: tuple[str, ...]
    values: Tensor
    indices: Sequence[int]


class LossWatch:
    """Keep the loss terms of the latest steps on their device until they are read together.

    The values of each step stay apart until then, so a bad one is still known by step, term and cases although the
    device is asked once per interval only.
    """

    def __init__(self, method: nn.Module, case_name: Callable[[int], str], every_step: bool) -> None:
        """Watch one training.

        Args:
            method: its weights are looked at when a loss is not finite, to name the true cause.
            case_name: name of a slice by its position in the data set.
            every_step: True checks each step at once; free on the CPU, a device round trip on a GPU.
        """
        self._method, self._case_name, self._every_step = method, case_name, every_step
        self._entries: list[_Entry] = []

    def record(self, step: int, losses: Mapping[str, Tensor], indices: Sequence[int]) -> None:
        """Take in the loss terms of a step.

        Args:
            step: iterations done before this one.
            losses: scalar tensors by name.
            indices: positions of the batch's slices.

        Raises:
            UserError: with `every_step`, when a term is not finite.
        """
        values = torch.stack([value.detach().float() for value in losses.values()])
        entry = _Entry(step, tuple(losses), values, indices)
        self._entries.append(entry)
        if self._every_step:
            self._check(entry, values.tolist())

    def read(self) -> list[dict[str, float]]:
        """Values of the steps since the last reading, one dict per step; one copy from the device.

        Raises:
            UserError: naming the first step with a term that is not finite, the term and the cases.
        """
        entries, self._entries = self._entries, []
        rows = _fetch([entry.values for entry in entries])
        for entry, row in zip(entries, rows, strict=True):
            self._check(entry, row)
        return [dict(zip(entry.names, row, strict=True)) for entry, row in zip(entries, rows, strict=True)]

    def _check(self, entry: _Entry, row: Sequence[float]) -> None:
        if all(math.isfinite(value) for value in row):
            return
        bad = [f"{name} is {value}" for name, value in zip(entry.names, row, strict=True) if not math.isfinite(value)]
        cases = ", ".join(dict.fromkeys(self._case_name(index) for index in entry.indices))
        what = f"the loss is not finite at step {entry.step}: {', '.join(bad)}; cases: {cases}"
        raise UserError(what + self._weights_note(), remedy=_REMEDY)

    def _weights_note(self) -> str:
        bad = [name for name, value in self._method.named_parameters() if not bool(torch.isfinite(value).all())]
        # On a GPU the weights are looked at steps later, when every one of them may be bad already.
        if not bad or not self._every_step:
            return ""
        return f"; weights were bad before this step, first {bad[0]}, so a gradient overflowed one step earlier"


class Divergence:
    """Notice a loss that has grown far beyond that of the first step, although all its values are finite.

    Attributes:
        first: loss of the first step of the run, before any update; None until one was seen.
        latest: mean loss of the latest interval.
    """

    def __init__(self) -> None:
        self.first: float | None = None
        self.latest = 0.0
        self._told = False

    def look(self, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Take in the losses of an interval, and warn once where they are far too large.

        Args:
            rows: as `LossWatch.read` gives them.
            step: iterations done.
        """
        losses = [abs(row["loss"]) for row in rows if "loss" in row]
        if not losses:
            return
        self.first = losses[0] if self.first is None else self.first
        self.latest = sum(losses) / len(losses)
        if self.diverged and not self._told:
            self._told = True
            _LOG.warning("step %d: the training diverges: %s. %s", step, self._growth, _REMEDY)

    @property
    def diverged(self) -> bool:
        """Whether the latest losses are far too large."""
        return self.latest > _DIVERGED * max(self.first or 0.0, 1.0)

    def check(self) -> None:
        """Refuse the result of a training that ends so.

        Raises:
            UserError: the latest losses are far too large.
        """
        if self.diverged:
            what = f"the training diverged: {self._growth}; its model would be of no use and is not written"
            raise UserError(what, remedy=_REMEDY)

    @property
    def _growth(self) -> str:
        return f"the loss is {self.latest:.4g}, at the first step it was {self.first:.4g}"


class RunningMeans:
    """Means of loss terms since the last validation, in plain numbers that a checkpoint can hold."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Take in values as `LossWatch.read` gives them.

        Args:
            rows: one mapping per step; a term may be absent in some.
        """
        for row in rows:
            for name, value in row.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Mean per term over the steps that had it."""
        return {name: self.sums[name] / self.counts[name] for name in self.sums}

    def clear(self) -> None:
        """Start a new interval."""
        self.sums, self.counts = {}, {}

    def state(self) -> dict[str, dict[str, float] | dict[str, int]]:
        """Return what a checkpoint stores."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Continue from a checkpoint.

        Args:
            state: as `state` gave it.
        """
        self.sums = dict(state["sums"])
        self.counts = {name: int(value) for name, value in state["counts"].items()}


def _fetch(values: Sequence[Tensor]) -> list[list[float]]:
    if not values:
        return []
    # Terms may come and go with their gates, hence one flat vector instead of a table.
    flat = torch.cat(list(values)).tolist()
    rows, start = [], 0
    for value in values:
        rows.append(flat[start : start + len(value)])
        start += len(value)
    return rows
