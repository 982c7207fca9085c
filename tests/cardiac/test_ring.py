"""The ring prior against synthetic slices whose labels are known by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unia_med.cardiac.phantom.anatomy import HeartShape, RightVentricle, rasterise
from unia_med.cardiac.ring.locate import track
from unia_med.cardiac.ring.regions import convex_hull
from unia_med.cardiac.ring.right import ANGLES, vote
from unia_med.cardiac.ring.segmenter import RingSegmenter
from unia_med.cardiac.ring.settings import RingSettings
from unia_med.errors import UserError

RV, MYO, LV = 1, 2, 3
INTENSITY = np.array([0.15, 0.7, 0.25, 0.8], np.float32)


def stack(
    direction: float = math.pi,
    shape: tuple[int, int] = (96, 96),
    centre: tuple[float, float] = (50.0, 46.0),
    radii: tuple[float, ...] = (12.0, 13.0, 11.0, 8.0),
    wall: float = 5.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A clean stack (Z, H, W) of circular hearts with a little noise, and its labels."""
    labels = []
    for radius in radii:
        rv = RightVentricle(direction, tangential=radius, radial=0.6 * radius, distance=1.25 * radius + wall, bend=0.2)
        labels.append(rasterise(HeartShape(centre, radius, wall, rv=rv), shape).labels())
    labels = np.stack(labels)
    noise = np.random.default_rng(0).normal(0, 0.02, labels.shape)
    return np.clip(INTENSITY[labels] + noise, 0, 1).astype(np.float32), labels


def dice(found: np.ndarray, truth: np.ndarray, label: int) -> float:
    a, b = found == label, truth == label
    return 2 * (a & b).sum() / max((a.sum() + b.sum()), 1)


@pytest.mark.parametrize("direction", [math.pi, 0.0, math.pi / 2, -2.0])
def test_finds_all_structures_wherever_the_rv_lies(direction: float) -> None:
    volume, truth = stack(direction)
    found = RingSegmenter().fit([volume]).scores(volume).argmax(axis=1)
    assert dice(found, truth, LV) > 0.93
    assert dice(found, truth, MYO) > 0.8
    assert dice(found, truth, RV) > 0.75


def test_fit_votes_the_direction_without_masks() -> None:
    prior = RingSegmenter().fit([stack(-2.0 + shift)[0] for shift in (-0.2, 0.0, 0.2)])
    assert abs(np.angle(np.exp(1j * (prior.atlas.direction + 2.0)))) < 0.2


def test_a_set_direction_overrules_the_vote() -> None:
    volume, _ = stack(math.pi)
    prior = RingSegmenter(RingSettings(rv_direction=0.0)).fit([volume])
    assert prior.atlas.direction == 0.0
    assert not (prior.labels(volume) == RV)[:, :40].any()  # the true RV lies in the upper rows


def test_settings_in_mm_follow_the_pixel_size() -> None:
    coarse, truth = stack()
    fine = coarse.repeat(2, axis=1).repeat(2, axis=2)
    found = RingSegmenter(RingSettings(spacing_mm=1.875 / 2)).fit([fine]).labels(fine)
    assert dice(found, truth.repeat(2, axis=1).repeat(2, axis=2), LV) > 0.93


@pytest.mark.parametrize("wall", [3.5, 5.0, 8.0])
def test_measures_thin_and_thick_walls(wall: float) -> None:
    volume, truth = stack(radii=(8.0, 9.0, 9.0), wall=wall)
    found = RingSegmenter().fit([volume]).labels(volume)
    assert (found == MYO).sum() == pytest.approx((truth == MYO).sum(), rel=0.3)


@pytest.mark.parametrize("label", [RV, MYO, LV])
def test_an_absent_class_is_absent(label: int) -> None:
    volume, _ = stack()
    tags = np.ones((len(volume), 3), np.int8)
    tags[1, label - 1] = 0
    labels = RingSegmenter().fit([volume]).labels(volume, tags)
    assert not (labels[1] == label).any()
    assert (labels[0] == label).any() and (labels[2] == label).any()


def test_a_wall_without_cavity_is_filled() -> None:
    volume, truth = stack()
    tags = np.array([[1, 1, 0]] * len(volume), np.int8)
    labels = RingSegmenter().fit([volume]).labels(volume, tags)
    inside = truth == LV
    assert (labels[inside] == MYO).mean() > 0.9


def test_an_empty_slice_is_background_only() -> None:
    volume, _ = stack()
    tags = np.ones((len(volume), 3), np.int8)
    tags[3] = 0
    scores = RingSegmenter().fit([volume]).scores(volume, tags)
    np.testing.assert_array_equal(scores[3, 0], 1)
    np.testing.assert_array_equal(scores[3, 1:], 0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_no_ring_gives_background(value: float) -> None:
    volume = np.full((3, 64, 64), value, np.float32)
    np.testing.assert_array_equal(RingSegmenter().fit([volume]).labels(volume), 0)


def test_a_dark_disc_is_no_ring() -> None:
    volume, _ = stack()
    np.testing.assert_array_equal(
        RingSegmenter().labels(np.where(volume > 0.5, 0.1, 0.6))[:, 45:55, 40:52] == LV, False
    )


def test_scores_are_soft_probabilities() -> None:
    volume, truth = stack()
    scores = RingSegmenter().fit([volume]).scores(volume)
    assert scores.shape == (4, 4, 96, 96) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert scores.min() >= 0
    assert scores[0, LV, 50, 46] > 0.99
    border = (scores[:, LV] > 0.3) & (scores[:, LV] < 0.7)
    assert 0 < border.mean() < 0.05


@pytest.mark.parametrize("shape", [(72, 100), (100, 72)])
def test_one_slice_of_a_non_square_image(shape: tuple[int, int]) -> None:
    volume, truth = stack(shape=shape, centre=(shape[0] / 2, shape[1] / 2), radii=(10.0,))
    found = RingSegmenter().fit([volume]).labels(volume)
    assert found.shape == (1, *shape)
    assert dice(found, truth, LV) > 0.9


def test_deterministic_and_leaves_the_input_alone() -> None:
    volume, _ = stack()
    before = volume.copy()
    first = RingSegmenter().fit([volume]).scores(volume)
    second = RingSegmenter().fit([volume]).scores(volume)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(volume, before)


def decoy_stack() -> tuple[np.ndarray, np.ndarray]:
    """A stack with the heart off centre and a still ring, as bright, at the image centre."""
    volume, truth = stack(shape=(128, 128), centre=(64.0, 98.0), radii=(10.0, 11.0, 9.0))
    decoy = rasterise(HeartShape((64.0, 45.0), 10.0, 5.0), (128, 128)).labels()
    return np.where(decoy > 0, INTENSITY[decoy], volume).astype(np.float32), truth


def test_locator_and_partner_lead_to_the_heart() -> None:
    volume, truth = decoy_stack()
    heat = (truth == LV).astype(np.float32)
    partner = np.where(truth == LV, volume - 0.2, volume)
    prior = RingSegmenter(RingSettings(rv_direction=math.pi))
    assert dice(prior.labels(volume), truth, LV) < 0.1  # the image centre alone is misled
    assert dice(prior.labels(volume, locator=heat), truth, LV) > 0.9
    assert dice(prior.labels(volume, partner=partner), truth, LV) > 0.9


def test_track_follows_a_moving_ring() -> None:
    centres = [(44.0 + 2 * z, 50.0 - 2 * z) for z in range(5)]
    slices = [rasterise(HeartShape(centre, 10.0, 5.0), (96, 96)).labels() for centre in centres]
    rings, strengths = track(INTENSITY[np.stack(slices)], RingSettings())
    assert np.abs(rings[:, :2] - np.array(centres)).max() <= 1.5
    assert (strengths > 0.3).all()


def test_vote_is_the_circular_mean() -> None:
    lengths = np.zeros((2, ANGLES))
    lengths[0, ANGLES - 2], lengths[1, 4] = 10, 10  # rays -10 and +20 degrees
    direction, agreement = vote(lengths)
    assert math.degrees(direction) == pytest.approx(5)
    assert agreement == pytest.approx(math.cos(math.radians(15)))


def test_convex_hull_by_hand() -> None:
    mask = np.zeros((5, 5), bool)
    mask[0, 0] = mask[4, 0] = mask[0, 4] = True
    expected = np.add.outer(np.arange(5), np.arange(5)) <= 4
    np.testing.assert_array_equal(convex_hull(mask), expected)
    line = np.zeros((5, 5), bool)
    line[2, 1:4] = True
    np.testing.assert_array_equal(convex_hull(line), line)


def test_tiny_images_do_not_fail() -> None:
    volume = np.random.default_rng(0).random((2, 12, 20), np.float32)
    assert RingSegmenter().fit([volume]).scores(volume, np.ones((2, 3), np.int8)).shape == (2, 4, 12, 20)


def test_faulty_input_is_named() -> None:
    volume, _ = stack()
    with pytest.raises(UserError, match="tags of shape"):
        RingSegmenter().labels(volume, np.ones((1, 3), np.int8))
    with pytest.raises(UserError, match="expected finite"):
        RingSegmenter().labels(volume[0])
    with pytest.raises(UserError, match="expected finite"):
        RingSegmenter().labels(np.full((1, 32, 32), np.nan))
