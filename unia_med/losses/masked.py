"""Means over the labelled part of a tensor."""

from __future__ import annotations

import torch


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of `values` where `mask` is true; an exact, differentiable 0 where it is true nowhere.

    Args:
        values: finite numbers of any shape.
        mask: booleans or 0/1 numbers of the same (or a broadcastable) shape.
    """
    mask = mask.to(values.dtype).expand_as(values)
    return (values * mask).sum() / mask.sum().clamp(min=1)
