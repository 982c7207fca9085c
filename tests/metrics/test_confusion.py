"""The streaming confusion matrix against pixels counted one by one."""

from __future__ import annotations

import numpy as np
import pytest

from unia_med.labels import IGNORE
from unia_med.metrics.confusion import ConfusionMatrix, region_scores

CLASSES = 5


def _images(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images of several sizes; class 4 is never true, class 3 never right."""
    generator = np.random.default_rng(seed)
    pairs = []
    for size in ((7, 9), (1, 1), (12, 5)):
        true = generator.choice([0, 1, 2, 3, IGNORE], size).astype(np.uint8)
        predicted = np.where(generator.random(size) < 0.6, true, generator.integers(0, CLASSES, size)).astype(np.uint8)
        predicted[(true == 3) | (predicted == IGNORE)] = 4
        pairs.append((predicted, true))
    return pairs


def _brute_force(pairs: list[tuple[np.ndarray, np.ndarray]], label: int) -> tuple[int, int, int]:
    right = wrong = missed = 0
    for predicted, true in pairs:
        for found, real in zip(predicted.ravel(), true.ravel(), strict=True):
            if real == IGNORE:
                continue
            right += found == label == real
            wrong += found == label != real
            missed += real == label != found
    return int(right), int(wrong), int(missed)


def test_scores_equal_a_count_pixel_by_pixel() -> None:
    pairs = _images(0)
    matrix = ConfusionMatrix(CLASSES)
    for predicted, true in pairs:
        matrix.add(predicted, true)
    assert matrix.counts.sum() == sum(int((true != IGNORE).sum()) for _, true in pairs)
    found = region_scores(matrix.counts)
    expected = []
    for label in range(CLASSES):
        right, wrong, missed = _brute_force(pairs, label)
        values = (
            right / (right + wrong + missed),
            right / (right + wrong) if right + wrong else None,
            right / (right + missed) if right + missed else None,
            wrong / right if right else None,
        )
        expected.append(values)
        assert found.occurs[label] == (right + missed > 0)
    for position, metric in enumerate(("iou", "precision", "recall", "confusion")):
        assert getattr(found, metric) == pytest.approx([values[position] for values in expected])
    occurring = [values[0] for values, occurs in zip(expected, found.occurs, strict=True) if occurs]
    assert found.mean("iou") == pytest.approx(np.mean(occurring)) and len(occurring) == 4


def test_undefined_ratios_are_counted_and_never_infinite() -> None:
    # Class 1 occurs and is missed, class 2 is invented.
    found = region_scores(np.array([[4, 0, 2], [3, 0, 0], [0, 0, 0]]))
    assert found.precision == [4 / 7, None, 0.0] and found.recall == [4 / 6, 0.0, None]
    assert found.confusion == [3 / 4, None, None]
    assert found.mean("confusion") == 0.75 and found.undefined("confusion") == 1
    # Both other classes occur, one of them is missed: two of three have a value.
    assert region_scores(np.array([[4, 0, 2], [3, 0, 0], [0, 0, 5]])).undefined("confusion") == 1
    assert found.mean("iou") == pytest.approx((4 / 9 + 0) / 2)
    assert region_scores(np.zeros((2, 2), int)).mean("iou") is None


@pytest.mark.parametrize(("predicted", "true"), [(2, 0), (0, 2), (IGNORE, 1), (-1, 0)])
def test_labels_that_are_no_class_are_refused(predicted: int, true: int) -> None:
    with pytest.raises(ValueError, match="neither 0 to 1 nor 255"):
        ConfusionMatrix(2).add(np.array([predicted]), np.array([true]))


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        ConfusionMatrix(2).add(np.zeros((2, 3), int), np.zeros((3, 2), int))
