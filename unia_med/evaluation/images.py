"""Scores over a whole set: pixels of all cases counted together, as the evaluation of PASCAL VOC does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from unia_med.labels import IGNORE
from unia_med.metrics.confusion import ConfusionMatrix, RegionScores, region_scores


@dataclass
class SetAccumulator:
    """Counts pixels by true and by predicted class, over all cases that it is given.

    Attributes:
        classes: T, without background; None where the number is not known and grows with the values found.
        cases: How many cases were counted.
    """

    classes: int | None
    cases: int = 0
    _matrix: ConfusionMatrix = field(init=False)

    def __post_init__(self) -> None:
        self._matrix = ConfusionMatrix((self.classes or 0) + 1)

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count one case.

        Args:
            predicted: Labels 0..T of any shape.
            true: The same shape; IGNORE where nothing is known.
        """
        if self.classes is None:
            found = max(int(predicted.max(initial=0)), int(np.where(true == IGNORE, 0, true).max(initial=0)))
            self._grow(found + 1)
        self._matrix.add(predicted, true)
        self.cases += 1

    @property
    def counts(self) -> np.ndarray:
        """int64 (K, K) pixels; row: true class, column: predicted class."""
        return self._matrix.counts

    def scores(self) -> RegionScores:
        """Return IoU, precision, recall and confusion ratio per class, background first."""
        return region_scores(self.counts)

    def extend(self, counts: np.ndarray, cases: int = 0) -> None:
        """Add the counts of another accumulator of the same classes, such as that of another process."""
        self._matrix.counts += counts
        self.cases += cases

    def _grow(self, size: int) -> None:
        missing = size - len(self._matrix.counts)
        if missing > 0:
            self._matrix.counts = np.pad(self._matrix.counts, (0, missing))
