"""The shape of a heart, given back to a random walker's labels and to boxes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from unia_med.cardiac.boxes import fill_heart_boxes
from unia_med.cardiac.shape import epicardium, round_pool, shape_heart
from unia_med.data.weak_labels.boxes import Box, fill_boxes
from unia_med.labels import IGNORE

Y, X = np.indices((64, 64))
RADIUS = np.hypot(Y - 32, X - 32)


def heart() -> tuple[np.ndarray, np.ndarray]:
    """A wall between radius 11 and 16 as true labels, and as a walker's: pool too small, with a muscle and a tongue."""
    truth = np.where(RADIUS < 11, 3, np.where(RADIUS < 16, 2, 0)).astype(np.uint8)
    faulty = np.where((truth == 3) & (RADIUS >= 10), 2, truth).astype(np.uint8)
    faulty[(np.hypot(Y - 39, X - 34) < 2.5) & (truth == 3)] = 2  # a papillary muscle
    faulty[(np.abs(Y - 32) < 4) & (X > 32) & (RADIUS < 26) & (truth == 0)] = 2  # a tongue into the lung
    return truth, faulty


def test_heart_regains_its_shape() -> None:
    truth, faulty = heart()
    labels = np.full(truth.shape, IGNORE, np.uint8)
    labels[(RADIUS >= 12.5) & (RADIUS < 13.5) & (X < 40)] = 2
    labels[30:34, 30:34], labels[RADIUS > 28] = 3, 0
    probabilities = np.eye(4, dtype=np.float32)[faulty].transpose(2, 0, 1)
    shaped = shape_heart(probabilities, labels, ["RV", "MYO", "LV"])
    known = labels != IGNORE
    assert (shaped[known] == labels[known]).all()
    before, after = (faulty != truth).sum(), (shaped != truth).sum()
    assert after < 0.6 * before
    assert (shaped[(RADIUS < 9)] == 3).all() and (shaped[RADIUS > 18] == 0).all()


def test_other_classes_are_left_as_the_walker_has_them() -> None:
    _, faulty = heart()
    labels = np.where(RADIUS < 3, 3, IGNORE).astype(np.uint8)
    probabilities = np.eye(4, dtype=np.float32)[faulty].transpose(2, 0, 1)
    assert np.array_equal(shape_heart(probabilities, labels, ["liver", "spleen", "kidney"]), faulty)
    assert np.array_equal(shape_heart(probabilities, np.full_like(labels, IGNORE), ["RV", "MYO", "LV"]), faulty)


@pytest.mark.parametrize("axes", [(20, 20), (22, 15)])
def test_epicardium_of_an_ellipse(axes: tuple[int, int]) -> None:
    ellipse = np.hypot((Y - 30) / axes[0], (X - 33) / axes[1]) <= 1
    pool = np.hypot(Y - 30, X - 33) < 8
    found = epicardium(ellipse.astype(float), pool, np.zeros_like(pool))
    assert 2 * (found & ellipse).sum() / (found.sum() + ellipse.sum()) > 0.95


def test_round_pool_holds_the_hull() -> None:
    pool = RADIUS < 10
    bitten = pool & ~((X > 32) & (np.abs(Y - 32) < 3))
    assert (round_pool(bitten) >= bitten).all() and (round_pool(bitten)[pool]).mean() > 0.98
    assert round_pool(np.zeros((4, 4), bool)).sum() == 0


def test_right_ventricle_is_what_is_bright_in_its_box() -> None:
    crescent = (np.hypot(Y - 32, X - 22) < 13) & (RADIUS > 12)
    image = np.where(crescent | (RADIUS < 8), 0.8, 0.2)[None]
    rows, columns = np.nonzero(crescent)
    low, high = np.array([rows.min(), columns.min()]) - 0.5, np.array([rows.max(), columns.max()]) + 0.5
    right = Box(1, tuple((low + high) / 2), tuple((high - low) / 2))
    filled = fill_heart_boxes(
        image, [right, Box(2, (32.0, 32.0), (12.0, 12.0)), Box(3, (32.0, 32.0), (8.0, 8.0))], ["RV", "MYO", "LV"]
    )
    assert 2 * ((filled == 1) & crescent).sum() / ((filled == 1).sum() + crescent.sum()) > 0.95


def test_right_ventricle_keeps_its_dark_rim_and_not_the_lung() -> None:
    crescent = (np.hypot(Y - 32, X - 18) < 13) & (RADIUS > 12)
    rim = crescent & ~ndimage.binary_erosion(crescent, iterations=2)  # partly wall, trabeculated
    noise = np.random.default_rng(0).normal(0, 0.02, (64, 64))
    image = (np.where(rim, 0.2, np.where(crescent, 0.8, 0.0)) + noise)[None]
    rows, columns = np.nonzero(crescent)
    low, high = np.array([rows.min(), columns.min()]) - 0.5, np.array([rows.max(), columns.max()]) + 0.5
    boxes = [Box(1, tuple((low + high) / 2), tuple((high - low) / 2)), Box(2, (32.0, 32.0), (12.0, 12.0))]
    filled = fill_heart_boxes(image, boxes, ["RV", "MYO"]) == 1
    assert filled[rim].mean() > 0.85
    assert not filled[RADIUS <= 11].any() and filled[~crescent].sum() < 0.05 * crescent.sum()


def test_without_a_right_ventricle_boxes_are_ellipses() -> None:
    boxes = [Box(1, (32.0, 32.0), (12.0, 12.0)), Box(2, (30.0, 32.0), (5.0, 8.0))]
    image = np.random.default_rng(0).random((1, 64, 64))
    assert np.array_equal(fill_heart_boxes(image, boxes, ["MYO", "LV"]), fill_boxes((64, 64), boxes))
