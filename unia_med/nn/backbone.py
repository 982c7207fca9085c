"""What every backbone gives: the interface between a feature extractor and the methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class BackboneOutput:
    """Features of one batch on the token grid (h, w).

    Attributes:
        tokens: (B, E, h, w), normalised features of the last block.
        aux_tokens: (B, E_aux, h, w), features of an intermediate block, or before the first, not normalised.
        affinity_logits: (B, 2M, N, N) with N = h * w, the pre-softmax scaled attention logits between patch tokens
            of the last two blocks, row = query, the block before the last first; None unless asked for.
        skips: finer maps for decoders with skip connections, finest first; empty where the backbone has none.
    """

    tokens: torch.Tensor
    aux_tokens: torch.Tensor
    affinity_logits: torch.Tensor | None = None
    skips: tuple[torch.Tensor, ...] = ()


class Backbone(nn.Module):
    """A feature extractor (UniA specification, section 2); it standardises images itself.

    Called as `backbone(images, need_affinity=False)` with images (B, C, H, W) in [0, 1]; gives a `BackboneOutput`.

    Attributes:
        width: E, channels of the tokens.
        aux_width: E_aux, channels of the auxiliary tokens.
        heads: M, of its attention; 0 without any.
        depth: transformer blocks.
        patch_size: pixels from one token to the next.
        skip_channels: channels of the skips, finest first.
    """

    width: int
    aux_width: int
    heads: int
    depth: int
    patch_size: int
    skip_channels: tuple[int, ...] = ()
