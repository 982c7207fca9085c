"""Scores of label images from one confusion matrix that grows image by image.

As the evaluation of PASCAL VOC: pixels of all images are counted together, background is a class, and pixels labelled
IGNORE do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unia_med.labels import IGNORE


class ConfusionMatrix:
    """Counts pixels by true and by predicted class.

    Args:
        classes: K, with background.

    Attributes:
        counts: int64 (K, K); row: true class, column: predicted class.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count the pixels of an image or volume.

        Args:
            predicted: Integer labels 0..K-1 of any shape.
            true: The same shape; IGNORE where nothing is known.
        """
        if predicted.shape != true.shape:
            raise ValueError(f"labels differ in shape: predicted {predicted.shape}, true {true.shape}")
        classes = len(self.counts)
        known = true != IGNORE
        found, real = predicted[known].astype(np.int64), true[known].astype(np.int64)
        foreign = (found < 0) | (found >= classes) | (real < 0) | (real >= classes)
        if foreign.any():
            raise ValueError(f"{foreign.sum()} pixels have labels that are neither 0 to {classes - 1} nor {IGNORE}")
        self.counts += np.bincount(real * classes + found, minlength=classes**2).reshape(classes, classes)


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


def _ratios(above: np.ndarray, below: np.ndarray) -> list[float | None]:
    return [float(a / b) if b else None for a, b in zip(above, below, strict=True)]
