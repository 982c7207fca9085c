"""Makers of weak labels: what they draw is right, seeded, and independent of other cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from unia_med.config.weak_labels import MakeConfig
from unia_med.data.weak_labels.make import blocks, box_masks, make_labels, points, scribbles
from unia_med.labels import IGNORE

KINDS = ("points", "scribbles", "blocks")


def mask() -> np.ndarray:
    """A ring (2) round a cavity (3), with a second cavity (1) in two of four slices; the last is empty."""
    x, y = np.indices((72, 68))
    radius = np.hypot(x - 35, y - 36)
    heart = np.where(radius < 5.5, 3, np.where(radius < 9, 2, 0)).astype(np.uint8)
    beside = np.where((np.hypot(x - 26, y - 36) < 7) & (heart == 0), 1, heart).astype(np.uint8)
    return np.stack([beside, beside, heart, np.zeros_like(heart)], axis=2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_agrees_with_the_mask_and_leaves_no_class_out(kind: str) -> None:
    drawn = make_labels(kind, mask(), "patient001_frame01", 3, MakeConfig())
    known = drawn != IGNORE
    assert drawn.dtype == np.uint8 and (drawn[known] == mask()[known]).all()
    for z in range(4):
        assert set(np.unique(drawn[:, :, z][known[:, :, z]])) == set(np.unique(mask()[:, :, z]))
    assert known.mean() < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_name_decide_alone(kind: str) -> None:
    first = make_labels(kind, mask(), "a", 0, MakeConfig())
    make_labels(kind, mask(), "b", 0, MakeConfig())
    assert np.array_equal(first, make_labels(kind, mask(), "a", 0, MakeConfig()))
    assert not np.array_equal(first, make_labels(kind, mask(), "a", 1, MakeConfig()))
    assert not np.array_equal(first, make_labels(kind, mask(), "b", 0, MakeConfig()))


def test_a_slice_does_not_depend_on_the_others() -> None:
    whole = make_labels("points", mask(), "a", 0, MakeConfig())
    changed = mask()
    changed[:, :, 2:] = 0
    assert np.array_equal(make_labels("points", changed, "a", 0, MakeConfig())[:, :, :2], whole[:, :, :2])


def test_points_are_counted_inside_and_background_surrounds() -> None:
    plane = mask()[:, :, 0]
    settings = MakeConfig(points=4, background_points=5, background_distance_px=6)
    drawn = points(plane, np.random.default_rng(0), settings)
    assert [(drawn == label).sum() for label in range(4)] == [5, 4, 4, 4]
    distance = ndimage.distance_transform_edt(plane == 0)[drawn == 0]
    assert distance.min() >= 6 and distance.max() <= 18
    middle = np.argwhere(plane > 0).mean(0)
    angles = np.sort(np.arctan2(*(np.argwhere(drawn == 0) - middle).T))
    assert np.diff([*angles, angles[0] + 2 * np.pi]).max() < np.pi  # no half of the surroundings is without one
    depth = ndimage.distance_transform_edt(plane == 3)
    assert depth[drawn == 3].min() >= depth.max() / 2


def test_more_points_than_pixels_take_them_all() -> None:
    plane = np.zeros((40, 40), np.uint8)
    plane[20, 20:22] = 1
    assert (points(plane, np.random.default_rng(0), MakeConfig(points=9)) == 1).sum() == 2


@pytest.mark.parametrize("seed", range(5))
def test_background_loop_is_closed_and_keeps_its_distance(seed: int) -> None:
    plane = mask()[:, :, 1]
    drawn = scribbles(plane, np.random.default_rng(seed), MakeConfig(background_distance_px=8))
    loop = drawn == 0
    pieces, _ = ndimage.label(~loop)  # edge to edge: a loop connected by corners still holds
    inside = set(pieces[plane > 0])
    rim = {*pieces[0], *pieces[-1], *pieces[:, 0], *pieces[:, -1]} - {0}
    assert not inside & rim
    distance = ndimage.distance_transform_edt(plane == 0)[loop]
    assert 8 * 0.75 - 1.5 <= distance.min() and distance.max() <= 8 * 1.25 + 1.5


def test_scribbles_are_thin_and_as_long_as_asked() -> None:
    plane = mask()[:, :, 0]
    whole = scribbles(plane, np.random.default_rng(0), MakeConfig(scribble_share=1.0))
    part = scribbles(plane, np.random.default_rng(0), MakeConfig(scribble_share=0.5))
    for label in (1, 2, 3):
        line = whole == label
        assert not ndimage.binary_erosion(line, np.ones((2, 2))).any()
        assert (part == label).sum() == max(1, round(0.5 * line.sum()))
        assert ndimage.label(part == label, np.ones((3, 3)))[1] == 1
    ring = np.argwhere(whole == 2) - (35, 36)
    assert np.abs(np.hypot(*ring.T) - 7.25).max() < 1.5  # the ring lies between radius 5.5 and 9


def test_blocks_are_whole_tiles_with_each_class() -> None:
    plane = mask()[:, :, 0]
    drawn = blocks(plane, np.random.default_rng(1), MakeConfig(block_size=8, blocks=2))
    whole = (drawn != IGNORE)[:72, :64].reshape(9, 8, 8, 8).transpose(0, 2, 1, 3).reshape(72, 64)
    assert ((whole.all(1)) | (~whole.any(1))).all()
    tiles = drawn[:72, :64].reshape(9, 8, 8, 8).transpose(0, 2, 1, 3).reshape(72, 64)
    for label in (1, 2, 3):
        assert (tiles == label).any(1).sum() >= 2
    assert ((tiles == 0).all(1)).sum() >= 1


def test_boxes_are_tight() -> None:
    boxes = box_masks(mask(), 3)
    for label in range(1, 4):
        for z in range(4):
            places = np.argwhere(mask()[:, :, z] == label)
            expected = np.zeros(mask().shape[:2], bool)
            if len(places):
                (x0, y0), (x1, y1) = places.min(0), places.max(0)
                expected[x0 : x1 + 1, y0 : y1 + 1] = True
            assert np.array_equal(boxes[label - 1, :, :, z], expected)
    outside = make_labels("boxes", mask(), "a", 0, MakeConfig())
    assert np.array_equal(outside == 0, ~boxes.any(0)) and set(np.unique(outside)) == {0, IGNORE}


@pytest.mark.parametrize("kind", KINDS)
def test_odd_masks_make_no_trouble(kind: str) -> None:
    for plane in (np.zeros((20, 17)), np.ones((20, 17)), np.eye(20, 17)):
        drawn = make_labels(kind, plane.astype(np.uint8)[..., None], "a", 0, MakeConfig(block_size=6))
        known = drawn[..., 0] != IGNORE
        assert known.any() and (drawn[..., 0][known] == plane[known]).all()
