"""A plain convolutional classifier whose features keep their place, for class activation maps.

Attention or global average pooling lets a classifier read a tag from anywhere in the slice. On cardiac MR, only
convolutions of small stride with maximum pooling learn tags from the place of the object.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from unia_med.nn.lite0 import STAGE_CHANNELS, STAGE_STRIDES, Lite0Stages
from unia_med.tensors import resized, size_of

Pooling = Literal["max", "score_max", "logsumexp", "mean"]
_EXPANDED = 3  # this stage has the stride of the next one and fewer channels; nothing reads it


def taps_from(stride: int) -> list[int]:
    """Positions of the stages whose maps are read when the finest has this stride.

    Example:
        >>> [STAGE_STRIDES[i] for i in taps_from(8)]
        [8, 16]
    """
    return [i for i, s in enumerate(STAGE_STRIDES) if i != _EXPANDED and s >= stride]


class CamNetwork(nn.Module):
    """EfficientNet-Lite0 stages brought to one grid, one 3x3 convolution, pooling and a bias-free classifier.

    Args:
        weights: see `Lite0Stages`.
        classes: T, tag classes.
        width: E, channels of the common grid.
        stride: pixels from one cell of the activation map to the next, 8 or 16. A smaller one draws finer maps.
        pooling: `max`: highest value of each feature, then the classifier; `score_max`: highest score of each class;
            `logsumexp`: a smooth `score_max` (Pinheiro and Collobert 2015); `mean`: as published (PSA, section 2).
        dropout: share of channels dropped in training.
        channels: C of the images.
        sharpness: r of `logsumexp`; a larger one comes closer to the maximum.
    """

    def __init__(
        self,
        weights: str,
        classes: int,
        width: int = 128,
        stride: int = 8,
        pooling: Pooling = "max",
        dropout: float = 0.0,
        channels: int = 1,
        sharpness: float = 4.0,
    ) -> None:
        super().__init__()
        self.pooling, self.sharpness = pooling, sharpness
        self.stages = Lite0Stages(weights, channels)
        self.taps = taps_from(stride)
        self.laterals = nn.ModuleList(nn.Conv2d(STAGE_CHANNELS[i], width, 1, bias=False) for i in self.taps)
        self.join = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tag logits (B, T), and class scores (B, T, h, w), the raw activation map, from images (B, C, H, W)."""
        maps = self.stages(images)
        size = size_of(maps[self.taps[0]])
        grid = sum(resized(lateral(maps[i]), size) for i, lateral in zip(self.taps, self.laterals, strict=True))
        features = self.dropout(self.join(grid))
        scores = self.classifier(features)
        return self._pooled(features, scores), scores

    def _pooled(self, features: Tensor, scores: Tensor) -> Tensor:
        if self.pooling == "max":
            return F.linear(features.amax((2, 3)), self.classifier.weight.flatten(1))
        if self.pooling == "score_max":
            return scores.amax((2, 3))
        if self.pooling == "mean":
            return scores.mean((2, 3))
        flat = (self.sharpness * scores.float()).flatten(2)
        return (flat.logsumexp(2) - math.log(flat.shape[2])) / self.sharpness
