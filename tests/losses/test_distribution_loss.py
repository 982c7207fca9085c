"""Distribution losses against anchors, torch.distributions and sampling."""

from __future__ import annotations

import math

import pytest
import torch

from unia_med.losses.distribution import (
    DistributionLoss,
    foreground_divergence,
    standard_normal_divergence,
    variance_aware,
    variational,
)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 0.0), (1.0, 0.0), (0.05, 0.043), (0.25, 0.118), (0.339, 0.1233)]
)
def test_flat_map_anchors(fraction: float, expected: float) -> None:
    """Specification 4.1: what a flat map costs by foreground fraction."""
    target = torch.zeros(2, 40, 25)
    target.view(2, -1)[:, : round(fraction * 1000)] = 1
    assert abs(foreground_divergence(torch.full((2, 40, 25), 0.3), target).item() - expected) < 5e-4


def test_divergence_is_zero_when_the_map_is_the_target_up_to_a_constant() -> None:
    target = torch.rand(3, 4, 5)
    assert foreground_divergence(target + 7, target).abs() < 1e-6


def test_unknown_tokens_are_left_out() -> None:
    values, target, known = torch.rand(1, 1, 6), torch.rand(1, 1, 6), torch.tensor([[[1, 0, 1, 1, 0, 1]]]) > 0
    alone = foreground_divergence(values[..., [0, 2, 3, 5]], target[..., [0, 2, 3, 5]])
    assert torch.allclose(foreground_divergence(values, target, known), alone)


def test_prior_is_the_divergence_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    token = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(token, torch.distributions.Normal(0.0, 1.0)).mean()
    assert torch.allclose(standard_normal_divergence(mean, log_variance), expected, rtol=1e-5)


def test_variational_weights() -> None:
    values, target, mean, log_variance = (
        torch.rand(1, 2, 2),
        torch.rand(1, 2, 2),
        torch.ones(1, 3, 2, 2),
        torch.zeros(1, 3, 2, 2),
    )
    expected = 0.9 * foreground_divergence(values, target) + 0.1 * 0.5
    assert torch.allclose(variational(values, target, mean, log_variance), expected)


def test_variance_aware_is_close_to_the_sampled_cross_entropy() -> None:
    """Independent truth: sigmoid(k (m + sqrt(v) noise)) averaged over samples, then binary cross-entropy."""
    mean, log_variance = torch.full((1, 4, 1, 1), 0.4), torch.full((1, 4, 1, 1), math.log(0.25))
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    probability = torch.sigmoid(3 * (0.4 + 0.5 * noise)).mean()
    loss = variance_aware(mean, log_variance, torch.ones(1, 1, 1), torch.tensor(3.0))
    assert abs(loss.item() + probability.log().item()) < 0.01


def test_variance_aware_trains_the_variance_where_kl_does_not() -> None:
    mean, target = torch.full((1, 4, 2, 2), 0.5), torch.zeros(1, 2, 2)  # confidently wrong
    log_variance = torch.zeros(1, 4, 2, 2, requires_grad=True)
    DistributionLoss("variance_aware")(mean.mean(1), mean, log_variance, target).backward()
    assert (log_variance.grad < 0).all()  # a larger variance lowers the loss


def test_only_the_variance_aware_form_has_a_parameter() -> None:
    counts = [len(list(DistributionLoss(form).parameters())) for form in ("kl", "vae", "variance_aware")]
    assert counts == [0, 0, 1]
