"""Moving average of a method's weights: the model that is validated, predicted with and exported."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from unia_med.methods.base import Method


class WeightAverage:
    """Exponential moving average of weights, with the buffers of the latest step.

    Batch-norm statistics are moving averages already and are copied. The decay warms up as
    `min(decay, (1 + t) / (10 + t))` after t updates, so that the random start is forgotten at once
    (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, method: Method, decay: float) -> None:
        """Start from the weights a method has now.

        Args:
            method: what is trained.
            decay: share of the old average that is kept, in [0, 1); 0 follows the weights exactly, larger averages
                over more steps (about 1 / (1 - decay)).
        """
        self.method: Method = deepcopy(method).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._averaged = _floating(self.method)
        self._followed = _floating(method)
        self._copied = _others(self.method)
        self._sources = _others(method)

    def current_decay(self) -> float:
        """Decay of the next update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self) -> None:
        """Take the method's weights of this step into the average; a few fused kernels, no device round trip."""
        torch._foreach_lerp_(self._averaged, self._followed, 1.0 - self.current_decay())
        if self._copied:
            torch._foreach_copy_(self._copied, self._sources)
        self.updates += 1


def _floating(method: Method) -> list[Tensor]:
    return [parameter.detach() for parameter in method.parameters() if parameter.is_floating_point()]


def _others(method: Method) -> list[Tensor]:
    whole = [parameter.detach() for parameter in method.parameters() if not parameter.is_floating_point()]
    return whole + [buffer.detach() for buffer in method.buffers()]
