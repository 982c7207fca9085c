"""Losses are computed in single precision or better, whatever autocast does around them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch

Arguments = ParamSpec("Arguments")
HALF_TYPES = (torch.float16, torch.bfloat16)


def promoted(value: Any) -> Any:
    """`value` itself, or its float32 copy when it is a half precision tensor; gradients flow through."""
    is_half = isinstance(value, torch.Tensor) and value.dtype in HALF_TYPES
    return value.float() if is_half else value


def full_precision(loss: Callable[Arguments, torch.Tensor]) -> Callable[Arguments, torch.Tensor]:
    """Return decorates a loss: half precision tensor arguments become float32 and autocast is off inside.

    Sums over tens of thousands of token pairs lose their small terms in half precision and overflow beyond 65504.
    """

    @functools.wraps(loss)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> torch.Tensor:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return loss(*map(promoted, args), **{name: promoted(value) for name, value in kwargs.items()})

    return wrapped


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `values` where `mask` is true; an exact, differentiable 0 where it is true nowhere.

    Args:
        values: finite numbers of any shape.
        mask: booleans or 0/1 numbers of the same (or a broadcastable) shape.
    """
    mask = mask.to(values.dtype).expand_as(values)
    return (values * mask).sum() / mask.sum().clamp(min=1)
