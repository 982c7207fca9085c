"""Shared tensor functions: precision of computations, and images at another size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F

Size = tuple[int, int]
"""Rows and columns."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
ModuleType = TypeVar("ModuleType", bound=torch.nn.Module)
HALF_TYPES = (torch.float16, torch.bfloat16)


def promoted(value: Any) -> Any:
    """Return `value` itself, or its float32 copy when it is a half precision tensor; gradients flow through."""
    is_half = isinstance(value, torch.Tensor) and value.dtype in HALF_TYPES
    return value.float() if is_half else value


def full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function: half precision tensor arguments become float32 and autocast is off inside.

    Sums over tens of thousands of token pairs lose their small terms in half precision and overflow beyond 65504.
    """

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        given = (*args, *kwargs.values())
        device = next((value.device.type for value in given if isinstance(value, torch.Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*map(promoted, args), **{name: promoted(value) for name, value in kwargs.items()})

    return wrapped


def detached(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function whose result takes no gradient, such as a pseudo label; otherwise as `full_precision`.

    The caller's tensors are never changed: the functions so decorated work out of place.
    """
    guarded = full_precision(function)

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.no_grad():
            return guarded(*map(_cut, args), **{name: _cut(value) for name, value in kwargs.items()})

    return wrapped


def _cut(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def size_of(maps: torch.Tensor) -> Size:
    """Return rows and columns of `maps` (..., H, W)."""
    return int(maps.shape[-2]), int(maps.shape[-1])


def resized(maps: torch.Tensor, size: Size) -> torch.Tensor:
    """Return `maps` (B, C, H, W) at `size`, bilinearly; `maps` itself where that is their size."""
    if size_of(maps) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def with_layout(module: ModuleType, layout: torch.memory_format) -> ModuleType:
    """Return a module, itself, with its four-dimensional weights in a memory layout.

    Args:
        module: Changed in place, as by `Module.to`.
        layout: `torch.channels_last` or `torch.contiguous_format`.
    """
    module.to(memory_format=layout)  # type: ignore[call-overload]  # an argument that torch's overloads leave out
    return module


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into eval mode without gradients, and afterwards back into the mode it was in.

    Args:
        module: a method or a network.
    """
    was_training = module.training
    module.eval()
    try:
        # Not inference_mode: what a method caches during a call must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)
