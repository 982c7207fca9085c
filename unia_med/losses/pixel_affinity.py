"""The three-way affinity loss of AffinityNet (Ahn and Kwak, CVPR 2018) and of IRN (Ahn et al., CVPR 2019).

No affinity is ever formed: each model gives -log W and -log(1 - W) directly, which have no large gradients and no bias
where the published log(W + 1e-5) has both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.losses.masked import masked_mean
from unia_med.tensors import full_precision

SMALLEST_DISTANCE = 1e-5


@full_precision
def distance_costs(distances: Tensor) -> tuple[Tensor, Tensor]:
    """-log W and -log(1 - W) of W = exp(-distance).

    Args:
        distances: any shape, at least 0; clamped at 1e-5 for the second cost.
    """
    apart = distances.clamp(min=SMALLEST_DISTANCE)
    return distances, -torch.log(-torch.expm1(-apart))


@full_precision
def edge_costs(logits: Tensor) -> tuple[Tensor, Tensor]:
    """-log W and -log(1 - W) of W = 1 - sigmoid(logit of the strongest edge between the two cells).

    Args:
        logits: any shape.
    """
    return F.softplus(logits), F.softplus(-logits)


@full_precision
def three_way_loss(
    alike_cost: Tensor, unlike_cost: Tensor, background: Tensor, foreground: Tensor, negative: Tensor
) -> Tensor:
    """1/4 mean over background pairs + 1/4 mean over foreground pairs + 1/2 mean over unlike pairs, of the whole batch.

    A kind without a pair contributes an exact 0.

    Args:
        alike_cost: -log W of each pair.
        unlike_cost: -log(1 - W) of each pair, same shape.
        background: bool, both cells are background.
        foreground: bool, both cells are of one class.
        negative: bool, the cells are of two classes.
    """
    alike = masked_mean(alike_cost, background) + masked_mean(alike_cost, foreground)
    return 0.25 * alike + 0.5 * masked_mean(unlike_cost, negative)
