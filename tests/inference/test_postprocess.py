"""Post-processing of constructed volumes whose clean form is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from unia_med.inference.postprocess import (
    fill_slice_gaps,
    fill_slice_holes,
    keep_largest_components,
    postprocess,
)
from unia_med.localise.pieces import drop_largest_piece, largest_piece

ROWS, COLUMNS = np.ogrid[:41, :37]


def disc(radius: float, row: int = 20, column: int = 18) -> np.ndarray:
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


def heart(slices: int = 5) -> np.ndarray:
    """(41, 37, slices): a ring of 2 around a disc of 3, and a block of 1 beside it."""
    section = np.zeros((41, 37), np.uint8)
    section[disc(9)], section[disc(5)] = 2, 3
    section[14:26, 31:36] = 1
    return np.repeat(section[:, :, None], slices, axis=2)


def largest_by_flood(mask: np.ndarray) -> np.ndarray:
    """Largest part by an explicit flood over the 26 neighbours."""
    left = {tuple(int(i) for i in index) for index in np.argwhere(mask)}
    best: set[tuple[int, ...]] = set()
    while left:
        stack, part = [left.pop()], set()
        while stack:
            voxel = stack.pop()
            part.add(voxel)
            for step in itertools.product((-1, 0, 1), repeat=3):
                near = tuple(v + s for v, s in zip(voxel, step, strict=True))
                if near in left:
                    left.remove(near)
                    stack.append(near)
        best = max(best, part, key=len)
    kept = np.zeros_like(mask)
    kept[tuple(np.array(sorted(best)).T)] = True
    return kept


ALL = {"largest_component": True, "fill_holes": True, "slice_gaps": True}


def test_a_clean_volume_stays_as_it_is() -> None:
    clean = heart()
    np.testing.assert_array_equal(postprocess(clean, **ALL), clean)


def test_nothing_is_removed_or_filled_unless_asked_for() -> None:
    labels = np.random.default_rng(0).choice(3, (9, 8, 5), p=[0.6, 0.2, 0.2]).astype(np.uint8)
    np.testing.assert_array_equal(postprocess(labels), labels)


@pytest.mark.parametrize("values", [[2], [1, 3]])
def test_largest_component_of_the_named_classes_alone(values: list[int]) -> None:
    labels = np.random.default_rng(1).choice(4, (9, 8, 5), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    kept = postprocess(labels, largest_component=values)
    for value in (1, 2, 3):
        expected = largest_by_flood(labels == value) if value in values else labels == value
        np.testing.assert_array_equal(kept == value, expected)


@pytest.mark.parametrize("seed", range(3))
def test_largest_component_of_the_foreground_against_a_flood(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(4, (9, 8, 5), p=[0.88, 0.04, 0.04, 0.04]).astype(np.uint8)
    kept = keep_largest_components(labels, together=True)
    np.testing.assert_array_equal(kept, np.where(largest_by_flood(labels > 0), labels, 0))
    assert np.count_nonzero(kept) < np.count_nonzero(labels)


def test_a_part_of_a_class_that_touches_another_stays_where_the_foreground_is_taken_as_one() -> None:
    labels = np.zeros((9, 9, 1), np.uint8)
    labels[1:3, 4], labels[3:5, 4], labels[5, 4], labels[7, 7] = 1, 2, 1, 1
    assert (
        np.count_nonzero(postprocess(labels, largest_component=True) == 1) == 2
    )  # the third voxel of class 1 lies apart
    whole = postprocess(labels, largest_component="foreground")
    np.testing.assert_array_equal(np.argwhere(labels != whole), [[7, 7, 0]])


@pytest.mark.parametrize("seed", range(3))
def test_largest_component_of_each_class_against_a_flood(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(4, (9, 8, 5), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    kept = keep_largest_components(labels)
    for value in (1, 2, 3):
        assert (kept == value).sum() == largest_by_flood(labels == value).sum()
    assert np.all((kept == labels) | (kept == 0))


def test_parts_that_share_a_corner_stay_together() -> None:
    labels = np.zeros((4, 4, 2), np.uint8)
    labels[:2, :2, 0] = labels[2, 2, 1] = 1
    np.testing.assert_array_equal(keep_largest_components(labels), labels)


def test_largest_is_by_voxels_in_3d_not_per_slice() -> None:
    labels = np.zeros((12, 12, 4), np.uint8)
    labels[1:3, 1:3] = 1  # 16 voxels in all, 4 in a slice
    labels[6:9, 6:9, 0] = 1  # 9 voxels in one slice
    kept = keep_largest_components(labels)
    assert kept.sum() == 16 and not kept[6:9, 6:9].any()


def test_by_length_a_part_that_many_slices_cut_beats_one_that_is_wide_in_two() -> None:
    """Sums of diameters over slices, in closed form: 10 x 3 against 2 x 14, though 90 voxels stand against 392."""
    labels = np.zeros((40, 40, 10), np.uint8)
    labels[2:5, 2:5] = 1
    labels[20:34, 20:34, 7:9] = 1
    long, wide = labels.copy(), labels.copy()
    long[10:], wide[:10] = 0, 0
    np.testing.assert_array_equal(postprocess(labels, largest_component=True), wide)
    for which in (True, [1], "foreground"):
        np.testing.assert_array_equal(postprocess(labels, largest_component=which, by_length=True), long)
    labels[20:36, 20:36, 7:9] = wide[20:36, 20:36, 7:9] = 1  # 2 x 16 are more than 10 x 3
    np.testing.assert_array_equal(postprocess(labels, largest_component=True, by_length=True), wide)


def test_a_hole_takes_the_class_around_it() -> None:
    clean, holed = heart(), heart()
    holed[18:21, 18, 2] = 0  # in the cavity, which the ring surrounds too
    holed[15, 33, 1] = 0  # in the block
    np.testing.assert_array_equal(fill_slice_holes(holed), clean)


def test_a_slit_between_two_classes_is_no_hole() -> None:
    slit = heart()
    slit[:, :, 1][disc(5) & ~disc(4)] = 0  # background between ring and cavity
    np.testing.assert_array_equal(fill_slice_holes(slit), slit)


def test_a_missed_cavity_does_not_become_ring() -> None:
    missed = heart()
    missed[:, :, 0][disc(5)] = 0
    np.testing.assert_array_equal(fill_slice_holes(missed), missed)
    speck = heart()
    speck[20, 11, 0] = 0  # but one lost voxel in the ring is filled
    np.testing.assert_array_equal(fill_slice_holes(speck), heart())


def test_a_large_hole_of_a_solid_class_is_filled() -> None:
    merged = np.minimum(heart(), 2)  # ring and cavity are one class here
    holed = merged.copy()
    holed[:, :, 0][disc(5)] = 0
    np.testing.assert_array_equal(fill_slice_holes(holed), merged)


def test_a_bay_open_to_the_border_is_no_hole() -> None:
    labels = np.zeros((10, 10, 1), np.uint8)
    labels[0:5, 2:8, 0] = 1
    labels[0:3, 4:6, 0] = 0  # open at the border of the image
    np.testing.assert_array_equal(fill_slice_holes(labels), labels)
    np.testing.assert_array_equal(postprocess(labels, **ALL), labels)


def test_a_tunnel_along_the_slices_is_filled_slice_by_slice() -> None:
    labels = np.zeros((9, 9, 3), np.uint8)
    labels[2:7, 2:7] = 1
    solid = labels.copy()
    labels[4, 4] = 0  # open at both ends in 3D, closed within each slice
    np.testing.assert_array_equal(fill_slice_holes(labels), solid)


def test_equal_neighbours_give_their_own_shape_back() -> None:
    clean, gap = heart(), heart()
    gap[:, :, 2] = 0
    np.testing.assert_array_equal(fill_slice_gaps(gap), clean)
    gap = heart()
    gap[:, :, 3][gap[:, :, 3] == 3] = 0
    np.testing.assert_array_equal(fill_slice_gaps(gap), clean)


def test_discs_of_two_sizes_give_the_disc_between() -> None:
    labels = np.zeros((41, 37, 3), np.uint8)
    labels[:, :, 0], labels[:, :, 2] = disc(4), disc(12)
    middle = fill_slice_gaps(labels)[:, :, 1].astype(bool)
    assert middle[disc(7)].all() and not middle[~disc(9)].any()


def test_gaps_that_are_left_alone() -> None:
    two_missing = heart()
    two_missing[:, :, 1:3] = 0
    far_apart = np.zeros((41, 37, 3), np.uint8)
    far_apart[:, :, 0], far_apart[:, :, 2] = disc(3, 6, 6), disc(3, 34, 30)
    ends = heart()
    ends[:, :, 0] = ends[:, :, -1] = 0
    waist = np.zeros((41, 37, 3), np.uint8)  # there, though smaller than above and below
    waist[:, :, 0] = waist[:, :, 2] = disc(9, 20, 18)
    waist[:, :, 1] = disc(2, 20, 18)
    for labels in (two_missing, far_apart, ends, waist):
        np.testing.assert_array_equal(fill_slice_gaps(labels), labels)


def test_a_gap_never_overwrites_another_class() -> None:
    labels = heart(3)
    labels[:, :, 1] = 0
    labels[10:30, 10:30, 1] = 1
    filled = fill_slice_gaps(labels)
    assert (filled[10:30, 10:30, 1] == 1).all()


def test_the_gap_is_closed_before_the_smaller_half_is_lost() -> None:
    broken = heart(6)
    broken[:, :, 2] = 0
    np.testing.assert_array_equal(postprocess(broken, **ALL), heart(6))
    assert not postprocess(broken, **{**ALL, "slice_gaps": False})[:, :, :2].any()


def test_each_step_can_be_switched_off() -> None:
    dirty = heart()
    dirty[:, :, 2] = 0
    dirty[20, 18, 0] = 0
    dirty[0, 0, 0] = 3
    np.testing.assert_array_equal(postprocess(dirty, False, False, False), dirty)
    assert postprocess(dirty, False, True, True)[0, 0, 0] == 3
    assert postprocess(dirty, True, False, True)[20, 18, 0] == 0
    assert not postprocess(dirty, True, True, False)[:, :, 2].any()
    np.testing.assert_array_equal(postprocess(dirty, **ALL), heart())


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 4, 1), (3, 3, 2), (6, 5, 3)])
@pytest.mark.parametrize("value", [0, 1])
def test_degenerate_volumes(shape: tuple[int, ...], value: int) -> None:
    labels = np.full(shape, value, np.uint8)
    cleaned = postprocess(labels, **ALL)
    assert cleaned.dtype == np.uint8 and cleaned is not labels
    np.testing.assert_array_equal(cleaned, labels)


def test_the_input_is_not_changed() -> None:
    dirty = heart()
    dirty[0, 0, 0] = 3
    before = dirty.copy()
    postprocess(dirty)
    np.testing.assert_array_equal(dirty, before)


def test_more_pieces_than_16_bits_count() -> None:
    mask = np.zeros((400, 400, 2), bool)
    mask[::2, ::2, 0] = True  # 40,000 voxels that touch nothing
    assert largest_piece(mask).sum() == 1
    rest = mask.copy()
    drop_largest_piece(rest)
    np.testing.assert_array_equal(rest, mask & ~largest_piece(mask))
    wide = np.zeros((800, 400, 1), bool)
    wide[::2, ::2, 0] = True
    wide[:2, 1, 0] = True
    assert wide.sum() > 1 << 16 and largest_piece(wide).sum() == 4  # three in a row and the one below


def test_a_hole_of_a_tenth_of_a_shell_is_filled_and_a_larger_one_may_be_its_core() -> None:
    for size, filled in ((9, True), (10, True), (11, False)):
        labels = np.zeros((14, 30, 2), np.uint8)
        labels[1:11, 1:12, 0] = 1  # 110 voxels less those of the hole
        hole = [(4 + index // 4, 3 + index % 4) for index in range(size)]
        labels[(*zip(*hole, strict=True), 0)] = 0
        labels[1:6, 1:6, 1], labels[3, 3, 1] = 1, 2  # it surrounds another class elsewhere
        assert bool(10 * size <= np.count_nonzero(labels[:, :, 0])) is filled
        assert all((fill_slice_holes(labels)[y, x, 0] == 1) == filled for y, x in hole)


def test_holes_are_bounded_by_corners_and_do_not_meet_at_them() -> None:
    """A way leads from face to face alone: a ring of corners holds, and two holes that share a corner are two."""
    ring = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    assert fill_slice_holes(np.pad(ring, 1)[:, :, None])[2, 2, 0] == 1
    labels = np.ones((12, 12, 1), np.uint8)
    labels[4, 4], labels[5, 5] = 0, 0
    labels[5, 6] = 2  # beside the second hole, which is its own rim then
    filled = fill_slice_holes(labels)[:, :, 0]
    assert (filled[4, 4], filled[5, 5]) == (1, 0)


def test_shapes_that_only_touch_give_nothing_between_them() -> None:
    labels = np.zeros((6, 8, 3), np.uint8)
    labels[:, :4, 0], labels[:, 4:, 2] = 1, 1
    np.testing.assert_array_equal(fill_slice_gaps(labels), labels)
