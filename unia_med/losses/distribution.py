"""Distribution losses: the distribution map should rise on foreground (UniA specification, section 4).

Three forms. `kl` is the published one and shapes the means only. `vae` adds a pull of the token Gaussians towards
the standard normal. `variance_aware` trains the variances as well: prefer it when the uncertainty map itself matters.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F

from unia_med.losses.masked import masked_mean
from unia_med.tensors import full_precision

DistributionForm = Literal["kl", "vae", "variance_aware"]
FAR_BELOW = -1e4  # a score whose softmax weight is exactly 0 in float32, yet finite, so that 0 * log stays 0
PRIOR_SHARE = 0.1  # section 4.2: 0.9 * divergence + 0.1 * prior


def _known(target: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
    return torch.ones_like(target, dtype=torch.bool) if known is None else known.bool()


@full_precision
def foreground_divergence(
    distribution_map: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None
) -> torch.Tensor:
    """Kullback-Leibler divergence from softmax(target) to softmax(map) over positions, mean over images (4.1).

    Args:
        distribution_map: (B, h, w).
        target: (B, h, w), foreground share of each token in [0, 1].
        known: (B, h, w), true where the target means something; images without any such token are left out.
    """
    known = _known(target, known).flatten(1)
    log_target = target.flatten(1).masked_fill(~known, FAR_BELOW).log_softmax(1)
    log_map = distribution_map.flatten(1).masked_fill(~known, FAR_BELOW).log_softmax(1)
    divergence = (log_target.exp() * (log_target - log_map) * known).sum(1)
    return masked_mean(divergence, known.any(1))


@full_precision
def standard_normal_divergence(
    mean: torch.Tensor, log_variance: torch.Tensor, known: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean per element of KL(N(mean, exp(log_variance)) || N(0, 1)) (4.2, the correct prior term).

    Args:
        mean: (B, E, h, w).
        log_variance: (B, E, h, w).
        known: (B, h, w), tokens that count; None for all.
    """
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return masked_mean(divergence, _known(divergence[:, 0], known).unsqueeze(1))


@full_precision
def variational(
    distribution_map: torch.Tensor,
    target: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """0.9 * `foreground_divergence` + 0.1 * `standard_normal_divergence` (4.2)."""
    divergence = foreground_divergence(distribution_map, target, known)
    return (1 - PRIOR_SHARE) * divergence + PRIOR_SHARE * standard_normal_divergence(mean, log_variance, known)


@full_precision
def variance_aware(
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    target: torch.Tensor,
    gain: torch.Tensor,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return expected binary cross-entropy by the probit approximation (4.3): the only form that trains the variances.

    With m = mean over channels of `mean`, v = mean over channels of the variance and k the learned gain, the logit
    is k m / sqrt(1 + pi k^2 v / 8): a large variance draws the prediction to one half.

    Args:
        mean: (B, E, h, w).
        log_variance: (B, E, h, w).
        target: (B, h, w), foreground share in [0, 1].
        gain: scalar k; a larger one makes the same mean more decisive and its variance more costly.
        known: (B, h, w), tokens that count; None for all.
    """
    variance = log_variance.exp().mean(1)
    logits = gain * mean.mean(1) / torch.sqrt(1 + math.pi / 8 * gain.square() * variance)
    losses = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return masked_mean(losses, _known(target, known))


class DistributionLoss(torch.nn.Module):
    """One of the three forms by name, with the learned gain where the form has one.

    Args:
        form: `kl`, `vae` or `variance_aware`.
        initial_gain: start of the learned k of `variance_aware`. The mean of many bounded channels is small, so a
            value near 1 would keep every prediction at one half.
    """

    def __init__(self, form: DistributionForm = "kl", initial_gain: float = 10.0) -> None:
        super().__init__()
        self.form = form
        learned = form == "variance_aware"
        self.gain = torch.nn.Parameter(torch.tensor(float(initial_gain))) if learned else None

    def forward(
        self,
        distribution_map: torch.Tensor,
        mean: torch.Tensor,
        log_variance: torch.Tensor,
        target: torch.Tensor,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss; shapes as in the three functions above."""
        if self.gain is not None:
            return variance_aware(mean, log_variance, target, self.gain, known)
        if self.form == "vae":
            return variational(distribution_map, target, mean, log_variance, known)
        return foreground_divergence(distribution_map, target, known)
