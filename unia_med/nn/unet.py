"""A decoder with skip connections: from the token grid back to every pixel of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unia_med.nn.joining import JoiningConv2d
from unia_med.tensors import resized, size_of


def _double_convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        JoiningConv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class SkipDecoder(nn.Module):
    """U-Net decoder: enlarges token features step by step, joining the backbone's finer maps.

    Thin structures are narrower than a token; LargeFOV, which upsamples token logits, cannot draw it.

    Args:
        channels: Channels of the token features.
        skip_channels: Channels of the skips, finest first (as in `BackboneOutput.skips`).
        classes: Output classes K.
        widths: Channels after each step, coarsest first; one per skip and one for the full resolution.
    """

    def __init__(
        self, channels: int, skip_channels: Sequence[int], classes: int, widths: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        steps = len(skip_channels)
        widths = tuple(widths or (64, 48, 32)[-steps:] + (16,))
        inputs = (channels, *widths[:-2])[:steps]
        coarsest_first = reversed(tuple(skip_channels))
        self.steps = nn.ModuleList(
            _double_convolution(c + skip, w) for c, skip, w in zip(inputs, coarsest_first, widths[:steps], strict=True)
        )
        self.width = widths[-2] if steps else channels
        self.last = _double_convolution(self.width, widths[-1])
        self.classifier = nn.Conv2d(widths[-1], classes, 1)

    def forward(self, tokens: Tensor, skips: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W) at `size` from tokens (B, E, h, w) and skips, finest first."""
        return self.classify(self.features(tokens, skips), size)

    def features(self, tokens: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Features (B, C, h', w') on the grid of the finest skip, the input of `classify`."""
        features = tokens
        for step, skip in zip(self.steps, reversed(tuple(skips)), strict=True):
            features = resized(features, size_of(skip))
            features = step(torch.cat((features, skip), 1))
        return features

    def classify(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W) at `size` from `features`."""
        features = resized(features, size)
        return self.classifier(self.last(features))
