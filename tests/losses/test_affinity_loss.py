"""Affinity losses against anchors and literal loops over pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unia_med.labels import IGNORE
from unia_med.localise.affinity_refine import radius_mask
from unia_med.losses.affinity import contrastive, infonce_all, margin, pair_labels


@pytest.fixture
def labels() -> Tensor:
    values = torch.tensor([0, 1, 2, IGNORE])
    return values[torch.randint(0, 4, (2, 4, 5), generator=torch.Generator().manual_seed(0))]


@pytest.fixture
def affinity() -> Tensor:
    return torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(1))


def kind(labels: Tensor, image: int, i: int, j: int, radius: int | None) -> str:
    """Literal reading of section 12 for one pair."""
    (row_i, column_i), (row_j, column_j) = divmod(i, labels.shape[2]), divmod(j, labels.shape[2])
    a, b = labels[image, row_i, column_i].item(), labels[image, row_j, column_j].item()
    far = radius is not None and max(abs(row_i - row_j), abs(column_i - column_j)) > radius
    if IGNORE in (a, b) or far:
        return "ignored"
    return "positive" if a == b else "negative"


@pytest.mark.parametrize("radius", [None, 1, 2])
def test_pair_labels_by_brute_force(labels: Tensor, radius: int | None) -> None:
    near = None if radius is None else radius_mask(4, 5, radius, labels.device)
    positive, negative = pair_labels(labels, near)
    for image in range(2):
        for i in range(20):
            for j in range(20):
                expected = kind(labels, image, i, j, radius)
                assert positive[image, i, j].item() == (expected == "positive")
                assert negative[image, i, j].item() == (expected == "negative")


@pytest.mark.parametrize(("batch", "expected"), [(4, 0.8331), (2, 1.6661)])
def test_published_form_at_a_constant_affinity(batch: int, expected: float) -> None:
    """Specification 12: ln(N) / (2 B), N = 784."""
    positive, negative = pair_labels(torch.zeros(batch, 28, 28, dtype=torch.long))
    value = infonce_all(torch.full((batch, 784, 784), 0.4), positive, negative).item()
    assert abs(value - expected) < 1e-3
    assert math.isclose(value, math.log(784) / (2 * batch), rel_tol=1e-4)


@pytest.mark.parametrize("radius", [None, 1])
def test_contrastive_by_brute_force(labels: Tensor, affinity: Tensor, radius: int | None) -> None:
    """Within a radius, some tokens have neighbours of one kind only: these are no anchors."""
    labels[0, :2, :2] = 1
    positive, negative = pair_labels(labels, None if radius is None else radius_mask(4, 5, radius, labels.device))
    anchors = []
    for image in range(2):
        for i in range(20):
            e = [math.exp(affinity[image, i, j].item() / 0.5) for j in range(20)]
            ups = [j for j in range(20) if positive[image, i, j] and j != i]
            total = sum(e[j] for j in range(20) if negative[image, i, j])
            if ups and total:
                anchors.append(sum(-math.log(e[j] / (e[j] + total)) for j in ups) / len(ups))
    assert math.isclose(contrastive(affinity, positive, negative).item(), sum(anchors) / len(anchors), rel_tol=1e-5)


def test_contrastive_does_not_depend_on_the_batch_size(labels: Tensor, affinity: Tensor) -> None:
    once = contrastive(affinity, *pair_labels(labels))
    twice = contrastive(affinity.repeat(2, 1, 1), *pair_labels(labels.repeat(2, 1, 1)))
    assert torch.allclose(once, twice)


def test_contrastive_has_no_gradient_outside_the_chosen_pairs(labels: Tensor, affinity: Tensor) -> None:
    positive, negative = pair_labels(labels)
    contrastive(affinity.requires_grad_(), positive, negative).backward()
    assert affinity.grad[~(positive | negative)].abs().max() == 0


def test_margin_by_hand() -> None:
    affinity = torch.tensor([[[1.0, 0.2], [0.4, 1.0]]])
    assert torch.allclose(margin(affinity, *pair_labels(torch.tensor([[[0, 1]]]))), torch.tensor(0.5 * 0.3))
    same = margin(affinity, *pair_labels(torch.tensor([[[1, 1]]])))
    assert torch.allclose(same, torch.tensor(0.5 * (0.8 + 0.6) / 4))


@pytest.mark.parametrize("temperature", [0.5, 0.02])
def test_closed_form_gradients_are_those_of_the_plain_formula(
    labels: Tensor, affinity: Tensor, temperature: float
) -> None:
    """By autograd through section 12 as it is written, also where exponentials would overflow."""
    positive, negative = pair_labels(labels)
    plain, ours = (affinity.double().clone().requires_grad_() for _ in range(2))
    scaled = plain / temperature
    others = positive & ~torch.eye(20, dtype=torch.bool)
    losses = -(scaled - torch.logaddexp(scaled, scaled.masked_fill(~negative, -torch.inf).logsumexp(2, True)))
    anchors = (losses * others).nan_to_num().sum(2) / others.sum(2).clamp(min=1)
    known = others.any(2) & negative.any(2)
    expected = anchors[known].mean()
    found = contrastive(ours, positive, negative, temperature)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    (gradient,) = torch.autograd.grad(3 * found, ours)
    torch.testing.assert_close(gradient, torch.autograd.grad(3 * expected, plain)[0], rtol=1e-7, atol=1e-12)


def test_a_small_temperature_overflows_nowhere(labels: Tensor, affinity: Tensor) -> None:
    """exp(100) is no number of single precision, the ratios of such numbers are."""
    positive, negative = pair_labels(labels)
    close = 0.9 + 0.1 * affinity
    double = contrastive(close.double(), positive, negative, 0.01)
    assert contrastive(close, positive, negative, 0.01).item() == pytest.approx(double.item(), rel=1e-4)


def test_the_published_denominator_counts_one_pair_more(affinity: Tensor) -> None:
    """Pairs + 1 below, so that a batch of few positive pairs weighs less."""
    positive = torch.zeros(2, 20, 20, dtype=torch.bool)
    positive[0, 3, 5] = True
    share = (affinity[0, 3] / 0.5).exp()
    expected = -math.log(float(share[5]) / (float(share.sum()) + 1e-4)) / (2 * 2 * (1 + 1))
    assert infonce_all(affinity, positive, ~positive).item() == pytest.approx(expected, rel=1e-5)
