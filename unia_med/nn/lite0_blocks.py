"""The layers of EfficientNet-Lite0, under the names that timm gives their tensors.

timm has the same network; importing it takes longer than segmenting a volume, so that a trained run is loaded into
these layers. A test keeps names, shapes and outputs equal to timm's, bit by bit.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from unia_med.tensors import Size, size_of

STAGES = (
    # kernel, stride, expansion, channels, repeats (Liu 2020, EfficientNet-Lite; Tan & Le 2019, table 1)
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
)
STEM_CHANNELS = 32
_EPS = 1e-3  # of TensorFlow's batch norm, with which the weights were trained


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads: the output has ceil(size / stride) pixels, the odd one lies at the end.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel: side.
        stride: of both axes.
        groups: see torch.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # Without a stride the padding is the same on both sides, and torch's own.
        super().__init__(
            channels_in,
            channels_out,
            kernel,
            stride,
            padding=0 if stride > 1 else kernel // 2,
            groups=groups,
            bias=False,
        )

    def reset_parameters(self) -> None:
        """Leave memory as it is, and random numbers unused: the weights of a run or of timm are loaded next."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, channels_out, ceil(H / stride), ceil(W / stride)) of (B, channels_in, H, W)."""
        if self.stride[0] > 1:
            rows, columns = self._padding(size_of(maps))
            maps = F.pad(maps, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(maps)

    def _padding(self, size: Size) -> Size:
        stride, kernel = self.stride[0], self.kernel_size[0]
        rows, columns = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in size)
        return rows, columns


class NormAct(nn.BatchNorm2d):
    """Batch norm, followed by ReLU6 where asked for.

    Args:
        channels: of the maps.
        act: whether ReLU6 follows.
    """

    def __init__(self, channels: int, act: bool = True) -> None:
        super().__init__(channels, eps=_EPS)
        self.act = act

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        normed = super().forward(maps)
        return F.relu6(normed, inplace=True) if self.act else normed


class Separable(nn.Module):
    """Depthwise and pointwise convolution, the only block of the first stage.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel: side of the depthwise convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(channels_in, channels_in, kernel, groups=channels_in)
        self.bn1 = NormAct(channels_in)
        self.conv_pw = SameConv2d(channels_in, channels_out, 1)
        self.bn2 = NormAct(channels_out, act=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, channels_out, H, W) of (B, channels_in, H, W)."""
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(maps))))


class Inverted(nn.Module):
    """Inverted residual: expanded, filtered channel by channel, projected; added to its input where shapes allow.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel: side of the depthwise convolution.
        stride: of the depthwise convolution.
        expansion: factor on `channels_in` in between.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * channels_in
        self.conv_pw = SameConv2d(channels_in, inner, 1)
        self.bn1 = NormAct(inner)
        self.conv_dw = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self.bn2 = NormAct(inner)
        self.conv_pwl = SameConv2d(inner, channels_out, 1)
        self.bn3 = NormAct(channels_out, act=False)
        self.has_skip = stride == 1 and channels_in == channels_out

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, channels_out, ceil(H / stride), ceil(W / stride)) of (B, channels_in, H, W)."""
        inner = self.bn2(self.conv_dw(self.bn1(self.conv_pw(maps))))
        projected = self.bn3(self.conv_pwl(inner))
        return projected + maps if self.has_skip else projected


def first_stages() -> list[nn.Sequential]:
    """Return the first five stages, their weights not set."""
    stages, channels = [], STEM_CHANNELS
    for kernel, stride, expansion, width, repeats in STAGES:
        blocks: list[nn.Module] = []
        for position in range(repeats):
            step = stride if position == 0 else 1
            plain = expansion == 1
            block = Separable(channels, width, kernel) if plain else Inverted(channels, width, kernel, step, expansion)
            blocks.append(block)
            channels = width
        stages.append(nn.Sequential(*blocks))
    return stages
