"""Attention of one token set on another, with fused kernels and an optional bias per key."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def heads_for(width: int, most: int = 16, narrowest: int = 32) -> int:
    """How many heads fit `width`: at most 16, at least 32 channels each where that is possible.

    >>> heads_for(1024), heads_for(768), heads_for(192), heads_for(128), heads_for(20)
    (16, 16, 6, 4, 1)
    """
    return max((n for n in range(1, most + 1) if width % n == 0 and width // n >= narrowest), default=1)


class CrossAttention(nn.Module):
    """Standard multi-head attention: four projections with biases, no dropout.

    Args:
        width: channels of queries, keys, values and result.
        heads: must divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: torch.Tensor, source: torch.Tensor, key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N, E): what `query` (B, N, E) gathers from `source` (B, N', E), both keys and values.

        Args:
            query: (B, N, E).
            source: (B, N', E).
            key_bias: (B, N'), added to every query's logit of that key; a lower one hides the token.
        """
        queries = self._split(self.query(query))
        keys, values = self._split(self.key(source)), self._split(self.value(source))
        mask = None if key_bias is None else key_bias.to(queries.dtype)[:, None, None, :]
        gathered = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.output(gathered.transpose(1, 2).flatten(2))

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, heads, N, E / heads)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
