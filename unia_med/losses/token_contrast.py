"""Token contrast: features of one class point the same way, of two classes at right angles."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unia_med.tensors import full_precision


@full_precision
def token_contrast(features: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """0.5 (1 - sum(pos c) / (sum pos + 1)) + 0.5 sum(neg c) / (sum neg + 1), c = |cosine| (section 13).

    Without any positive pair the first half would be a constant 0.5 that trains nothing; it is 0 here, so that an
    unlabelled batch has loss 0.

    Args:
        features: (B, E, h, w).
        positive: (B, N, N) token pairs of one class, as from `losses.affinity.pair_labels` without a radius.
        negative: (B, N, N) token pairs of two classes. A token with itself is left out.
    """
    directions = F.normalize(features.flatten(2), dim=1)
    cosine = torch.bmm(directions.transpose(1, 2), directions).abs()
    diagonal = torch.eye(cosine.shape[1], dtype=torch.bool, device=cosine.device)
    positive, negative = (positive & ~diagonal).to(cosine.dtype), negative.to(cosine.dtype)
    attraction = positive.any().to(cosine.dtype) - (positive * cosine).sum() / (positive.sum() + 1)
    return 0.5 * attraction + 0.5 * (negative * cosine).sum() / (negative.sum() + 1)
