"""Threshold rules against a pixel-by-pixel reading, and labels on the token grid."""

from __future__ import annotations

import pytest
import torch

from unia_med.labels import IGNORE
from unia_med.localise.thresholds import (
    allowed_classes,
    possible_tags,
    score_labels,
    three_valued,
    token_labels,
    two_valued,
)
from unia_med.localise.token_grid import foreground_share, majority_labels, nearest_labels, sampled_foreground


def literal(values: list[float], tags: list[int], high: float, low: float) -> int:
    """Section 7 for one pixel."""
    scores = [v if tag == 1 else 0.0 for v, tag in zip(values, tags, strict=True)]
    best = max(range(len(scores)), key=lambda k: scores[k])
    if scores[best] > high:
        return best + 1
    return IGNORE if scores[best] > low else 0


@pytest.mark.parametrize("tags", [[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]])
def test_three_valued_pixel_by_pixel(tags: list[int]) -> None:
    cam = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0)).mul(8).round() / 8  # some at a threshold
    labels = three_valued(cam, torch.tensor([tags], dtype=torch.int8), high=0.75, low=0.25)
    assert labels.dtype == torch.int64
    for row in range(5):
        for column in range(6):
            assert labels[0, row, column] == literal(cam[0, :, row, column].tolist(), tags, 0.75, 0.25)


def test_an_image_without_tags_is_background_unless_the_tags_are_unknown() -> None:
    cam = torch.tensor([[[[0.9, 0.5, 0.1]]]])
    assert three_valued(cam, torch.tensor([[0]]), 0.7, 0.25).tolist() == [[[0, 0, 0]]]
    assert three_valued(cam, torch.tensor([[-1]]), 0.7, 0.25).tolist() == [[[IGNORE, IGNORE, 0]]]


def test_outside_the_source_image_is_ignored() -> None:
    labels = three_valued(torch.zeros(1, 1, 1, 2), torch.tensor([[1]]), 0.7, 0.25, valid=torch.tensor([[[[1.0, 0.0]]]]))
    assert labels.tolist() == [[[0, IGNORE]]]


def test_two_valued() -> None:
    cam = torch.tensor([[[[0.6, 0.4, 0.2]], [[0.7, 0.1, 0.55]]]])
    assert two_valued(cam, torch.tensor([[1, 0]]), 0.5).tolist() == [[[1, 0, 0]]]
    assert two_valued(cam, None, 0.5).tolist() == [[[2, 0, 2]]]


def test_token_labels_resize_the_map_not_the_labels() -> None:
    cam = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert token_labels(cam, torch.tensor([[1]]), (1, 1), 0.7, 0.25).tolist() == [[[IGNORE]]]


LABELS = torch.tensor([[[0, 0, 1, 2], [0, 3, 2, 2], [IGNORE, IGNORE, 1, 1], [IGNORE, 1, 1, 1]]])


def test_class_numbers_are_picked_never_mixed() -> None:
    assert majority_labels(LABELS, (2, 2), classes=4).tolist() == [[[0, 2], [IGNORE, 1]]]
    assert majority_labels(LABELS, (2, 2), classes=4, purity=0.8).tolist() == [[[IGNORE, IGNORE], [IGNORE, 1]]]
    assert majority_labels(LABELS, (2, 2), classes=4, purity=0.75).tolist() == [[[0, 2], [IGNORE, 1]]]  # at the limit
    assert nearest_labels(LABELS, (2, 2)).tolist() == [[[3, 2], [1, 1]]]
    assert torch.equal(nearest_labels(LABELS, (4, 4)), LABELS)


def test_foreground_share_is_an_area_mean() -> None:
    assert foreground_share(LABELS, (2, 2)).tolist() == [[[0.25, 1.0], [0.25, 1.0]]]
    assert foreground_share(LABELS, (1, 1)).item() == 0.625  # of all pixels, not of those in the middle


def test_the_published_foreground_is_sampled_about_the_middle_of_a_cell() -> None:
    row = torch.tensor([0, 1, IGNORE, 0, 2, 0, 1, 3])  # of two cells, the middle lies between pixels 1 and 2, 5 and 6
    labels = row.repeat(8, 1)[None]
    assert sampled_foreground(labels, (2, 2)).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
    assert foreground_share(labels, (2, 2)).tolist() == [[[0.25, 0.75], [0.25, 0.75]]]
    assert torch.equal(sampled_foreground(labels, (8, 8))[0, 0], torch.tensor([0.0, 1, 0, 0, 1, 0, 1, 1]))


def test_labels_from_scores_pixel_by_pixel() -> None:
    """Unknown classes may win, absent ones count as background, and doubt says nothing."""
    scores = torch.tensor([[0.1, 0.9, 0.0], [0.1, 0.0, 0.9], [0.5, 0.5, 0.0], [0.3, 0.4, 0.3], [0.6, 0.2, 0.2]])
    scores = scores.T[None, :, None]
    known = score_labels(scores, torch.tensor([[1, 1]]), 0.6, 0.4)
    assert known.tolist() == [[[1, 2, IGNORE, IGNORE, 0]]]
    assert torch.equal(score_labels(scores, torch.tensor([[-1, -1]]), 0.6, 0.4), known)
    assert score_labels(scores, torch.tensor([[1, 0]]), 0.6, 0.4).tolist() == [[[1, 0, IGNORE, 0, 0]]]


def test_possible_tags_make_unknown_classes_present() -> None:
    assert possible_tags(torch.tensor([[1, 0, -1]])).tolist() == [[1, 0, 1]]
    assert allowed_classes(torch.tensor([[1, 0, -1]])).tolist() == [[True, True, False, True]]
