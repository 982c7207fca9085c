"""Scores of a validation and the voxels that it keeps, on arrays in memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.engine.training_images import Looked, _mean_dice, review_threshold
from unia_med.engine.validation import Validation
from unia_med.engine.voxels import draw_voxels
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch
from unia_med.metrics.overlap import dice


class _Slices:
    """Two slices of every case, which a prior has labelled with a fifth of the highest score."""

    tags, scores = np.ones((2, 3), np.int8), np.full((2, 4, 2, 2), 51, np.uint8)

    def rows(self, case: str) -> slice:
        return slice(0, 2)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": torch.zeros(1, 2, 2)}


def _validation() -> Validation:
    return Validation(RunConfig(), None, [], torch.device("cpu"))


def test_dice_of_a_set_counts_the_pixels_of_all_its_pictures_together() -> None:
    generator = np.random.default_rng(0)
    pairs = [(generator.integers(0, 4, (size, 9)), generator.integers(0, 4, (size, 9))) for size in (4, 20)]
    found, others = _validation()._set_scores([(None, predicted, true) for predicted, true in pairs])
    predicted, true = (np.concatenate([pair[index] for pair in pairs]) for index in (0, 1))
    assert found == pytest.approx({n: dice(predicted == k, true == k) for k, n in enumerate(("RV", "MYO", "LV"), 1)})
    ious = [((predicted == k) & (true == k)).sum() / ((predicted == k) | (true == k)).sum() for k in range(4)]
    assert others["val_miou"] == pytest.approx(np.mean(ious))


def test_columns_of_labels_see_scores_from_0_to_1_and_add_up_over_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    validation, seen = _validation(), []
    truth = torch.tensor([[[0, 1], [2, IGNORE]], [[3, 1], [0, 0]]], dtype=torch.uint8).numpy()
    slices = _Slices()
    monkeypatch.setattr(validation, "_truth", lambda case: truth)
    monkeypatch.setattr(validation, "_tagged_slices", lambda: slices)
    guess = torch.tensor([[[0, 1], [1, 1]], [[IGNORE, 1], [0, 0]]])

    def label_maps(batch: Batch) -> dict[str, Tensor]:
        seen.append(batch.scores)
        return {"CAM": guess}

    method = SimpleNamespace(label_maps=label_maps)
    counts = validation._case_counts(method, slices, SimpleNamespace(name="a"))["CAM"]
    assert seen[0].max().item() == pytest.approx(0.2)
    assert counts.tolist() == [[2, 5], [0, 1], [0, 1]]  # intersections and sums of sizes; unknown pixels are left out
    validation.cases = [SimpleNamespace(name="a"), SimpleNamespace(name="b")]
    assert validation._label_scores(method)["CAM"] == pytest.approx([0.8, 0.0, 0.0])


def test_voxels_are_drawn_round_both_labels_where_something_is_known() -> None:
    truth, predicted = (np.zeros((30, 30, 6), np.uint8) for _ in range(2))
    truth[4, 4, 1], predicted[20, 22, 3], truth[10, 10, 2] = 1, 2, IGNORE
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), truth.shape).transpose(3, 0, 1, 2)
    found = draw_voxels(truth, predicted, probabilities, (5.0, 2.5, 9.0), 10**6, 0)
    # A margin of 10 mm is 2 voxels along the first axis, 4 along the second and none along the third.
    assert len(found.labels) == (22 - 2 + 1) * (26 - 0 + 1) * 3 - 1
    assert IGNORE not in found.labels and found.probabilities.shape == (len(found.labels), 3)
    assert len(draw_voxels(truth, predicted, probabilities, (5.0, 2.5, 9.0), 50, 0).labels) == 50


def test_a_review_begins_where_rates_of_good_and_bad_masks_part() -> None:
    """Rates, not counts: one bad mask among many good ones counts as much as all of these."""
    doubts = {0.3: 0.4, **dict.fromkeys((0.1, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 0.95)}
    looked = [Looked(None, doubt, score) for doubt, score in doubts.items()]
    assert review_threshold(looked, [])[0] == pytest.approx(0.25)


def test_the_dice_of_a_mask_is_the_mean_over_its_classes() -> None:
    truth, labels = np.array([1, 1, 2, 2, IGNORE, 0]), np.array([1, 1, 2, 0, 2, 0])
    assert _mean_dice(labels, truth, 3) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("temperature", "best", "step", "kept"),
    [
        (None, "dice", 3, True),
        (1.0, "dice", 3, True),  # probabilities are those of the network, as without one
        (2.0, "dice", 3, False),
        (None, "none", 3, False),
        (None, "none", 10, True),
        (2.0, "none", 10, False),
    ],
)
def test_predictions_are_kept_to_calibrate_with_if_they_are_the_checkpoints_own(
    temperature: float | None, best: str, step: int, kept: bool
) -> None:
    training = {"iterations": 10, "keep_best_by": best}
    config = RunConfig.model_validate({"inference": {"temperature": temperature}, "training": training})
    assert Validation(config, None, [], torch.device("cpu"))._may_calibrate(step) is kept
