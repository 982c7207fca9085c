"""Learning from tags of slices which of their regions show a class."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unia_med.localise.region_choice import RegionChoice, noisy_or_loss


def test_the_loss_is_the_cross_entropy_of_at_least_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, generator=generator)
    bags = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3])
    target, weight = torch.tensor([1.0, 0, 1, 0]), torch.tensor([0.5, 1.5, 2.0, 0.25])
    expected = 0.0
    for bag in range(4):
        none = math.prod(1 - 1 / (1 + math.exp(-value)) for value in logits[bags == bag].tolist())
        expected -= weight[bag].item() * math.log(1 - none if target[bag] else none) / 4
    assert noisy_or_loss(logits, bags, target, weight).item() == pytest.approx(expected, rel=1e-5)


def planted(slices: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three distractors a slice, and in two thirds of the slices one region with a mark in its first feature.

    Returns features, slice of each, tag of each slice, and which regions are marked.
    """
    generator = np.random.default_rng(seed)
    present = np.arange(slices) % 3 > 0
    bags = np.concatenate((np.repeat(np.arange(slices), 3), np.flatnonzero(present)))
    features = generator.normal(size=(len(bags), 4)) * [1, 5, 1, 100] + [0, 3, -2, 40]
    marked = np.arange(len(bags)) >= 3 * slices
    features[marked, 0] += 4
    return features, bags, present, marked


def test_the_region_that_only_tagged_slices_show_is_chosen() -> None:
    features, bags, present, marked = planted()
    choice = RegionChoice.fit(features, bags, present, 0)
    other, others, seen, true = planted(seed=1)
    scores = choice.scores(other)
    best = [np.flatnonzero(others == index)[scores[others == index].argmax()] for index in np.flatnonzero(seen)]
    assert true[best].mean() > 0.9


def test_slices_with_and_without_the_class_weigh_the_same() -> None:
    """Where features say nothing, the best chance is one half, however many slices show the class."""
    for share in (0.1, 0.8):
        present = np.arange(50) < 50 * share
        choice = RegionChoice.fit(np.zeros((50, 3)), np.arange(50), present, 0)
        assert choice.scores(np.zeros((1, 3)))[0] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("present", [True, False])
def test_tags_that_are_all_alike_say_nothing(present: bool) -> None:
    features, bags, tags, _ = planted()
    only = tags[bags] == present
    assert RegionChoice.fit(features[only], bags[only], tags, 0) is None
    assert RegionChoice.fit(features[:0], bags[:0], tags, 0) is None


def test_the_choice_depends_on_its_seed_alone() -> None:
    features, bags, present, _ = planted()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = RegionChoice.fit(features, bags, present, 3).scores(features)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(8)
    np.testing.assert_array_equal(first, RegionChoice.fit(features, bags, present, 3).scores(features))
    assert (first != RegionChoice.fit(features, bags, present, 4).scores(features)).any()
