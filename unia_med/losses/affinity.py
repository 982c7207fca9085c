"""Affinity losses: tokens of one class should be alike, tokens of two classes should not (section 12).

Three forms with one signature. `contrastive` is the toolkit's own; `infonce_all` is the published one (its value
scales with 1 / B and every token stands in its denominator); `margin` is AFA's. Their ranges differ: a weight tuned
for one does not fit another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from unia_med.labels import IGNORE
from unia_med.losses.masked import masked_mean
from unia_med.tensors import full_precision

AffinityLoss = Callable[..., torch.Tensor]
DENOMINATOR_GUARD = 1e-4  # section 12, published form


def pair_labels(
    labels: torch.Tensor, near: torch.Tensor | None = None, ignore_index: int = IGNORE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which token pairs share a class and which differ, as two (B, N, N) boolean tensors (positive, negative).

    Pairs with an ignored token are neither. Background pairs and a token with itself count as positive.

    Args:
        labels: (B, h, w), 0..254 or `ignore_index` on the token grid.
        near: (N, N), true for pairs within the radius, as from `localise.affinity_refine.radius_mask`; None for all.
        ignore_index: the label of tokens that say nothing.

    >>> positive, negative = pair_labels(torch.tensor([[[0, 1, 255]]]))
    >>> positive.sum().item(), negative.sum().item()
    (2, 2)
    """
    flat = labels.flatten(1)
    labelled = _bytes(flat != ignore_index)
    # Bytes and not truth values: a CPU takes 32 at once of these, and one of those.
    usable = labelled.unsqueeze(2) & (labelled.unsqueeze(1) if near is None else _bytes(near))
    usable &= labelled.unsqueeze(1)
    flat = flat.to(torch.uint8)
    alike = torch.eq(flat.unsqueeze(2), flat.unsqueeze(1), out=torch.empty_like(usable)).bitwise_and_(usable)
    return alike.view(torch.bool), usable.bitwise_xor_(alike).view(torch.bool)


def _bytes(truth: torch.Tensor) -> torch.Tensor:
    """Truth values as 0 and 1, in the same memory."""
    return truth.view(torch.uint8)


@full_precision
def infonce_all(
    affinity: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, temperature: float = 0.5
) -> torch.Tensor:
    """Return the published form: every token of the image in the denominator, divided by 2 B once more.

    Args:
        affinity: (B, N, N) in (0, 1).
        positive: (B, N, N), pairs of one class.
        negative: not used; every form has the same arguments.
        temperature: a smaller one sharpens the comparison.
    """
    loss: torch.Tensor = _InfoNCE.apply(affinity, positive, temperature)
    return loss


@full_precision
def contrastive(
    affinity: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, temperature: float = 0.5
) -> torch.Tensor:
    """Each positive pair of a token against that token's negatives only.

    L_i = mean over positives j != i of -log(e_ij / (e_ij + sum of e_in over negatives n)), e = exp(affinity /
    temperature), averaged over the tokens that have both; independent of the batch size.

    Args:
        affinity: (B, N, N) in (0, 1).
        positive: (B, N, N), pairs of one class; the diagonal is left out here.
        negative: (B, N, N), pairs of two classes.
        temperature: a smaller one sharpens the comparison.
    """
    loss: torch.Tensor = _Contrastive.apply(affinity, positive, negative, temperature)
    return loss


@full_precision
def margin(
    affinity: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, temperature: float = 0.5
) -> torch.Tensor:
    """AFA's form (Ru et al. 2022): half the mean of 1 - affinity over positives plus half its mean over negatives.

    Args:
        affinity: (B, N, N) in (0, 1).
        positive: (B, N, N), pairs of one class.
        negative: (B, N, N), pairs of two classes.
        temperature: not used; every form has the same arguments.
    """
    return 0.5 * masked_mean(1 - affinity, positive) + 0.5 * masked_mean(affinity, negative)


class _InfoNCE(torch.autograd.Function):
    """`infonce_all` with its gradient in closed form, image by image: a few passes over what a cache holds."""

    @staticmethod
    def forward(context: Any, affinity: torch.Tensor, positive: torch.Tensor, temperature: float) -> torch.Tensor:
        slopes, sums, pairs = torch.empty_like(affinity), [], []
        for given, weights, alike in zip(affinity, slopes, positive, strict=True):
            torch.div(given, temperature, out=weights)
            chosen = _bytes(alike).to(weights.dtype)
            counts, chosen_sum = chosen.sum(1, keepdim=True), torch.dot(weights.flatten(), chosen.flatten())
            total = weights.exp_().sum(1, keepdim=True) + DENOMINATOR_GUARD
            sums.append((counts * total.log()).sum() - chosen_sum)
            pairs.append(counts.sum())
            weights.mul_(counts / total).sub_(chosen)
        scale = 1 / ((torch.stack(pairs).sum() + 1) * 2 * len(affinity))
        context.save_for_backward(slopes, scale / temperature)
        return torch.stack(sums).sum() * scale

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        slopes, scale = context.saved_tensors
        return slopes * (gradient * scale), None, None


class _Contrastive(torch.autograd.Function):
    """`contrastive` with its gradient in closed form; see `_InfoNCE`.

    With e = exp(affinity / temperature) and E_i the sum of e over the negatives of i, a pair costs log(1 + E_i / e_ij),
    and its slopes are -q_ij = -E_i / (E_i + e_ij) at the pair and q_ij e_in / E_i at each negative n.
    """

    @staticmethod
    def forward(
        context: Any, affinity: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        slopes, sums, anchors = torch.empty_like(affinity), [], []
        smallest = torch.finfo(affinity.dtype).tiny
        for given, weights, alike, unlike in zip(affinity, slopes, positive, negative, strict=True):
            torch.div(given, temperature, out=weights)
            # Ratios alone count; so the largest exponential is 1, whatever the temperature.
            weights.sub_(weights.amax(1, keepdim=True)).exp_().clamp_(min=smallest)
            against, others = (_bytes(pairs).to(weights.dtype) for pairs in (unlike, alike))
            others.diagonal().zero_()
            counts = others.sum(1, keepdim=True)
            total = against.mul_(weights).sum(1, keepdim=True)
            counted = (counts > 0) & (total > 0)
            others *= counted / counts.clamp(min=1)
            ratio = total / weights
            sums.append(torch.dot(ratio.log1p().flatten(), others.flatten()))
            pull = others.mul_(ratio).div_(ratio.add_(1))
            torch.mul(against, pull.sum(1, keepdim=True) / total.clamp(min=smallest), out=weights).sub_(pull)
            anchors.append(counted.sum())
        count = torch.stack(anchors).sum().clamp(min=1)
        context.save_for_backward(slopes, 1 / (count * temperature))
        return torch.stack(sums).sum() / count

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        slopes, scale = context.saved_tensors
        return slopes * (gradient * scale), None, None, None


AFFINITY_LOSSES: dict[str, AffinityLoss] = {
    "contrastive": contrastive,
    "infonce_all": infonce_all,
    "margin": margin,
}
