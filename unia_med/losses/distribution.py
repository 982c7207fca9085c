"""Distribution losses: the distribution map should rise on foreground (UniA specification, section 4).

Four forms. `kl` is the published one and shapes the means only. `vae` adds a pull of the token Gaussians towards
the standard normal. `variance_aware` shrinks the variances to their floor. `heteroscedastic` fits the variances to
errors: the form whose uncertainty map means something.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F

from unia_med.labels import IGNORE
from unia_med.losses.masked import masked_mean
from unia_med.tensors import Size, full_precision

DistributionForm = Literal["kl", "vae", "variance_aware", "heteroscedastic"]
FAR_BELOW = -1e4  # a score whose softmax weight is exactly 0 in float32, yet finite, so that 0 * log stays 0
VARIANCE_LEVEL = -4.0  # log-variance 0 stands for a root mean squared error of 0.14, so U spans its whole range
LEAST_ERROR = 1e-3  # keeps the likelihood of certain tokens finite
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
    """Return expected binary cross-entropy by the probit approximation (4.3).

    With m = mean over channels of `mean`, v = mean over channels of the variance and k the learned gain, the logit
    is k m / sqrt(1 + pi k^2 v / 8). Wherever the mean is right a smaller variance is better, and in training it is
    right nearly everywhere: the variances end at their floor, and the uncertainty map is a constant.

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


@full_precision
def heteroscedastic(
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    target: torch.Tensor,
    error: torch.Tensor,
    gain: torch.Tensor,
    known: torch.Tensor | None = None,
    judged: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the fit of means to foreground plus the fit of variances to errors (after Kendall and Gal, 2017).

    With m the mean over channels of `mean`, binary cross-entropy of the logit k m; the head is bounded, the learned
    gain k is not. With v = exp(s + VARIANCE_LEVEL), s the mean over channels of `log_variance`, half the negative
    log-likelihood of errors of variance v, error / v + log v. The optimum is v = error: what a token's variance says is
    how far its pixels' predictions lie from their labels, at borders and where labels or predictions are wrong.

    Args:
        mean: (B, E, h, w).
        log_variance: (B, E, h, w).
        target: (B, h, w), foreground share in [0, 1].
        error: (B, h, w) in [0, 1], mean squared error of the decoder in each token; no gradient is taken.
        gain: scalar k.
        known: (B, h, w), tokens whose target counts; None for all.
        judged: (B, h, w), tokens whose error counts; None for all.
    """
    losses = F.binary_cross_entropy_with_logits(gain * mean.mean(1), target.to(mean.dtype), reduction="none")
    level = log_variance.mean(1) + VARIANCE_LEVEL
    fit = 0.5 * ((error.detach() + LEAST_ERROR) * torch.exp(-level) + level - VARIANCE_LEVEL)
    return masked_mean(losses, _known(target, known)) + masked_mean(fit, _known(target, judged))


class DistributionLoss(torch.nn.Module):
    """One of the four forms by name, with the learned gain where the form has one.

    Args:
        form: `kl`, `vae`, `variance_aware` or `heteroscedastic`.
        initial_gain: start of the learned k of the last two. The mean of many bounded channels is small, so a
            value near 1 would keep every prediction at one half.
    """

    def __init__(self, form: DistributionForm = "kl", initial_gain: float = 10.0) -> None:
        super().__init__()
        self.form = form
        learned = form in ("variance_aware", "heteroscedastic")
        self.gain = torch.nn.Parameter(torch.tensor(float(initial_gain))) if learned else None

    def forward(
        self,
        distribution_map: torch.Tensor,
        mean: torch.Tensor,
        log_variance: torch.Tensor,
        target: torch.Tensor,
        known: torch.Tensor | None = None,
        error: torch.Tensor | None = None,
        judged: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss; shapes as in the functions above. The last two are for `heteroscedastic` alone."""
        if self.gain is not None and self.form == "variance_aware":
            return variance_aware(mean, log_variance, target, self.gain, known)
        if self.gain is not None:
            if error is None:
                raise ValueError("the heteroscedastic form needs the decoder's error")
            return heteroscedastic(mean, log_variance, target, error, self.gain, known, judged)
        if self.form == "vae":
            return variational(distribution_map, target, mean, log_variance, known)
        return foreground_divergence(distribution_map, target, known)


@torch.no_grad()
def token_error(
    logits: torch.Tensor, labels: torch.Tensor, grid: Size, ignore_index: int = IGNORE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over a token's labelled pixels of half the squared distance of prediction and label, and where there is any.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W), 0..K-1 or `ignore_index`.
        grid: (h, w).
        ignore_index: the label of pixels that say nothing.

    Returns:
        (B, h, w) in [0, 1], and (B, h, w) bool.
    """
    known = labels != ignore_index
    truth = F.one_hot(torch.where(known, labels, 0), logits.shape[1]).movedim(-1, 1)
    distance = 0.5 * (logits.float().softmax(1) - truth).square().sum(1, keepdim=True)
    shares = F.adaptive_avg_pool2d(known.float().unsqueeze(1), grid)
    sums = F.adaptive_avg_pool2d(distance * known.unsqueeze(1), grid)
    return (sums / shares.clamp(min=1e-6)).squeeze(1), (shares > 0).squeeze(1)
