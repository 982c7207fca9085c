"""Scores of label images from one confusion matrix that grows image by image on the device.

As the evaluation of PASCAL VOC: pixels of all images are counted together, background is a class, and pixels labelled
IGNORE do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unia_med.labels import IGNORE

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ConfusionMatrix:
    """Counts pixels by true and by predicted class; nothing leaves the device before `counts` is read.

    Args:
        classes: K, with background.
        device: Where to count.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        import torch

        self.classes = classes
        # After the matrix come a cell for ignored pixels and one for labels that are no class: nothing is selected and
        # nothing checked on the way, since both would wait for the device.
        self._cells = torch.zeros(classes**2 + 2, dtype=torch.int64, device=device)

    def add(self, predicted: Tensor, true: Tensor) -> None:
        """Return counts the pixels of some images.

        Args:
            predicted: Integer labels 0..K-1 of any shape.
            true: The same shape; IGNORE where nothing is known.
        """
        import torch

        if predicted.shape != true.shape:
            raise ValueError(f"labels differ in shape: predicted {tuple(predicted.shape)}, true {tuple(true.shape)}")
        device, size = self._cells.device, self.classes
        predicted, true = predicted.to(device).flatten().long(), true.to(device).flatten().long()
        foreign = (predicted < 0) | (predicted >= size) | (true < 0) | (true >= size)
        cells = torch.where(foreign, size**2 + 1, true * size + predicted)
        cells = torch.where(true == IGNORE, size**2, cells)
        self._cells.index_add_(0, cells, torch.ones_like(cells))

    def counts(self) -> np.ndarray:
        """Return int64 (K, K) on the host; row: true class, column: predicted class."""
        cells = self._cells.cpu().numpy()
        if cells[-1]:
            raise ValueError(f"{cells[-1]} pixels have labels that are neither 0 to {self.classes - 1} nor {IGNORE}")
        return cells[:-2].reshape(self.classes, self.classes)


@dataclass(frozen=True)
class RegionScores:
    """Score per class; None where a ratio is undefined, so that nothing is infinite and nothing silently 0.

    Attributes:
        iou: TP / (TP + FP + FN).
        precision: TP / (TP + FP); None for a class that is never predicted.
        recall: TP / (TP + FN); None for a class that never occurs.
        confusion: FP / TP, the confusion ratio; None where no pixel is right. It has no upper bound.
        occurs: Whether the class is anywhere in the true masks.
    """

    iou: list[float | None]
    precision: list[float | None]
    recall: list[float | None]
    confusion: list[float | None]
    occurs: list[bool]

    def mean(self, metric: str) -> float | None:
        """Return the mean over classes that occur and have a value; None where there is none."""
        values = [v for v, occurs in zip(getattr(self, metric), self.occurs, strict=True) if occurs and v is not None]
        return float(np.mean(values)) if values else None

    def undefined(self, metric: str) -> int:
        """Return how many classes occur but have no value, and are therefore missing in the mean."""
        return sum(v is None and occurs for v, occurs in zip(getattr(self, metric), self.occurs, strict=True))


METRICS = ("iou", "precision", "recall", "confusion")


def region_scores(counts: np.ndarray) -> RegionScores:
    """Return the scores of a confusion matrix (UniA specification, 20).

    Args:
        counts: (K, K) pixels; row: true class, column: predicted class.

    Example:
        >>> found = region_scores(np.array([[6, 2], [1, 3]]))
        >>> found.iou[1], found.precision[1], found.recall[1], round(found.confusion[1], 3)
        (0.5, 0.6, 0.75, 0.667)
    """
    right = np.diag(counts)
    wrong, missed = counts.sum(0) - right, counts.sum(1) - right
    return RegionScores(
        _ratios(right, right + wrong + missed),
        _ratios(right, right + wrong),
        _ratios(right, right + missed),
        _ratios(wrong, right),
        [bool(total) for total in right + missed],
    )


def _ratios(above: Sequence[int], below: Sequence[int]) -> list[float | None]:
    return [float(a / b) if b else None for a, b in zip(above, below, strict=True)]
