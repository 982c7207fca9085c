"""Distribution losses against anchors, torch.distributions and sampling."""

from __future__ import annotations

import math

import pytest
import torch

from unia_med.labels import IGNORE
from unia_med.losses.distribution import (
    LEAST_ERROR,
    VARIANCE_LEVEL,
    DistributionLoss,
    foreground_divergence,
    heteroscedastic,
    standard_normal_divergence,
    token_error,
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


def test_the_fitted_variance_is_the_error_and_means_follow_the_foreground() -> None:
    """Independent truth: a grid search over the token's variance, and the closed form of the cross-entropy."""
    error, gain = torch.tensor([[[0.2, 0.01]]]), torch.tensor(7.0)
    levels = torch.linspace(-4, 4, 801)
    costs = []
    for level in levels:
        log_variance = torch.full((1, 3, 1, 2), float(level))
        parts = [heteroscedastic(torch.zeros(1, 3, 1, 2), log_variance, torch.zeros(1, 1, 2), error, gain, judged=known)
                 for known in (torch.tensor([[[True, False]]]), torch.tensor([[[False, True]]]))]  # fmt: skip
        costs.append(torch.stack(parts))
    best = levels[torch.stack(costs).argmin(0)]
    torch.testing.assert_close((best + VARIANCE_LEVEL).exp(), error.flatten() + LEAST_ERROR, rtol=0.02, atol=0)
    mean, share = torch.full((1, 3, 1, 1), 0.2), 0.3
    losses = [
        float(heteroscedastic(m, torch.zeros(1, 3, 1, 1), torch.full((1, 1, 1), share), torch.zeros(1, 1, 1), gain))
        for m in (mean, torch.zeros_like(mean))
    ]
    chance = 1 / (1 + math.exp(-7 * 0.2))
    expected = -share * math.log(chance) - (1 - share) * math.log(1 - chance) - math.log(2)
    assert losses[0] - losses[1] == pytest.approx(expected, abs=1e-5)


def test_the_error_is_that_of_the_decoder_and_takes_no_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.randint(0, 3, (1, 4, 4), generator=torch.Generator().manual_seed(1))
    labels[0, :2, :2], labels[0, 0, 2] = IGNORE, IGNORE
    error, known = token_error(logits, labels, (2, 2))
    assert known.tolist() == [[[False, True], [True, True]]] and not error.requires_grad
    p = logits.detach().softmax(1)[0]
    for row, column in ((0, 1), (1, 0), (1, 1)):
        values = []
        for y in (2 * row, 2 * row + 1):
            for x in (2 * column, 2 * column + 1):
                if labels[0, y, x] != IGNORE:
                    truth = torch.zeros(3)
                    truth[labels[0, y, x]] = 1
                    values.append(float((p[:, y, x] - truth).square().sum()) / 2)
        assert float(error[0, row, column]) == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_errors_are_fitted_and_never_taught() -> None:
    """The error that variances are to say is the decoder's own; through it, variances would teach the decoder."""
    error = torch.full((1, 1, 1), 0.2, requires_grad=True)
    parts = torch.zeros(1, 3, 1, 1, requires_grad=True), torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1)
    heteroscedastic(*parts, error, torch.tensor(7.0)).backward()
    assert error.grad is None


def test_an_image_of_which_nothing_is_known_leaves_the_mean_of_the_others() -> None:
    values, target = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0)), torch.rand(2, 2, 2)
    known = torch.tensor([True, False]).view(2, 1, 1).expand(2, 2, 2)
    alone = foreground_divergence(values[:1], target[:1])
    torch.testing.assert_close(foreground_divergence(values, target, known), alone)


def test_variance_aware_is_close_to_the_sampled_cross_entropy() -> None:
    """Independent truth: sigmoid(k (m + sqrt(v) noise)) averaged over samples, then binary cross-entropy."""
    mean, log_variance = torch.full((1, 4, 1, 1), 0.4), torch.full((1, 4, 1, 1), math.log(0.25))
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    probability = torch.sigmoid(3 * (0.4 + 0.5 * noise)).mean()
    loss = variance_aware(mean, log_variance, torch.ones(1, 1, 1), torch.tensor(3.0))
    assert abs(loss.item() + probability.log().item()) < 0.01
    form = DistributionLoss("variance_aware", initial_gain=3.0)
    assert float(form(mean.mean(1), mean, log_variance, torch.ones(1, 1, 1)).detach()) == pytest.approx(loss.item())


def test_the_last_two_forms_have_a_parameter_and_one_needs_an_error() -> None:
    forms = ("kl", "vae", "variance_aware", "heteroscedastic")
    gains = [[gain.item() for gain in DistributionLoss(form).parameters()] for form in forms]
    assert gains == [[], [], [10.0], [10.0]]  # at 1, the small mean of many channels would leave every chance at half
    with pytest.raises(ValueError, match="error"):
        DistributionLoss("heteroscedastic")(torch.zeros(1, 2, 2), *[torch.zeros(1, 3, 2, 2)] * 2, torch.zeros(1, 2, 2))
