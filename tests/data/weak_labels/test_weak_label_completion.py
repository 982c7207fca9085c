"""Completion of the background of weak labels, and of boxes, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from unia_med.data.weak_labels.boxes import Box, boxes_on_grid, fill_boxes
from unia_med.data.weak_labels.complete import (
    convex_hull,
    fill_background,
    fill_beyond_points,
    flood,
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


GRID = GridMap((0.8, 0.8), (-2.0, 3.0), (60, 60), (64, 64))


def test_boxes_keep_their_exact_sides_on_the_grid() -> None:
    drawn = np.zeros((2, 60, 60, 2), bool)
    drawn[1, 10:20, 30:45, 1] = True
    (empty, (box,)) = boxes_on_grid(drawn, GRID)
    assert empty == [] and box.label == 2
    assert np.allclose(box.centre, (0.8 * 14.5 - 2, 0.8 * 37 + 3)) and np.allclose(box.half, (4, 6))


def test_boxes_become_ellipses_and_the_inner_one_stays_visible() -> None:
    boxes = [Box(3, (32.0, 32.0), (8.0, 9.0)), Box(2, (32.0, 33.0), (14.0, 15.0))]
    filled = fill_boxes((64, 64), boxes)
    inner = ((Y - 32) / 8) ** 2 + ((X - 32) / 9) ** 2 <= 1
    outer = ((Y - 32) / 14) ** 2 + ((X - 33) / 15) ** 2 <= 1
    assert np.array_equal(filled, np.where(inner, 3, np.where(outer, 2, 0)))


def test_a_box_between_pixels_has_one() -> None:
    filled = fill_boxes((64, 64), [Box(1, (20.4, 30.5), (0.3, 0.3)), Box(2, (40, 40), (5, 3))])
    assert (filled == 1).sum() == 1 and (filled == 2).sum() == (np.hypot((Y - 40) / 5, (X - 40) / 3) <= 1).sum()
