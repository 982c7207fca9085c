"""Heads on the token grid: tag classifier, affinity head and two small decoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class TagClassifier(nn.Module):
    """Tag logits by global max pooling and a bias-free 1x1 convolution (UniA specification, section 5).

    Args:
        width: E, channels of the features.
        classes: T, tag classes.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width, 1, 1))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, T) logits of `features` (B, E, h, w)."""
        return F.linear(features.amax((2, 3)), self.weight.flatten(1))

    def maps(self, features: torch.Tensor) -> torch.Tensor:
        """(B, T, h, w): the same weights at every token, the raw activation maps; no gradient."""
        with torch.no_grad():
            return F.conv2d(features, self.weight)


class AffinityHead(nn.Module):
    """Symmetric affinity in (0, 1) between tokens, from attention logits (section 9).

    sigmoid(Conv1x1(G + G^T)) over the 2M logit maps; by linearity the convolution comes first, so that one map is
    transposed in place of 2M.

    Args:
        maps: 2M, heads of two blocks.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(maps, 1, 1)

    def forward(self, affinity_logits: torch.Tensor) -> torch.Tensor:
        """(B, N, N) float32 affinity of `affinity_logits` (B, 2M, N, N)."""
        weight, bias = self.projection.weight, self.projection.bias
        assert bias is not None
        # A convolution would bring the maps, the largest tensors of a step, into the memory layout of its weights.
        mixed = (weight.view(1, 1, -1) @ affinity_logits.flatten(2)).unflatten(2, affinity_logits.shape[2:])
        mixed = mixed.squeeze(1).float()
        return (mixed + mixed.transpose(1, 2) + bias).sigmoid()


class LargeFieldOfView(nn.Module):
    """LargeFOV decoder: two dilated 3x3 convolutions and a 1x1, without biases (section 14).

    Args:
        width: E, channels of the features.
        classes: K, with background.
        hidden: channels between; the published 512 is for E = 768.
        dilation: a larger one sees further, in tokens.
    """

    def __init__(self, width: int, classes: int, hidden: int = 512, dilation: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, hidden, 3, padding=dilation, dilation=dilation, bias=False)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation, bias=False)
        self.last = nn.Conv2d(hidden, classes, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, K, h, w) logits of `features` (B, E, h, w)."""
        return self.last(self.second(self.first(features).relu()).relu())


class AtrousPyramid(nn.Module):
    """ASPP decoder: 3x3 convolutions at several dilations, summed (section 14; Chen et al. 2017).

    Args:
        width: E, channels of the features.
        classes: K, with background.
        dilations: in tokens; the published ones are for a 28 x 28 grid or larger.
    """

    def __init__(self, width: int, classes: int, dilations: tuple[int, ...] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, classes, 3, padding=d, dilation=d) for d in dilations)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, K, h, w) logits of `features` (B, E, h, w)."""
        return torch.stack([branch(features) for branch in self.branches]).sum(0)
