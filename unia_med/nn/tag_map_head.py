"""A tag classifier whose scores keep their place: class activation maps next to a segmentation network."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class TagMapHead(nn.Module):
    """One 3x3 convolution on backbone features, pooling, and a bias-free classifier.

    Args:
        channels: Of the features.
        classes: T, tag classes.
        pooling: `mean`: global average, as published (RRM, AA&LR section 2); `max`: highest value of each feature.
            On cardiac MR an average lets the classifier read a tag from anywhere in the slice, a maximum does not.
        dropout: Share of channels dropped in training; published 0.5.
        width: Channels that are pooled.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        pooling: Literal["max", "mean"] = "max",
        dropout: float = 0.0,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.join = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(dropout),
        )
        self.classifier = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Tag logits (B, T) and raw activation maps (B, T, h, w), these without gradient, of features (B, C, h, w)."""
        joined = self.join(features)
        pooled = joined.amax((2, 3)) if self.pooling == "max" else joined.mean((2, 3))
        maps = F.conv2d(joined.detach(), self.classifier.weight.detach())
        return F.linear(pooled, self.classifier.weight.flatten(1)), maps
