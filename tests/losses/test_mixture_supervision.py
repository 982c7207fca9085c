"""The losses of AGMM against loops; that nothing labelled costs exactly nothing; half precision; gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from unia_med.labels import IGNORE
from unia_med.losses.gaussian_mixture import MixtureFit
from unia_med.losses.mixture_geometry import normalise_features
from unia_med.losses.mixture_supervision import (
    absent_classes,
    class_weights,
    discrimination,
    negative_log_posterior,
    self_supervision,
    separation,
)

B, K, E, S = 2, 3, 4, 6
TAGS = torch.tensor([[1, 0], [-1, 1]], dtype=torch.int8)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _half_bce(target: float, prediction: float) -> float:
    return -0.5 * (target * math.log(prediction + 1e-6) + (1 - target) * math.log(1 - prediction + 1e-6))


def test_self_supervision_equals_a_loop() -> None:
    responses, chance = _random(B, K, 2, 2), _random(B, K, 2, 2, seed=1).softmax(1)
    present = torch.tensor([[True, True, False], [False, False, False]])
    valid = torch.ones(B, 1, 2, 2)
    valid[0, 0, 1, 1] = 0
    total = 0.0
    for y in range(2):
        for x in range(2):
            if valid[0, 0, y, x]:
                total += sum(_half_bce(float(responses[0, k, y, x]), float(chance[0, k, y, x])) for k in (0, 1)) / 2
    assert float(self_supervision(responses, chance, present, valid)) == pytest.approx(total / 7)


def test_discrimination_equals_a_loop() -> None:
    responses, labels = _random(1, K, 2, 2), torch.tensor([[[0, 2], [IGNORE, 2]]])
    present = torch.tensor([[True, False, True]])
    total = 0.0
    for y, x in ((0, 0), (0, 1), (1, 1)):
        total += sum(_half_bce(float(labels[0, y, x] == k), float(responses[0, k, y, x])) for k in (0, 2)) / 2
    assert float(discrimination(responses, labels, present)) == pytest.approx(total / 3)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_class_weights_turn_a_mean_over_pixels_into_one_over_classes(balance: float) -> None:
    """Nine pixels of class 0 and four of class 2: their weights are 9^-b and 4^-b, up to a factor."""
    labels = torch.full((1, 4, 4), IGNORE)
    labels.view(-1)[:9], labels.view(-1)[9:13] = 0, 2
    joint = _random(1, K, 4, 4)
    losses = -joint.log_softmax(1)
    first, second = losses[0, 0].flatten()[:9], losses[0, 2].flatten()[9:13]
    a, b = 9.0**-balance, 4.0**-balance
    expected = (a * first.sum() + b * second.sum()) / (9 * a + 4 * b)
    found = negative_log_posterior(joint, labels, class_weights(labels, K, balance))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    everywhere = torch.ones(1, K, dtype=torch.bool)
    plain = discrimination(_random(1, K, 4, 4), labels, everywhere)
    weighted = discrimination(_random(1, K, 4, 4), labels, everywhere, class_weights(labels, K, balance))
    assert (float(weighted) == pytest.approx(float(plain), rel=1e-6)) is (balance == 0.0)
    assert class_weights(labels * 0 + IGNORE, K, balance).tolist() == [0, 0, 0]


def test_separation_is_over_means_not_sums() -> None:
    """Class 0 in both images, class 1 in one: the published sum would put class 0 twice as far out."""
    centres = torch.tensor([[[1.0, 1.0], [0.0, 0.0], [9.0, 9.0]], [[3.0, 3.0], [5.0, 6.0], [0.0, 0.0]]])
    labelled = torch.tensor([[True, False, False], [True, True, False]])
    assert float(separation(centres, labelled)) == pytest.approx(math.exp(-((((5 - 2) + (6 - 2)) / 2) ** 2)))


def test_negative_log_posterior_of_two_closed_form_gaussians() -> None:
    prior, sigma, far = (0.25, 0.75), (0.5, 1.0), (0.2, 0.9)
    joint = [math.log(p) - math.log(s) - d * d / (2 * s * s) for p, s, d in zip(prior, sigma, far, strict=True)]
    expected = -math.log(math.exp(joint[1]) / (math.exp(joint[0]) + math.exp(joint[1])))
    maps = torch.tensor(joint, dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    found = negative_log_posterior(maps, torch.tensor([[[1, IGNORE]]]))
    assert float(found) == pytest.approx(expected)


def test_only_classes_known_to_be_absent_are_pushed_down() -> None:
    logits = _random(B, K, 2, 2)
    chance = logits.softmax(1)
    expected = -(1 - chance[0, 2] + 1e-6).log().sum() / 8
    assert float(absent_classes(logits, TAGS)) == pytest.approx(float(expected))
    assert float(absent_classes(logits, torch.full((B, 2), -1))) == 0


def _whole(labels: Tensor, mix_loss: str, **settings: object) -> Callable[[Tensor], Tensor]:
    """Self-supervision and mixture losses of features and logits packed into one tensor (B, E + K, S / 2, S / 2)."""
    fit = MixtureFit(K, (2, 1), **settings)

    def value(x: Tensor) -> Tensor:
        features, logits = normalise_features(x[:, :E]), x[:, E:].repeat_interleave(2, 2).repeat_interleave(2, 3)
        chance = logits.float().softmax(1) if logits.dtype != torch.float64 else logits.softmax(1)
        mixture = fit(features, labels, chance, TAGS)
        responses = mixture.responses((S, S))
        loss = self_supervision(responses, chance, mixture.present)
        if mix_loss == "posterior":
            return loss + negative_log_posterior(mixture.class_log_joint((S, S)), labels)
        return (
            loss
            + discrimination(responses, labels, mixture.present)
            + separation(mixture.class_centres, mixture.labelled)
        )

    return value


def _labels(kind: str) -> Tensor:
    labels = torch.full((B, S, S), IGNORE)
    if kind == "one pixel":
        labels[0, 2, 3] = 2
    elif kind == "one class":
        labels[:] = 1
    elif kind == "mixed":
        labels[:, 0], labels[:, 2], labels[0, 4] = 0, 1, 2
    return labels


def _features(dtype: torch.dtype) -> Tensor:
    return torch.randn(B, E + K, S // 2, S // 2, generator=torch.Generator().manual_seed(5)).to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["none", "one pixel", "one class", "mixed"])
@pytest.mark.parametrize("mix_loss", ["posterior", "bce"])
def test_losses_and_gradients_are_finite_and_zero_where_nothing_is_labelled(
    mix_loss: str, kind: str, dtype: torch.dtype
) -> None:
    x = _features(dtype)
    loss = _whole(_labels(kind), mix_loss, rounds=2)(x)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all() and x.grad.dtype == dtype
    if kind == "none":
        assert loss.item() == 0 and x.grad.abs().max() == 0
    if kind == "mixed":
        assert x.grad.abs().max() > 0


@pytest.mark.parametrize("mix_loss", ["posterior", "bce"])
def test_gradients_match_finite_differences_with_fixed_variance(mix_loss: str) -> None:
    """An adaptive variance is detached on purpose, so only the fixed one has the gradient of its own value."""
    x = _features(torch.float64)
    assert torch.autograd.gradcheck(_whole(_labels("mixed"), mix_loss, variance="fixed"), (x,), fast_mode=True)


def test_nothing_is_read_back_to_the_host() -> None:
    with FakeTensorMode():
        x = torch.randn(B, E + K, S // 2, S // 2, requires_grad=True)
        labels = torch.zeros(B, S, S, dtype=torch.long)
        tags = torch.ones(B, K - 1, dtype=torch.int8)
        fit = MixtureFit(K, (2, 1), rounds=2, position=0.5)
        mixture = fit(normalise_features(x[:, :E]), labels, torch.rand(B, K, S, S), tags)
        loss = negative_log_posterior(mixture.class_log_joint((S, S)), labels)
        loss = loss + discrimination(mixture.responses((S, S)), labels, mixture.present)
        loss.backward()
        assert x.grad is not None
