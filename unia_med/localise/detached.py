"""Pseudo labels take no gradient and are computed in float32, whatever autocast does around them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _single(value: Any) -> Any:
    is_number = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.detach().float() if is_number else value


def detached(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return decorates a function: no graph, no autocast, floating tensor arguments as float32.

    The caller's tensors are never changed: the functions so decorated work out of place.
    """

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        given = (*args, *kwargs.values())
        device = next((value.device.type for value in given if isinstance(value, torch.Tensor)), "cpu")
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return function(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})

    return wrapped
