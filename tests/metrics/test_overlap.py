"""Dice against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from unia_med.metrics.overlap import dice


def test_known_values() -> None:
    prediction, label = np.zeros((4, 4, 3), bool), np.zeros((4, 4, 3), bool)
    prediction[:2], label[1:3] = True, True  # 24 voxels each, 12 shared
    assert dice(prediction, label) == pytest.approx(0.5)
    assert dice(label, label) == 1.0
    assert dice(prediction, ~prediction) == 0.0


def test_counts_the_whole_volume_not_the_mean_of_slices() -> None:
    prediction, label = np.zeros((10, 10, 2), bool), np.zeros((10, 10, 2), bool)
    prediction[..., 0] = label[..., 0] = True  # 100 voxels, perfect
    label[0, 0, 1] = True  # one voxel, missed: a mean over slices would be 0.5
    assert dice(prediction, label) == pytest.approx(200 / 201)


def test_a_missed_and_an_invented_structure_score_zero() -> None:
    full, empty = np.ones((3, 3, 1), bool), np.zeros((3, 3, 1), bool)
    assert dice(empty, full) == 0.0
    assert dice(full, empty) == 0.0
    assert dice(empty, empty) is None


def test_no_overflow_of_large_counts_and_no_shape_mixing() -> None:
    assert dice(np.ones((300, 300, 1), bool), np.ones((300, 300, 1), bool)) == 1.0
    with pytest.raises(ValueError, match="shape"):
        dice(np.ones((3, 3), bool), np.ones((3, 1), bool))
