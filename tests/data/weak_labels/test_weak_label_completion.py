"""Completion of weak labels against closed forms, a brute-force walk and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from unia_med.cardiac.shape import epicardium, round_pool, shape_heart
from unia_med.data.weak_labels.boxes import Box, boxes_on_grid, fill_boxes
from unia_med.data.weak_labels.complete import (
    convex_hull,
    fill_background,
    fill_beyond_points,
    flood,
    walker_probabilities,
)
from unia_med.data.weak_labels.place import GridMap
from unia_med.labels import IGNORE

Y, X = np.indices((64, 64))
RADIUS = np.hypot(Y - 32, X - 32)


def loop(gap: bool = False) -> np.ndarray:
    """A ring of background of radius 20 about a dot of class 1; with a gap, a quarter of the ring is missing."""
    labels = np.full((64, 64), IGNORE, np.uint8)
    labels[(RADIUS >= 19.5) & (RADIUS < 20.5)] = 0
    labels[30:34, 30:34] = 1
    if gap:
        labels[:32, :32][labels[:32, :32] == 0] = IGNORE
    return labels


def test_background_is_flooded_up_to_a_closed_loop() -> None:
    filled = fill_background(loop())
    assert (filled[RADIUS > 22.5] == 0).all()
    inside = (RADIUS < 19) & (loop() == IGNORE)
    assert (filled[inside] == IGNORE).all() and (filled[30:34, 30:34] == 1).all()


def test_one_missing_pixel_does_not_open_a_loop() -> None:
    labels = loop()
    labels[12, 32] = IGNORE
    assert (fill_background(labels)[(RADIUS < 18) & (labels == IGNORE)] == IGNORE).all()


def test_outside_an_open_loop_only_what_is_beyond_the_hull_is_background() -> None:
    labels = loop(gap=True)
    filled = fill_background(labels, hull_margin_px=2)
    hull = convex_hull(labels != IGNORE)
    far = ndimage.distance_transform_cdt(~hull, "chessboard") > 2
    assert (filled[far] == 0).all() and far.any()
    assert (filled[~far] == labels[~far]).all()


def test_background_alone_means_an_empty_slice_only_where_that_is_promised() -> None:
    labels = loop()
    labels[labels == 1] = IGNORE
    assert (fill_background(labels) == 0).all()
    assert (fill_background(labels, marks_every_class=False)[RADIUS < 18] == IGNORE).all()


def test_without_background_nothing_is_filled() -> None:
    labels = np.where(loop() == 1, 1, IGNORE).astype(np.uint8)
    assert np.array_equal(fill_background(labels), labels)


def test_beyond_the_farthest_background_point_is_background() -> None:
    labels = np.full((64, 64), IGNORE, np.uint8)
    labels[32, 30], labels[32, 34], labels[32, 44], labels[20, 32] = 1, 2, 0, 0
    filled = fill_beyond_points(labels)
    distance = np.minimum(np.hypot(Y - 32, X - 30), np.hypot(Y - 32, X - 34))  # two points are their own hull
    farthest = distance[20, 32]
    assert (filled[distance > farthest] == 0).all()
    assert np.array_equal(filled[distance <= farthest], labels[distance <= farthest])


@pytest.mark.filterwarnings("error")
def test_hull_of_few_pixels_or_a_line_is_silent() -> None:
    line = (Y == 5) & (X > 10) & (X < 20)
    assert np.array_equal(convex_hull(line), line) and not convex_hull(np.zeros((5, 5), bool)).any()


def test_background_points_alone() -> None:
    labels = np.full((9, 9), IGNORE, np.uint8)
    assert np.array_equal(fill_beyond_points(labels), labels)
    labels[4, 4] = 0
    assert (fill_beyond_points(labels) == 0).all()
    assert np.array_equal(fill_beyond_points(labels, marks_every_class=False), labels)


def test_flood_goes_edge_to_edge() -> None:
    wall = np.zeros((5, 5), bool)
    wall[[1, 1, 1, 2, 2, 3, 3, 3], [1, 2, 3, 1, 3, 1, 2, 3]] = True
    assert not flood(~wall)[2, 2] and flood(~wall)[~wall].sum() == 16
    wall[1, 2] = False
    assert flood(~wall)[2, 2]


def test_walker_on_a_line_is_linear_in_the_resistance() -> None:
    """In a strip of one row the probability falls by each edge's resistance, 1 / weight."""
    image = np.array([[0.1, 0.1, 0.2, 0.2, 0.6, 0.6]])
    labels = np.array([[1, IGNORE, IGNORE, IGNORE, IGNORE, 0]], np.uint8)
    beta = 50.0
    resistance = 1 / (np.exp(-beta * np.diff(image[0]) ** 2 / (10 * image.std())) + 1e-6)
    expected = 1 - np.cumsum([0, *resistance]) / resistance.sum()
    found = walker_probabilities(image, labels, 2, beta)
    assert np.allclose(found[1, 0], expected, atol=1e-5) and np.allclose(found.sum(0), 1, atol=1e-5)


def test_walker_equals_many_steps_of_the_walk() -> None:
    """Repeated averaging over neighbours, labels held fixed, ends at the same probabilities."""
    generator = np.random.default_rng(0)
    image, beta = generator.random((7, 8)), 30.0
    labels = np.full((7, 8), IGNORE, np.uint8)
    labels[1, 1], labels[5, 6], labels[0, 7], labels[4, 3] = 1, 2, 0, 2
    found = walker_probabilities(image, labels, 4, beta)
    state = np.where(labels == IGNORE, 0.0, np.arange(4)[:, None, None] == labels)
    weights = {}
    for y, x in np.ndindex(image.shape):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (-1, -1), (-1, 1)):
            if 0 <= y + dy < 7 and 0 <= x + dx < 8:
                step = (image[y, x] - image[y + dy, x + dx]) ** 2
                weight = np.exp(-beta * step / (10 * image.std())) + 1e-6
                weights[y, x, y + dy, x + dx] = weight * (0.5 if dy and dx else 1.0)
    for _ in range(3000):
        total, sums = np.zeros(image.shape), np.zeros_like(state)
        for (y, x, v, u), weight in weights.items():
            total[y, x] += weight
            sums[:, y, x] += weight * state[:, v, u]
        state = np.where(labels == IGNORE, sums / total, state)
        if np.abs(state - found).max() < 1e-5:
            break
    assert np.abs(state - found).max() < 1e-4
    assert found[3].max() == 0


def test_walker_finds_a_disc_by_its_edge_better_than_scikit_image_by_four_neighbours() -> None:
    from skimage.segmentation import random_walker

    disc = RADIUS < 12
    image = disc * 0.5 + np.random.default_rng(1).normal(0, 0.03, disc.shape)
    labels = np.full(disc.shape, IGNORE, np.uint8)
    labels[32, 26:38], labels[0] = 1, 0
    found = walker_probabilities(image, labels, 2).argmax(0) == 1
    seeds = np.where(labels == IGNORE, 0, labels + 1)
    theirs = random_walker(image, seeds, beta=2000, mode="cg_j") == 2
    assert (found != disc).sum() <= (theirs != disc).sum() and (found != disc).mean() < 0.01


def test_walker_of_one_class_or_none() -> None:
    image, labels = np.zeros((5, 5)), np.full((5, 5), IGNORE, np.uint8)
    assert walker_probabilities(image, labels, 3).sum() == 0
    labels[2, 2] = 2
    assert (walker_probabilities(image, labels, 3)[2] == 1).all()
    assert (walker_probabilities(image, np.ones((5, 5), np.uint8), 3).argmax(0) == 1).all()


def test_walker_takes_channels() -> None:
    image = np.random.default_rng(0).random((9, 9))
    labels = np.full((9, 9), IGNORE, np.uint8)
    labels[0, 0], labels[8, 8] = 0, 1
    flat = np.stack([image, np.full_like(image, image.mean())])
    one, two = (walker_probabilities(i, labels, 2, 10.0 * i.std()) for i in (image, flat))
    assert np.allclose(one, two, atol=1e-5)  # a channel without edges adds nothing but its share of the deviation


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


GRID = GridMap((0.8, 0.8), (-2.0, 3.0), (60, 60), (64, 64))


def test_boxes_keep_their_exact_sides_on_the_grid() -> None:
    drawn = np.zeros((2, 60, 60, 2), bool)
    drawn[1, 10:20, 30:45, 1] = True
    (empty, (box,)) = boxes_on_grid(drawn, GRID)
    assert empty == [] and box.label == 2
    assert np.allclose(box.centre, (0.8 * 14.5 - 2, 0.8 * 37 + 3)) and np.allclose(box.half, (4, 6))


def test_boxes_become_ellipses_and_the_inner_one_stays_visible() -> None:
    boxes = [Box(3, (32.0, 32.0), (8.0, 9.0)), Box(2, (32.0, 33.0), (14.0, 15.0))]
    filled = fill_boxes(np.zeros((1, 64, 64)), boxes, ["RV", "MYO", "LV"])
    inner = ((Y - 32) / 8) ** 2 + ((X - 32) / 9) ** 2 <= 1
    outer = ((Y - 32) / 14) ** 2 + ((X - 33) / 15) ** 2 <= 1
    assert np.array_equal(filled, np.where(inner, 3, np.where(outer, 2, 0)))


def test_right_ventricle_is_what_is_bright_in_its_box() -> None:
    crescent = (np.hypot(Y - 32, X - 22) < 13) & (RADIUS > 12)
    image = np.where(crescent | (RADIUS < 8), 0.8, 0.2)[None]
    rows, columns = np.nonzero(crescent)
    low, high = np.array([rows.min(), columns.min()]) - 0.5, np.array([rows.max(), columns.max()]) + 0.5
    right = Box(1, tuple((low + high) / 2), tuple((high - low) / 2))
    filled = fill_boxes(
        image, [right, Box(2, (32.0, 32.0), (12.0, 12.0)), Box(3, (32.0, 32.0), (8.0, 8.0))], ["RV", "MYO", "LV"]
    )
    assert 2 * ((filled == 1) & crescent).sum() / ((filled == 1).sum() + crescent.sum()) > 0.95


def test_a_box_between_pixels_and_other_names() -> None:
    filled = fill_boxes(np.zeros((1, 64, 64)), [Box(1, (20.4, 30.5), (0.3, 0.3)), Box(2, (40, 40), (5, 3))], ["a", "b"])
    assert (filled == 1).sum() == 1 and (filled == 2).sum() == (np.hypot((Y - 40) / 5, (X - 40) / 3) <= 1).sum()
