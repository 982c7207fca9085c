"""A convolution to fewer channels, whose weights' gradient a CPU finds in the layout in which it is faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class JoiningConv2d(nn.Conv2d):
    """`Conv2d` of kernel 3, stride 1, padding 1 and no bias, which a CPU trains faster where channels become fewer.

    With channels last, oneDNN takes two to five times as long for the gradient of the weights as for that of the maps
    (32 to 24 channels on 160 x 160 pixels: 155 and 33 ms); with channels first, copies included, half of it.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, channels_out, H, W) of (B, channels_in, H, W)."""
        if _pays(maps, self.weight):
            result: Tensor = _Joining.apply(maps, self.weight)
            return result
        return super().forward(maps)


def _pays(maps: Tensor, weight: Tensor) -> bool:
    """Whether a gradient of the weights will be asked for, on a CPU, in single precision, with channels last."""
    trained = torch.is_grad_enabled() and weight.requires_grad and weight.shape[0] < weight.shape[1]
    plain = maps.device.type == "cpu" and maps.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return trained and plain and not recorded and maps.is_contiguous(memory_format=torch.channels_last)


class _Joining(torch.autograd.Function):
    """Two-dimensional convolution; its weights' gradient from copies with channels first."""

    @staticmethod
    def forward(context: Any, maps: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(maps, weight)
        return F.conv2d(maps, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        maps, weight = context.saved_tensors
        of_maps = None
        if context.needs_input_grad[0]:
            of_maps = _gradients(gradient, maps, weight, (True, False, False))[0]
        # Copies that are not contiguous with channels last at the same time, as maps of one channel are.
        of_weight = _gradients(gradient.contiguous(), maps.contiguous(), weight.contiguous(), (False, True, False))[1]
        return of_maps, of_weight.contiguous(memory_format=torch.channels_last)


def _gradients(gradient: Tensor, maps: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> tuple[Tensor, ...]:
    """Gradients of maps, weight and bias, of which some are wanted."""
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, maps, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
    )
    return found
