"""Confident maps from activation maps, by hand-made maps and by the closed form of the background exponent."""

from __future__ import annotations

import torch

from unia_med.labels import IGNORE
from unia_med.localise.confident import confident_labels, with_background, with_constant
from unia_med.localise.thresholds import possible_maps


def _labels(value: float, tags: list[int], foreground: float = 4, background: float = 32) -> int:
    maps = torch.tensor([[[[value]], [[0.0]]]])
    tags_tensor = torch.tensor([tags], dtype=torch.int8)
    maps = possible_maps(maps, tags_tensor)
    scores = (with_background(maps, foreground), with_background(maps, background))
    return int(confident_labels(*scores, tags_tensor))


def test_background_score_is_the_power_of_the_rest() -> None:
    maps = torch.tensor([[[[0.2]], [[0.5]]]])
    assert with_background(maps, 3).flatten().tolist() == [0.125, 0.20000000298023224, 0.5]
    assert with_constant(maps, 0.25)[0, 0].item() == 0.25


def test_sure_foreground_neutral_and_sure_background() -> None:
    # (1 - m)^4 = m at 0.2755, (1 - m)^32 = m at 0.077
    assert _labels(0.28, [1, 0]) == 1
    assert _labels(0.27, [1, 0]) == IGNORE
    assert _labels(0.08, [1, 0]) == IGNORE
    assert _labels(0.075, [1, 0]) == 0


def test_absent_classes_never_win_and_an_empty_slice_is_background() -> None:
    assert _labels(1.0, [0, 1]) == 0
    assert _labels(1.0, [0, 0]) == 0


def test_nothing_is_said_where_a_class_of_unknown_tag_wins() -> None:
    assert _labels(1.0, [-1, 1]) == IGNORE
    assert _labels(0.0, [-1, 1]) == 0


def test_refinement_moves_labels_to_the_intensity_edge() -> None:
    images = torch.zeros(1, 1, 32, 32)
    images[..., 8:24, 8:24] = 1.0
    maps = torch.zeros(1, 1, 32, 32)
    maps[..., 10:22, 10:22] = 0.9  # sure inside the square, two pixels short of its border
    tags = torch.tensor([[1]])
    scores = (with_background(maps, 4), with_background(maps, 32))
    plain, refined = confident_labels(*scores, tags), confident_labels(*scores, tags, images)
    inside, outside = images[0, 0] == 1, images[0, 0] == 0
    assert (plain[0][inside] == 1).sum() == 144
    assert (refined[0][inside] == 1).sum() > 144
    assert (refined[0][outside] == 1).sum() <= 8
