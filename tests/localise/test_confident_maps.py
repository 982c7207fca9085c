"""Confident maps from activation maps, by hand-made maps and by the closed form of the background exponent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unia_med.labels import IGNORE
from unia_med.localise.confident import (
    SCORE_CRF,
    confident_labels,
    crf_labels,
    crf_refinement,
    pixel_refinement,
    with_background,
    with_constant,
)
from unia_med.localise.dense_crf import dense_crf
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
    plain, refined = confident_labels(*scores, tags), confident_labels(*scores, tags, pixel_refinement(images))
    inside, outside = images[0, 0] == 1, images[0, 0] == 0
    assert (plain[0][inside] == 1).sum() == 144
    assert (refined[0][inside] == 1).sum() > 144
    assert (refined[0][outside] == 1).sum() <= 8


def test_the_crf_is_run_image_by_image_and_labels_start_with_their_trust() -> None:
    images = torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    scores = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(1)).softmax(1)
    settings = SCORE_CRF._replace(stride=1, iterations=2)
    single = settings._replace(appearance_colour=13.0 / math.sqrt(3))
    found = crf_refinement(images, settings)(scores)
    torch.testing.assert_close(found[1], dense_crf(images[1], scores[1], single))
    trusted = torch.full_like(scores, 0.15).scatter(1, scores.argmax(1, keepdim=True), 0.7)
    of_labels = crf_refinement(images, settings, of_labels=True)(scores)
    torch.testing.assert_close(of_labels[0], dense_crf(images[0], trusted[0], single))
    colour = crf_refinement(images.repeat(1, 3, 1, 1), settings)(scores)
    torch.testing.assert_close(colour[0], dense_crf(images[0].repeat(3, 1, 1), scores[0], settings))


def test_labels_of_two_crfs_follow_the_edge_and_keep_the_surest_pixels() -> None:
    """A bright square whose map is blurred: what is labelled lies inside it, the far field is background."""
    images = torch.zeros(1, 1, 32, 32)
    images[..., 10:22, 10:22] = 1.0
    ramp = (1 - (torch.arange(32) - 15.5).abs() / 12).clamp(min=0)
    maps = torch.stack((ramp.outer(ramp), torch.zeros(32, 32)))[None]
    labels, scores = crf_labels(maps, torch.tensor([[1, 0]]), images)
    square = images[0, 0] > 0
    assert (labels[0] == 1).sum() > 20 and not ((labels[0] == 1) & ~square).any() and not (labels == 2).any()
    assert (labels[0, :4, :4] == 0).all() and not ((labels[0] == 0) & square).any()
    active = maps[0, 0][maps[0, 0] > 0.1]
    assert maps[0, 0][labels[0] == 1].min() >= active.quantile(0.6)  # the highest 40 %
    torch.testing.assert_close(scores.sum(1), torch.ones(1, 32, 32))
    unknown, _ = crf_labels(maps, torch.tensor([[-1, 0]]), images)
    assert not (unknown == 1).any()


def test_every_pixel_has_one_vote_in_the_refinement() -> None:
    """Whatever its scores sum to: 0.2 against 0.1 is two thirds of a vote for background, not 0.2 of one."""
    scores = torch.tensor([[[[0.2, 0.4]], [[0.1, 0.6]]]])
    found = confident_labels(scores, scores, torch.ones(1, 1), lambda maps: maps.mean((2, 3), True).expand_as(maps))
    assert found.tolist() == [[[0, 0]]]


@pytest.mark.parametrize("second", [1, -1])
def test_the_rule_of_two_crfs_pixel_by_pixel(second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 3 of AA&LR read literally, with CRFs that change nothing."""
    monkeypatch.setattr("unia_med.localise.confident.crf_refinement", lambda images: lambda scores: scores)
    maps = torch.rand(1, 2, 8, 9, generator=torch.Generator().manual_seed(0)).pow(3)
    maps[:, :, :3] *= 0.005
    maps[:, 1, 5:] *= 0.1
    labels, scores = crf_labels(maps, torch.tensor([[1, second]]), torch.zeros(1, 1, 8, 9))
    active = [np.quantile(one[one > 0.1].numpy(), 0.6) for one in maps[0]]
    expected = torch.full((8, 9), IGNORE)
    for y, x in np.ndindex(8, 9):
        values = maps[0, :, y, x].double().numpy()
        strong, weak = (np.array([(1 - values.max()) ** power, *values]) for power in (4, 32))
        limits = [0.8, *active]
        best = int(weak.argmax())
        sure = weak[best] > limits[best]
        strong, weak = strong / strong.sum(), weak / weak.sum()
        np.testing.assert_allclose(scores[0, :, y, x].numpy(), strong, rtol=1e-4, atol=1e-6)
        label = 0 if weak.argmax() == 0 else int(strong.argmax()) or IGNORE
        if sure and max(weak[0], strong[1:].max()) >= 0.8 and not (label == 2 and second == -1):
            expected[y, x] = label
    assert set(expected.unique().tolist()) == ({0, 1, 2, IGNORE} if second == 1 else {0, 1, IGNORE})
    assert torch.equal(labels[0], expected)
