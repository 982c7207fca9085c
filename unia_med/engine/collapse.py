"""Notices a class that the network no longer predicts although tags or labels say that it is there."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from unia_med.labels import TAG_PRESENT
from unia_med.methods.base import Batch, Method

_LOG = logging.getLogger(__name__)
_SLICES = 40
"""Latest slices with a class that are looked at: with none of them predicted, chance is ruled out."""
_GIVEN = 0.5
"""Share of the training that a class has to appear for the first time."""


class CollapseWatch:
    """Watch the area that is predicted of each class in slices that hold it; no mask of validation is read.

    Args:
        classes: T names; may be empty, then classes have numbers.
        iterations: of the whole training.
    """

    def __init__(self, classes: Sequence[str], iterations: int) -> None:
        self._names, self._iterations = tuple(classes), iterations
        self._areas: dict[int, deque[int]] = {}
        self._seen: dict[int, int] = {}  # step at which a class was last predicted
        self.collapsed: dict[str, int] = {}
        """Step at which each class that is missing now was found missing."""

    @torch.inference_mode()
    def look(self, method: Method, batch: Batch, step: int) -> None:
        """Predict a training batch and count.

        Args:
            method: the averaged method, in eval mode; it predicts from the images alone.
            batch: of which tags and labels say which classes are there.
            step: iterations done.
        """
        found = method.predict(batch.images).probabilities.argmax(1).flatten(1)
        there = present(batch)
        areas = torch.stack([(found == label).sum(1) for label in range(1, there.shape[1] + 1)], 1)
        for label, (counts, holds) in enumerate(zip(areas.T.tolist(), there.T.tolist(), strict=True), start=1):
            kept = self._areas.setdefault(label, deque(maxlen=_SLICES))
            kept.extend(count for count, held in zip(counts, holds, strict=True) if held)
            if any(counts):
                self._seen[label] = step
            self._judge(label, kept, step)

    def report(self) -> None:
        """Say at the end which classes are missing still."""
        for name, step in self.collapsed.items():
            _LOG.warning(
                "at the end of training %s is predicted nowhere, as since step %d: masks will lack it. Look at its "
                "labels and tags, lower training.learning_rate, or train longer",
                name,
                step,
            )

    def _judge(self, label: int, areas: deque[int], step: int) -> None:
        name = self._names[label - 1] if label <= len(self._names) else f"class {label}"
        if any(areas):
            if self.collapsed.pop(name, None) is not None:
                _LOG.info("step %d: %s is predicted again", step, name)
            return
        last = self._seen.get(label)
        late = step >= _GIVEN * self._iterations
        if len(areas) < _SLICES or name in self.collapsed or (last is None and not late):
            return
        self.collapsed[name] = step
        since = "never so far" if last is None else f"last at step {last}"
        _LOG.warning(
            "step %d: %s is predicted in none of the last %d training slices that hold it (%s): its area fell to none",
            step,
            name,
            _SLICES,
            since,
        )


def present(batch: Batch) -> Tensor:
    """Return bool (B, T): which classes are in a slice, by its tags or its labels.

    Args:
        batch: on any device.
    """
    there = batch.tags == TAG_PRESENT
    if batch.labels is None:
        return there
    labels = batch.labels.flatten(1)
    drawn = torch.stack([(labels == label).any(1) for label in range(1, there.shape[1] + 1)], 1)
    return there | drawn
