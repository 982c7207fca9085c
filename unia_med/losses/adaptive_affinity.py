"""Adaptive affinity loss of AA&LR: near pixels of one label should be predicted alike, of two labels apart.

Zhang et al., ACM MM 2021; the form is that of the public fragment, with its four groups of pairs separated as intended
(section 5 and defects 1 and 3 of section 10 of the specification).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.tensors import full_precision

CLIP = 1e-4  # section 5
Weighting = Literal["max", "min", "mean", "none"]
GROUPS = ("background", "object", "objects", "border")
"""Pairs 0-0, k-k, k-k' and 0-k, in this order everywhere."""
GROUP_WEIGHTS = (1.0, 1.0, 2.0, 2.0)


@full_precision
def adaptive_affinity(
    logits: Tensor,
    labels: Tensor,
    confidence: Tensor,
    offsets: Sequence[int] = (4,),
    margin: float = 3.0,
    gate: float = 0.2,
    weighting: Weighting = "max",
) -> Tensor:
    """Mean loss of background pairs and of object pairs, plus twice that of unlike object and of border pairs.

    With the divergence D of the two predictions (all classes as independent Bernoullis) and the pair's weight w, like
    pairs cost w D and unlike pairs max(0, margin w - D). Groups without a pair cost 0.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W), 0..K-1 or IGNORE; a pair with an ignored end does not count.
        confidence: (B, H, W) in [0, 1], trust in the labels; no gradient is taken.
        offsets: distances of the 8 neighbours in pixels; the loss is averaged over them.
        margin: divergence that unlike, fully trusted pairs should have; published 3.
        gate: pairs of a smaller weight are dropped.
        weighting: w of a pair from the confidence of its ends; `none` is 1 for all.
    """
    values, logarithms = _bernoullis(logits)
    confidence = confidence.detach()
    costs = []
    for offset in offsets:
        sums, counts = zip(
            *(
                _shift_sums(values, logarithms, labels, confidence, shift, margin, gate, weighting)
                for shift in half_neighbours(offset)
            ),
            strict=True,
        )
        means = torch.stack(sums).sum(0) / torch.stack(counts).sum(0).clamp(min=1)
        costs.append((means * means.new_tensor(GROUP_WEIGHTS)).sum())
    return torch.stack(costs).mean()


def half_neighbours(offset: int) -> list[tuple[int, int]]:
    """Half of the 8 neighbours' (row, column) offsets; the other half are the same pairs in the other order.

    >>> half_neighbours(4)
    [(0, 4), (4, -4), (4, 0), (4, 4)]
    """
    return [(0, offset), (offset, -offset), (offset, 0), (offset, offset)]


@torch.no_grad()
def group_counts(labels: Tensor, offset: int) -> Tensor:
    """(4,) float: ordered pairs per group of `GROUPS` at one offset, before the gate; for logs and tests.

    Args:
        labels: (B, H, W).
        offset: distance of the neighbours in pixels.
    """
    pairs = (_pair(labels, shift) for shift in half_neighbours(offset))
    return torch.stack([2 * _groups(a, b).flatten(1).sum(1) for a, b in pairs]).sum(0).float()


def _bernoullis(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 2K, H, W) twice: p and 1 - p of every class clipped at `CLIP`, and their logarithms.

    The logarithm of 1 - p comes from log p, not from a rounded p; where clipped, there is no gradient, as published.
    """
    log_chance = logits.log_softmax(1)
    log_rest = torch.log(-torch.expm1(log_chance.clamp(max=math.log1p(-CLIP))))
    logarithms = torch.cat((log_chance.clamp(min=math.log(CLIP)), log_rest), 1)
    return logarithms.exp(), logarithms


def _shift_sums(
    values: Tensor,
    logarithms: Tensor,
    labels: Tensor,
    confidence: Tensor,
    shift: tuple[int, int],
    margin: float,
    gate: float,
    weighting: Weighting,
) -> tuple[Tensor, Tensor]:
    """(4,) summed loss and (4,) number of ordered pairs of each group, for one shift and both orders."""
    (p, q), (log_p, log_q) = _pair(values, shift), _pair(logarithms, shift)
    forth = (q * (log_q - log_p)).sum(1)  # the divergence with the neighbour's prediction in front, and back
    back = (p * (log_p - log_q)).sum(1)
    weight = _pair_weight(*_pair(confidence, shift), weighting)
    kinds = _groups(*_pair(labels, shift)) & (weight >= gate)
    like = weight * (forth + back)
    unlike = (margin * weight - forth).relu() + (margin * weight - back).relu()  # of each ordered divergence
    costs = torch.stack((like, like, unlike, unlike))
    chosen = kinds.to(costs.dtype)
    return (costs * chosen).flatten(1).sum(1), 2 * chosen.flatten(1).sum(1)


def _pair(maps: Tensor, shift: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return views of maps (..., H, W): each pixel, and its neighbour at `shift`, inside the image."""
    height, width = maps.shape[-2:]
    down, right = shift
    rows = slice(0, max(height - down, 0)), slice(down, height)
    left, other = slice(0, max(width - abs(right), 0)), slice(abs(right), width)
    columns = (left, other) if right >= 0 else (other, left)
    return maps[..., rows[0], columns[0]], maps[..., rows[1], columns[1]]


def _groups(first: Tensor, second: Tensor) -> Tensor:
    """(4, B, h, w) bool: which group of `GROUPS` each pair of labels belongs to, if any."""
    known = (first != IGNORE) & (second != IGNORE)
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    same, with_background = low == high, low == BACKGROUND
    kinds = (same & with_background, same & ~with_background, ~same & ~with_background, ~same & with_background)
    return torch.stack([known & kind for kind in kinds])


def _pair_weight(first: Tensor, second: Tensor, weighting: Weighting) -> Tensor:
    if weighting == "max":
        return torch.maximum(first, second)
    if weighting == "min":
        return torch.minimum(first, second)
    return (first + second) / 2 if weighting == "mean" else torch.ones_like(first)
