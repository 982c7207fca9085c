"""Calibration measures against closed forms and slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from unia_med.metrics.calibration import (
    SHARES,
    ErrorSearch,
    area_under_roc,
    errors_among_most_uncertain,
    expected_calibration_error,
    neighbourhood,
    reliability,
)


def test_bins_by_a_loop() -> None:
    generator = np.random.default_rng(0)
    confidence = np.concatenate([generator.uniform(0, 1, 500), [0.0, 0.2, 0.4, 1.0]])  # edges belong to the lower bin
    correct = generator.random(len(confidence)) < 0.6
    table = reliability(confidence, correct, bins=5)
    for m in range(5):
        inside = (confidence > m / 5) & (confidence <= (m + 1) / 5) if m else confidence <= 0.2
        assert table.count[m] == inside.sum()
        assert table.mean_confidence()[m] == pytest.approx(confidence[inside].mean())
        assert table.accuracy()[m] == pytest.approx(correct[inside].mean())


def test_confidences_beyond_the_range_by_rounding_fall_into_the_outer_bins() -> None:
    table = reliability(np.array([1.0 + 1e-7, -1e-7]), np.array([True, False]), bins=4)
    np.testing.assert_array_equal(table.count, [1, 0, 0, 1])
    np.testing.assert_array_equal(table.accuracy(), [0, np.nan, np.nan, 1])  # of one voxel each


def test_error_in_closed_form() -> None:
    # Two bins: 3 voxels at 0.8 of which 2 are right, 1 voxel at 0.3 that is right.
    table = reliability(np.array([0.8, 0.8, 0.8, 0.3]), np.array([True, True, False, True]))
    assert expected_calibration_error(table) == pytest.approx(3 / 4 * abs(0.8 - 2 / 3) + 1 / 4 * 0.7)
    assert expected_calibration_error(reliability(np.zeros(0), np.zeros(0, bool))) is None
    assert np.isnan(table.accuracy()[0])


def test_honest_confidences_have_no_error_and_false_ones_have_their_gap() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.25, 1, 200_000)
    assert expected_calibration_error(reliability(confidence, generator.random(200_000) < confidence)) < 0.005
    boasting = reliability(confidence, generator.random(200_000) < confidence - 0.2)
    assert expected_calibration_error(boasting) == pytest.approx(0.2, abs=0.005)


def test_parts_add_up_to_the_whole() -> None:
    generator = np.random.default_rng(2)
    confidence, correct = generator.random(300), generator.random(300) < 0.5
    whole, parts = reliability(confidence, correct), reliability(confidence[:70], correct[:70])
    parts = parts + reliability(confidence[70:], correct[70:])
    np.testing.assert_array_equal(parts.count, whole.count)
    np.testing.assert_array_equal(parts.correct, whole.correct)
    np.testing.assert_allclose(parts.confidence, whole.confidence)


def test_most_uncertain_by_sorting() -> None:
    generator = np.random.default_rng(3)
    uncertainty, wrong = generator.permutation(1000) / 1000, generator.random(1000) < 0.1
    order = np.argsort(-uncertainty)
    expected = [wrong[order[: int(share * 1000)]].sum() for share in SHARES]
    volumes = uncertainty.reshape(10, 100), wrong.reshape(10, 100)
    np.testing.assert_allclose(errors_among_most_uncertain(*volumes), expected)


def test_ties_count_as_random_picks_do() -> None:
    uncertainty = np.array([1.0, 0.5, 0.5, 0.5, 0.0, 0.0])
    wrong = np.array([False, True, True, False, True, False])
    picks = np.random.default_rng(4)
    found = []
    for _ in range(4000):
        order = np.lexsort((picks.random(6), -uncertainty))
        found.append([wrong[order[:count]].sum() for count in (1, 3, 5)])
    in_closed_form = errors_among_most_uncertain(uncertainty, wrong, (1 / 6, 3 / 6, 5 / 6))
    np.testing.assert_allclose(in_closed_form, np.mean(found, 0), atol=0.05)
    constant = errors_among_most_uncertain(np.zeros(100), np.arange(100) < 30, (0.1,))
    assert constant[0] == pytest.approx(3)  # an uncertainty that says nothing finds what chance finds


def test_search_over_volumes_pools_the_errors() -> None:
    search = ErrorSearch()
    assert search.fractions() == [None, None, None]
    search.add(np.linspace(0, 1, 100), np.arange(100) >= 95)  # the 5 most uncertain of 100 are the 5 wrong ones
    search.add(np.linspace(1, 0, 100), np.arange(100) >= 95)  # the 5 most certain are
    assert search.fractions() == pytest.approx([0.1, 0.5, 0.5])


def test_neighbourhood_is_the_box_of_both_grown_in_plane() -> None:
    truth, found = np.zeros((2, 40, 30, 6), np.uint8)
    truth[20, 10, 2], found[24, 12, 3] = 1, 2
    box = neighbourhood([truth, found], (2.0, 5.0, 10.0))
    assert box == (slice(15, 30), slice(8, 15), slice(2, 4))
    assert neighbourhood([truth * 0], (2.0, 5.0, 10.0)) == (slice(0, 40), slice(0, 30), slice(0, 6))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="2 uncertainties for 3"):
        errors_among_most_uncertain(np.zeros(2), np.zeros(3, bool))
    with pytest.raises(ValueError, match="2 confidences for 3"):
        reliability(np.zeros(2), np.zeros(3, bool))


def test_area_under_roc_is_the_chance_of_the_right_order() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, (4, 5)).astype(np.float32)  # many are equal
    positive = generator.random((4, 5)) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert area_under_roc(scores, positive) == pytest.approx(np.mean(pairs))
    assert area_under_roc(scores, np.ones((4, 5), bool)) is None
    assert area_under_roc(scores, np.zeros((4, 5), bool)) is None
    with pytest.raises(ValueError, match="20 scores for 3 voxels"):
        area_under_roc(scores, np.zeros(3, bool))
