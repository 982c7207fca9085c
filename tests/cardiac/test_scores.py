"""Scores of hearts by class, level and phase, on blocks whose overlap is known."""

from __future__ import annotations

import numpy as np
import pytest

from unia_med.cardiac.scores import VIEWS, ScoredVolume, heart_scores


def _volume(phase: str, lv_found: int, lv_true: int, rv_found: int = 0) -> ScoredVolume:
    """Six slices of 10 x 10; the LV fills so many pixels of each, the wall 10, and RV is in the first two slices."""
    masks = []
    for lv in (lv_found, lv_true):
        mask = np.zeros((100, 6), np.uint8)
        mask[:lv], mask[60:70] = 3, 2
        masks.append(mask)
    masks[0][80:90, :rv_found], masks[1][80:90, :2] = 1, 1
    found, true = (mask.reshape(10, 10, 6) for mask in masks)
    return ScoredVolume("patient001", "NOR", phase, found, true)


def test_scores_are_those_of_the_blocks() -> None:
    scores = heart_scores([_volume("ED", 30, 50, rv_found=4), _volume("ES", 15, 20, rv_found=2)])
    assert scores["by_phase"]["ED"]["LV"] == pytest.approx(2 * 30 / 80, abs=1e-4)
    assert scores["dice"]["LV"] == pytest.approx((0.75 + 30 / 35) / 2, abs=1e-4)
    assert scores["dice"]["MYO"] == 1 and scores["by_group"] == {"NOR": scores["dice"]}
    base, middle, apex = (scores["by_level"]["ED"][level]["RV"] for level in ("base", "middle", "apex"))
    assert (base, middle, apex) == (1, 0, 0)  # predicted in the first four slices, annotated in the first two
    assert scores["size"]["ED"] == {"RV": 2.0, "MYO": 1.0, "LV": 0.6}
    # 100 (1 - 15 / 30) - 100 (1 - 20 / 50)
    assert scores["fraction_error_points"] == {"mean": 10.0, "median": 10.0, "bias": -10.0}
    assert scores["volumes"] == 2 and scores["no_heart_found"] == 0


def test_dice_of_all_voxels_together_and_of_the_heart_as_one() -> None:
    """Per slice of ED: LV 30 of 50, wall 10 of 10; RV (10 pixels a slice) in 4 of its 2 slices. ES: LV 15 of 20."""
    scores = heart_scores([_volume("ED", 30, 50, rv_found=4), _volume("ES", 15, 20, rv_found=2)])
    assert scores["dice_of_all_voxels"]["LV"] == pytest.approx(2 * (30 + 15) / (30 + 50 + 15 + 20), abs=1e-4)
    full = (2 * (40 * 6 + 20), (40 * 6 + 40) + (60 * 6 + 20))  # twice the common voxels, and both sizes
    empty = (2 * (25 * 6 + 20), (25 * 6 + 20) + (30 * 6 + 20))
    mean = np.mean([both / total for both, total in (full, empty)])
    together = (full[0] + empty[0]) / (full[1] + empty[1])
    assert scores["heart"] == {"mean": pytest.approx(mean, abs=1e-4), "all_voxels": pytest.approx(together, abs=1e-4)}


def test_views_are_undone() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    for there, back in VIEWS.values():
        assert np.array_equal(back(there(array)), array)
    assert len({there(array).tobytes() for there, _ in VIEWS.values()}) == len(VIEWS)
