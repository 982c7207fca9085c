"""Slices of whole hearts: sizes are those of guidelines, the anatomy is consistent, every direction occurs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from unia_med.cardiac.phantom import bank as drawing
from unia_med.cardiac.phantom import subjects as drawn
from unia_med.cardiac.phantom.anatomy import HeartShape, rasterise
from unia_med.cardiac.phantom.bank import RV_TOWARDS_FIRST_ROW, SLICES_PER_SUBJECT, draw_bank, turned
from unia_med.cardiac.phantom.heart import Heart, Scar, heart_slice, in_pixels, left_ventricle
from unia_med.cardiac.phantom.subjects import COMPACT_WALL_MM, EXTRA_DESCENT_MM, Cut, Subject, draw_cut, draw_subject
from unia_med.cardiac.phantom.tissue import Tissue, paint_heart

UP = RV_TOWARDS_FIRST_ROW


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [draw_subject(np.random.default_rng(seed), UP) for seed in range(40)]


@pytest.fixture(scope="module")
def bank() -> tuple[np.ndarray, np.ndarray]:
    return draw_bank(160, (64, 64), 3.75, seed=4, rv_direction=UP)


def test_hypertrophic_walls_are_thick_and_all_groups_occur(subjects: list[Subject]) -> None:
    walls = {group: [s.heart.wall for s in subjects if s.group == group] for group in COMPACT_WALL_MM}
    assert all(walls.values())
    assert min(walls["HCM"]) > max(wall for group, found in walls.items() if group != "HCM" for wall in found) - 0.1
    assert min(walls["NOR"]) >= 5


def test_dilated_ventricles_are_larger_and_contract_less(subjects: list[Subject]) -> None:
    volume = {g: np.mean([s.heart.lv_volume for s in subjects if s.group == g]) for g in ("NOR", "DCM")}
    fraction = {g: np.mean([s.heart.lv_fraction for s in subjects if s.group == g]) for g in ("NOR", "DCM")}
    assert volume["DCM"] > 1.4 * volume["NOR"]
    assert fraction["DCM"] < 0.45 < fraction["NOR"]


def test_the_wall_thickens_in_systole(subjects: list[Subject]) -> None:
    normal = [s.heart for s in subjects if s.group == "NOR"]
    ratios = [left_ventricle(heart, 1.0).wall / left_ventricle(heart, 0.0).wall for heart in normal]
    assert 1.2 < np.mean(ratios) < 1.7


def test_the_right_ventricle_does_not_follow_a_dilated_left_one(subjects: list[Subject]) -> None:
    """RV volume over LV volume, at end diastole, by counting pixels: far lower in DCM than in RV disease."""
    shares: dict[str, list[float]] = {"DCM": [], "RV": []}
    for subject in subjects:
        if subject.group in shares:
            shares[subject.group].append(_pool_share(subject))
    assert np.mean(shares["DCM"]) < 0.9 < 1.4 < np.mean(shares["RV"])


def test_some_right_ventricles_are_far_larger_than_the_left(subjects: list[Subject]) -> None:
    """A leaking pulmonary valve is replaced at about 160 ml/m2, twice the volume of a normal LV."""
    shares = [_pool_share(subject) for subject in subjects if subject.group == "RV"]
    assert max(shares) > 2.0
    assert min(shares) < 1.6  # the disease begins at sizes little above normal ones


def test_in_systole_the_tricuspid_plane_passes_slices_that_still_show_the_left_ventricle(
    subjects: list[Subject],
) -> None:
    def starts(contraction: float) -> list[float]:
        """Depth in mm below the mitral plane at which the RV begins, per subject."""
        found = []
        for subject in subjects:
            lv = left_ventricle(subject.heart, contraction)
            depths = np.arange(0.5, 30.0, 0.5)
            shown = [heart_slice(subject.heart, lv.base + float(d), contraction).rv is not None for d in depths]
            found.append(float(depths[np.argmax(shown)]))
        return found

    rest, systole = np.array(starts(0.0)), np.array(starts(1.0))
    assert rest.mean() < 3  # mm: both planes lie close together
    assert 2 < (systole - rest).mean() < 8
    assert (systole - rest).max() <= EXTRA_DESCENT_MM + 0.5


def test_the_tricuspid_plane_of_a_failing_right_ventricle_comes_down_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "solve_right_ventricle", lambda heart, *_, **__: heart)  # its volumes do not matter here
    found = [draw_subject(np.random.default_rng(seed), UP) for seed in range(300)]
    descents: dict[bool, list[float]] = {True: [], False: []}
    for subject in found:
        descents[subject.group == "RV"].append(subject.heart.rv_descent * subject.heart.length)
    assert max(descents[False]) <= EXTRA_DESCENT_MM
    # Fractions of 0.15 to 0.45 against a normal one of 0.5 and more: 0.6 of the descent on average.
    assert 0.45 < np.mean(descents[True]) / np.mean(descents[False]) < 0.8
    assert 0.2 < len(descents[True]) / len(found) < 0.4


def test_an_infarct_of_the_whole_apex_thins_and_widens_it(subjects: list[Subject]) -> None:
    heart = next(s.heart for s in subjects if s.group == "NOR")
    hurt = replace(heart, scar=Scar(0.0, 0.0, 0.5, 0.9, whole_ring=True))
    lv = left_ventricle(heart, 1.0)

    def ring(one: Heart, level: float) -> tuple[int, int]:
        shape = in_pixels(heart_slice(one, lv.base + level * lv.length, 1.0), 1.0, (60.0, 60.0))
        labels = rasterise(shape, (120, 120)).labels()
        return int((labels == 2).sum()), int((labels == 3).sum())

    for level, changed in ((0.85, True), (0.05, False)):
        (muscle, pool), (thin, wide) = ring(heart, level), ring(hurt, level)
        assert (wide > 1.3 * pool) is changed
        assert (thin < 0.8 * muscle) is changed


def test_where_the_valve_has_passed_an_atrium_takes_the_place_of_the_right_ventricle(subjects: list[Subject]) -> None:
    """Bright chambers on the RV's side, without a label."""
    subject = next(s for s in subjects if s.group == "NOR")
    lv, seen = left_ventricle(subject.heart, 1.0), 0
    shape = replace(heart_slice(subject.heart, lv.base + 2.0, 1.0), rv=None)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        cut = Cut(shape, 0.05, 1.0)
        image, labels = drawing._paint(rng, np.zeros((96, 96)), subject, cut, 2.5, (48.0, 48.0), False)
        assert not (labels == 1).any()
        outside = np.where(labels == 0, image, 0)[:48]  # the RV would lie towards the first row
        seen += int((outside > 0.6 * image[labels == 3].mean()).sum() * 2.5**2 > 300)
    assert seen >= 10


def test_blood_of_the_right_ventricle_may_be_half_as_bright(bank: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = bank
    shown = [i for i in range(len(labels)) if (labels[i] == 1).sum() > 20 and (labels[i] == 3).sum() > 20]
    ratios = [images[i][labels[i] == 1].mean() / images[i][labels[i] == 3].mean() for i in shown]
    assert np.mean(np.array(ratios) < 0.65) > 0.1
    assert np.mean(np.array(ratios) > 0.9) > 0.3


def _pool_share(subject: Subject) -> float:
    areas = np.zeros(4)
    for depth in np.arange(2.0, subject.heart.length, 6.0):
        shape = in_pixels(heart_slice(subject.heart, float(depth), 0.0), 3.0, (50.0, 45.0))
        areas += np.bincount(rasterise(shape, (90, 90)).labels().ravel(), minlength=4)
    return float(areas[1] / areas[3])


def test_cuts_reach_beyond_base_and_apex(subjects: list[Subject]) -> None:
    rng = np.random.default_rng(0)
    levels = np.array([draw_cut(rng, subject).level for subject in subjects for _ in range(20)])
    assert 0.03 < (levels < 0).mean() < 0.2
    assert 0.03 < (levels > 1).mean() < 0.3


def test_no_cavity_is_labelled_above_the_base(subjects: list[Subject]) -> None:
    rng = np.random.default_rng(1)
    seen = 0
    for subject in subjects[:6]:
        for cut in (draw_cut(rng, subject) for _ in range(60)):
            if not cut.above_base:
                continue
            seen += 1
            _, labels = drawing._paint(rng, np.zeros((64, 64)), subject, cut, 3.75, (32.0, 32.0), False)
            assert not (labels >= 2).any()
    assert seen > 10


def test_the_cavity_is_enclosed_by_muscle(bank: tuple[np.ndarray, np.ndarray]) -> None:
    inner = bank[1] == 3
    border = np.zeros_like(inner)
    for axis, shift in ((1, 1), (1, -1), (2, 1), (2, -1)):
        border |= np.roll(inner, shift, axis)
    touching = bank[1][border & ~inner]
    assert (touching == 2).mean() > 0.97


def test_blood_is_brighter_than_muscle_and_trabeculae_darken_the_edge_of_the_pool(
    bank: tuple[np.ndarray, np.ndarray],
) -> None:
    from scipy.ndimage import binary_erosion

    images, labels = bank
    core = np.stack([binary_erosion(found == 3, iterations=2) for found in labels])
    edge = (labels == 3) & ~core
    assert images[core].mean() > 1.3 * images[labels == 2].mean()
    assert images[edge].mean() < 0.95 * images[core].mean()


def test_slices_depend_on_seed_and_subject_only() -> None:
    images, labels = draw_bank(SLICES_PER_SUBJECT + 2, (48, 48), 5.0, 1, UP, any_direction=True)
    again, labels_again = draw_bank(3, (48, 48), 5.0, 1, UP, any_direction=True)
    other, _ = draw_bank(3, (48, 48), 5.0, 2, UP, any_direction=True)
    assert_array_equal(images[:3], again)
    assert_array_equal(labels[:3], labels_again)
    assert (images[:3] != other).any()
    assert images.dtype == labels.dtype == np.uint8


def test_the_eight_turns_are_the_symmetries_of_a_square() -> None:
    array = np.arange(9).reshape(3, 3)
    seen = {turned(array, turn).tobytes() for turn in range(8)}
    assert len(seen) == 8
    assert_array_equal(turned(array, 0), array)
    assert_array_equal(turned(array, 4), array[:, ::-1])


@pytest.mark.parametrize(("any_direction", "sides"), [(False, 1), (True, 4)])
def test_the_right_ventricle_lies_on_one_side_or_on_all(any_direction: bool, sides: int) -> None:
    _, labels = draw_bank(256, (48, 48), 5.0, 3, UP, any_direction=any_direction)
    quadrants = []
    for found in labels:
        if (found == 1).sum() > 8 and (found == 3).any():
            row, column = np.mean(np.nonzero(found == 1), 1) - np.mean(np.nonzero(found == 3), 1)
            quadrants.append(round(math.atan2(column, row) / (math.pi / 2)) % 4)
    share = np.bincount(quadrants, minlength=4) / len(quadrants)
    assert (share > 0.15).sum() == sides


def test_hypertrophied_hearts_may_close_in_systole_and_others_do_not(subjects: list[Subject]) -> None:
    """The epicardium stays where it is: what the cavity loses the wall gains."""
    rng = np.random.default_rng(3)

    def left(group: str) -> list[float]:
        """Share of the drawn heart's cavity that slices of the middle keep at end systole."""
        shares = []
        for subject in (s for s in subjects if s.group == group):
            lv = left_ventricle(subject.heart, 1.0)
            for cut in (draw_cut(rng, subject) for _ in range(60)):
                if cut.contraction == 1.0 and 0.35 < cut.level < 0.95:
                    inner, outer = lv.radii(lv.base + cut.level * lv.length)
                    shares.append(cut.shape.lv_radius / inner)
                    assert cut.shape.lv_radius + cut.shape.wall >= outer - 1e-6
        return shares

    closed = np.array(left("HCM"))
    assert 0.25 < (closed < 0.75).mean() < 0.55
    assert min(left("NOR")) > 0.99


def test_a_layer_outside_the_epicardium_looks_like_muscle_and_is_not_labelled() -> None:
    shape = HeartShape((32.0, 32.0), 10.0, 6.0)
    fields, tissue = rasterise(shape, (64, 64)), Tissue(1.0, 0.5, 1.0, muscle_texture=0.0, muscle_gradient=0.0)
    images = [
        paint_heart(np.zeros((64, 64)), fields, replace(tissue, outer_layer=width), 10.0, np.random.default_rng(0))
        for width in (0.0, 3.0)
    ]
    radii = np.hypot(*np.indices((64, 64)) - 32.0)
    bare, covered = (image[np.abs(radii - 17.5) < 0.5].mean() for image in images)
    assert bare < 0.1 < 0.45 < covered  # 1 to 2 px outside a ring that ends at 16
    assert images[1][radii > 21].max() < 0.05
    assert not fields.labels()[radii > 16.5].any()


def test_a_dilated_right_ventricle_may_form_the_apex(subjects: list[Subject]) -> None:
    """Half a centimetre below the apex of the LV's cavity there may be an RV, in group RV alone."""
    reaches = {}
    for dilated in (True, False):
        hearts = [s.heart for s in subjects if (s.group == "RV") is dilated]
        below = [left_ventricle(heart, 0.0) for heart in hearts]
        shown = [
            heart_slice(h, lv.base + lv.length + 5.0, 0.0).rv is not None for h, lv in zip(hearts, below, strict=True)
        ]
        reaches[dilated] = np.mean(shown)
    assert 0.3 < reaches[True] < 0.95
    assert reaches[False] == 0


def test_slices_have_the_outer_layer_and_in_systole_twice_as_wide_a_one(subjects: list[Subject]) -> None:
    widths = {}
    for contraction in (0.0, 1.0):
        rng = np.random.default_rng(0)
        drawn_tissues = [drawing._draw_tissue(rng, subjects[0], 1 / 1.5, contraction, False) for _ in range(300)]
        widths[contraction] = 1.5 * np.array([tissue.outer_layer for tissue in drawn_tissues])  # in mm
    assert widths[0.0].min() >= 0
    assert 0.55 < widths[0.0].max() <= 0.6
    np.testing.assert_allclose(widths[1.0], 2 * widths[0.0])
