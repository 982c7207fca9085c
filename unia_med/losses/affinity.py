"""Affinity losses: tokens of one class should be alike, tokens of two classes should not (section 12).

Three forms with one signature. `contrastive` is the toolkit's own; `infonce_all` is the published one (its value
scales with 1 / B and every token stands in its denominator); `margin` is AFA's. Their ranges differ: a weight tuned
for one does not fit another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from unia_med.labels import IGNORE
from unia_med.losses.masked import masked_mean
from unia_med.tensors import full_precision

AffinityLoss = Callable[..., torch.Tensor]
DENOMINATOR_GUARD = 1e-4  # section 12, published form
FAR_BELOW = -1e4  # stands for minus infinity, keeps gradients of anchors without negatives finite


def pair_labels(
    labels: torch.Tensor, near: torch.Tensor | None = None, ignore_index: int = IGNORE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which token pairs share a class and which differ, as two (B, N, N) boolean tensors (positive, negative).

    Pairs with an ignored token are neither. Background pairs and a token with itself count as positive.

    Args:
        labels: (B, h, w), integers on the token grid.
        near: (N, N), true for pairs within the radius, as from `localise.affinity_refine.radius_mask`; None for all.
        ignore_index: the label of tokens that say nothing.

    >>> positive, negative = pair_labels(torch.tensor([[[0, 1, 255]]]))
    >>> positive.sum().item(), negative.sum().item()
    (2, 2)
    """
    flat = labels.flatten(1)
    labelled = flat != ignore_index
    usable = labelled.unsqueeze(2) & labelled.unsqueeze(1)
    usable = usable if near is None else usable & near
    same = flat.unsqueeze(2) == flat.unsqueeze(1)
    return usable & same, usable & ~same


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
    scaled = affinity / temperature
    log_total = torch.log(scaled.exp().sum(2, keepdim=True) + DENOMINATOR_GUARD)
    chosen = positive.to(affinity.dtype)
    return ((log_total - scaled) * chosen).sum() / (chosen.sum() + 1) / (2 * affinity.shape[0])


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
    scaled = affinity / temperature
    diagonal = torch.eye(affinity.shape[1], dtype=torch.bool, device=affinity.device)
    others = (positive & ~diagonal).to(affinity.dtype)
    log_negatives = scaled.masked_fill(~negative, FAR_BELOW).logsumexp(2, keepdim=True)
    pair_losses = F.softplus(log_negatives - scaled) * others
    anchor_losses = pair_losses.sum(2) / others.sum(2).clamp(min=1)
    return masked_mean(anchor_losses, others.any(2) & negative.any(2))


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


AFFINITY_LOSSES: dict[str, AffinityLoss] = {
    "contrastive": contrastive,
    "infonce_all": infonce_all,
    "margin": margin,
}
