"""The projection head of the uncertainty network (DINO, Caron et al. 2021; UniA specification, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

WEIGHT_DEVIATION = 0.02
LOG_VARIANCE_LIMIT = 6.0  # unbounded heads are clamped to +-this


class ProjectionHead(nn.Module):
    """Three linear layers, then cosines with learned directions: every output lies in [-1, 1].

    Args:
        width: channels in.
        channels: channels out.
        hidden: width of the two hidden layers.
        bottleneck: width in which the cosines are taken; at the start their deviation is its root's inverse.
        bounded: False ends in an ordinary linear layer clamped to +-6 instead (A2).
    """

    def __init__(self, width: int, channels: int, hidden: int, bottleneck: int, bounded: bool = True) -> None:
        super().__init__()
        self.bounded = bounded
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last = nn.Linear(bottleneck, channels, bias=not bounded)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=WEIGHT_DEVIATION)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(..., channels) of `tokens` (..., width)."""
        inner = self.layers(tokens)
        if not self.bounded:
            return self.last(inner).clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        inner = F.normalize(inner.float(), dim=-1).to(inner.dtype)  # half precision squares underflow
        return F.linear(inner, F.normalize(self.last.weight, dim=1))
