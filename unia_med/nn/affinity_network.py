"""Networks that say which neighbouring cells belong together: by features (PSA) or by the edges between them (IRN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unia_med.nn.lite0 import STAGE_CHANNELS, STAGE_STRIDES, Lite0Stages
from unia_med.tensors import resized, size_of

_DEEPEST = len(STAGE_CHANNELS) - 1
_NORM_CHANNELS = 8  # channels of a group, as in the published 8, 16 and 32 groups of 64, 128 and 256


def feature_taps(stride: int) -> tuple[int, int, int]:
    """Positions of the three stages that AffinityNet reads: the grid's own, the next coarser and the deepest.

    Example:
        >>> [[STAGE_STRIDES[i] for i in feature_taps(stride)] for stride in (2, 4, 8)]
        [[2, 4, 16], [4, 8, 16], [4, 8, 16]]
    """
    first = min(STAGE_STRIDES.index(stride), 1)
    return (first, first + 1, _DEEPEST)


def _reduced(channels: int, width: int) -> nn.Sequential:
    groups = max(1, width // _NORM_CHANNELS)
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(groups, width), nn.ELU())


def _on_grid(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-1] > size[-1]:
        return F.adaptive_avg_pool2d(maps, size)
    return resized(maps, size)


class AffinityNetwork(nn.Module):
    """Features of three depths on one grid, whose local L1 distances are affinities, or edge logits from five depths.

    Args:
        weights: see `Lite0Stages`.
        stride: pixels from one cell to the next: 2, 4 or 8.
        form: `feature` (PSA, section 5) or `boundary` (IRN, section 8).
        widths: channels of the three depths; published 64, 128, 256. `boundary`: the first, for every depth.
        channels: C of the images.
        train_backbone: False learns the heads alone, as IRN does; faster.
    """

    def __init__(
        self,
        weights: str,
        stride: int = 4,
        form: Literal["feature", "boundary"] = "feature",
        widths: Sequence[int] = (64, 128, 256),
        train_backbone: bool = True,
        channels: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.form, self.train_backbone = stride, form, train_backbone
        self.stages = Lite0Stages(weights, channels).requires_grad_(train_backbone)
        self.taps = feature_taps(stride) if form == "feature" else tuple(range(_DEEPEST + 1))
        widths = tuple(widths) if form == "feature" else (widths[0],) * len(self.taps)
        self.reduce = nn.ModuleList(_reduced(STAGE_CHANNELS[i], w) for i, w in zip(self.taps, widths, strict=True))
        total = sum(widths)
        self.join = nn.Conv2d(total, total if form == "feature" else 1, 1, bias=form == "boundary")
        if form == "feature":
            nn.init.xavier_uniform_(self.join.weight, gain=4)  # section 5

    def train(self, mode: bool = True) -> AffinityNetwork:
        """As in torch; a backbone that does not learn keeps its batch statistics too."""
        super().train(mode)
        if not self.train_backbone:
            self.stages.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, sum of widths, h, w), or edge logits (B, 1, h, w), of images (B, C, H, W) in [0, 1]."""
        height, width = size_of(images)
        size = -(-height // self.stride), -(-width // self.stride)
        with torch.set_grad_enabled(self.train_backbone and torch.is_grad_enabled()):
            maps = self.stages(images)
        parts = [reduce(_on_grid(maps[i], size)) for i, reduce in zip(self.taps, self.reduce, strict=True)]
        joined = self.join(torch.cat(parts, 1))
        return F.elu(joined) if self.form == "feature" else joined
