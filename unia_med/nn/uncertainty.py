"""Uncertainty inference: a Gaussian per token, and features that look away from ambiguous tokens (UniA, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from unia_med.nn.attention import CrossAttention, heads_for
from unia_med.nn.projection import LOG_VARIANCE_LIMIT, ProjectionHead
from unia_med.tensors import resized

POOL = 4  # tokens per side of a cell that the spatial branch looks at


@dataclass(frozen=True)
class UncertaintyOutput:
    """Results for one batch on the token grid (h, w).

    Attributes:
        features: (B, E, h, w), Z: what every head works on.
        log_variance: (B, E, h, w) float32; sigma = exp(log_variance / 2).
        uncertainty_map: (B, h, w) in [0, 1], comparable between images.
        mean: (B, E, h, w) float32; None unless the distribution was asked for.
        distribution_map: (B, h, w) float32; None unless the distribution was asked for.
    """

    features: torch.Tensor
    log_variance: torch.Tensor
    uncertainty_map: torch.Tensor
    mean: torch.Tensor | None = None
    distribution_map: torch.Tensor | None = None


class StatisticBranch(nn.Module):
    """What one statistic, mean or log-variance, sees: local texture plus global dependency (steps 2 and 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.attention = CrossAttention(width, heads_for(width))

    def forward(self, embedded: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """(B, N, D) of `embedded` (B, N, D) and its cells `pooled` (B, N', D)."""
        return embedded * self.scale + self.shift + self.attention(embedded, pooled)


class UncertaintyInference(nn.Module):
    """The network of section 3.

    Args:
        width: E, channels of the backbone's tokens.
        inner: D, inner channels; None for the published ratio (1024 at 768), as are the next two.
        hidden: hidden width of the projection heads; None for 2 D.
        bottleneck: cosine width of the projection heads; None for D / 4.
        samples: S, Gaussian samples a distribution map stands for; a larger number makes it less noisy.
        mask: `off` keeps the tokens, `plain` attends to all alike; `multiplicative` scales keys and values by
            certainty, as published; `bias` lowers an ambiguous token's weight monotonically, which scaling a key does
            not (A4).
        bounded: False lets the log-variance leave [-1, 1], so that the mask can switch tokens off (A2).
        draw_samples: published distribution map by S real samples; the default has the same law and no S-fold memory.
        shared_head: published use of the log-variance's projection head for the mean too (A1).
        doubled: published factor 2 on the features (A5).
        whole_cells: False drops tokens that fill no whole cell of the spatial branch, as published (A24).
    """

    def __init__(
        self,
        width: int,
        inner: int | None = None,
        hidden: int | None = None,
        bottleneck: int | None = None,
        samples: int = 50,
        mask: Literal["off", "plain", "multiplicative", "bias"] = "multiplicative",
        bounded: bool = True,
        draw_samples: bool = False,
        shared_head: bool = False,
        doubled: bool = False,
        whole_cells: bool = True,
    ) -> None:
        super().__init__()
        inner = inner or max(64, round(width * 4 / 3 / 64) * 64)
        sizes = (hidden or 2 * inner, bottleneck or inner // 4)
        self.samples, self.mask, self.draw_samples, self.doubled = samples, mask, draw_samples, doubled
        self.whole_cells = whole_cells
        self.limit = 1.0 if bounded else LOG_VARIANCE_LIMIT
        self.embed = ProjectionHead(width, inner, *sizes)
        self.variance_branch, self.mean_branch = StatisticBranch(inner), StatisticBranch(inner)
        self.variance_head = ProjectionHead(inner, width, *sizes, bounded=bounded)
        self.mean_head = None if shared_head else ProjectionHead(inner, width, *sizes)
        self.masked_attention = CrossAttention(width, heads_for(width))

    def forward(self, tokens: torch.Tensor, need_distribution: bool = True) -> UncertaintyOutput:
        """Features and uncertainty of `tokens` (B, E, h, w); the mean branch runs only when its map is needed."""
        size = tokens.shape[-2:]
        flat = tokens.flatten(2).transpose(1, 2)  # (B, N, E)
        embedded = self.embed(flat)  # (B, N, D)
        pooled = self._cells(embedded, size)
        log_variance = self.variance_head(self.variance_branch(embedded, pooled)).float()
        features = self._look_away(flat, log_variance)
        uncertainty = self.uncertainty_map(log_variance).unflatten(1, size)
        result = UncertaintyOutput(_grid(features, size), _grid(log_variance, size), uncertainty)
        if not need_distribution:
            return result
        mean = (self.mean_head or self.variance_head)(self.mean_branch(embedded, pooled)).float()
        drawn = self._drawn if self.draw_samples else self._closed_form
        distribution = drawn(mean, log_variance).unflatten(1, size)
        return UncertaintyOutput(result.features, result.log_variance, uncertainty, _grid(mean, size), distribution)

    def uncertainty_map(self, log_variance: torch.Tensor) -> torch.Tensor:
        """(B, N) in [0, 1]: mean over channels of sigmoid(log_variance), from its attainable range (3.8)."""
        lowest = 1 / (1 + math.exp(self.limit))
        return ((log_variance.sigmoid().mean(2) - lowest) / (1 - 2 * lowest)).clamp(0, 1)

    def _cells(self, embedded: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """(B, N', D) maximum of each 4x4 cell; cells on the border may be smaller, none is dropped (A24)."""
        # A grid smaller than a cell is one cell in either form.
        ceil = self.whole_cells or min(size) < POOL
        cells = F.max_pool2d(_grid(embedded, size), POOL, ceil_mode=ceil)
        return cells.flatten(2).transpose(1, 2)

    def _look_away(self, tokens: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """(B, N, E) soft ambiguity masking (step 6)."""
        if self.mask == "off":
            return tokens
        certainty = 1 - log_variance.sigmoid()
        if self.mask == "plain":
            gathered = self.masked_attention(tokens, tokens)
        elif self.mask == "bias":
            gathered = self.masked_attention(tokens, tokens, key_bias=certainty.mean(2).log())
        else:
            gathered = self.masked_attention(tokens, tokens * certainty.to(tokens.dtype))
        features = gathered + tokens
        return 2 * features if self.doubled else features

    def _closed_form(self, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """(B, N): the mean over channels, with the sampled map's noise while training (step 7)."""
        centre = mean.mean(2)
        if not self.training:
            return centre
        variance = log_variance.exp().sum(2) / (mean.shape[2] ** 2 * self.samples)
        return centre + torch.randn_like(centre) * variance.sqrt()

    def _drawn(self, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """(B, N): the published mean over samples and channels (step 7)."""
        noise = torch.randn(self.samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        return (mean + (log_variance / 2).exp() * noise).mean(0).mean(2)


def published_uncertainty_map(log_variance: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, H, W): maximum over channels, enlarged, divided by its maximum: not comparable between images (3.8, [R]).

    Args:
        log_variance: (B, E, h, w).
        size: (H, W).
    """
    largest = log_variance.sigmoid().amax(1, keepdim=True)
    enlarged = resized(largest, size).squeeze(1)
    return enlarged / enlarged.amax((1, 2), keepdim=True)


def _grid(tokens: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(B, E, h, w) of tokens (B, N, E)."""
    return tokens.transpose(1, 2).unflatten(2, size)
