"""A backbone that a CPU can train: EfficientNet-Lite0 stages feeding a few transformer blocks.

The convolutional stages bring ImageNet features, which a transformer trained from scratch on a thousand slices never
finds; the blocks supply what UniA needs of a transformer: tokens, and attention logits as pairwise affinity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unia_med.errors import UserError
from unia_med.nn.backbone import Backbone, BackboneOutput
from unia_med.nn.lite0 import STAGE_CHANNELS, STAGE_STRIDES, Lite0Stages
from unia_med.tensors import Size, resized, size_of


class Attention(nn.Module):
    """Multi-head self-attention that shows its pre-softmax logits on request and runs fused otherwise."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, need_logits: bool = False) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, E) to (B, N, E), and logits QK^T / sqrt(E / M) as (B, M, N, N) when asked for."""
        batch, count, width = tokens.shape
        query, key, value = self.qkv(tokens).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = None
        if need_logits:
            logits = query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5
            mixed = logits.softmax(-1) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width)), logits


class Block(nn.Module):
    """Pre-norm transformer block with layer scale.

    The scales start at 0.01, so that tokens begin as the convolutional features of their own place: attention from
    scratch smears a class activation map over the whole slice (at 0.1 its peak left the object in 99 % of slices).
    """

    def __init__(self, width: int, heads: int, expansion: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))
        self.scale1 = nn.Parameter(torch.full((width,), 0.01))
        self.scale2 = nn.Parameter(torch.full((width,), 0.01))

    def forward(self, tokens: Tensor, need_logits: bool = False) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, E) to (B, N, E), with the attention logits when asked for."""
        mixed, logits = self.attention(self.norm1(tokens), need_logits)
        tokens = tokens + self.scale1 * mixed
        return tokens + self.scale2 * self.mlp(self.norm2(tokens)), logits


class HybridLite0(Backbone):
    """EfficientNet-Lite0 plus transformer blocks; the interface is that of `BackboneOutput`.

    Args:
        width: Token width E.
        depth: Transformer blocks, at least 2 (affinity needs the logits of two).
        heads: Attention heads M.
        token_stride: Pixels from one token to the next: 4, 8 or 16. Smaller resolves thin structures and costs the
            fourth power of the ratio in attention.
        weights: See `Lite0Stages`.
        channels: C of the images.
    """

    def __init__(
        self,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        token_stride: int = 8,
        weights: str = "package",
        channels: int = 1,
    ) -> None:
        super().__init__()
        if token_stride not in (4, 8, 16):
            raise UserError(f"{token_stride} is not one of 4, 8, 16", where="network.token_stride", remedy="use 8")
        if width % heads:
            raise UserError(f"{width} is not a multiple of its {heads} attention heads", where="network.width")
        self.width = self.aux_width = width
        self.heads, self.depth, self.patch_size = heads, depth, token_stride
        self.stages = Lite0Stages(weights, channels)
        self._taps = [i for i, stride in enumerate(STAGE_STRIDES) if i != 3 and stride >= token_stride]
        self.laterals = nn.ModuleList(nn.Conv2d(STAGE_CHANNELS[i], width, 1) for i in self._taps)
        # The convolution gives tokens their surroundings and, through its zero border, their position, at any size. Its
        # rectified channels are evidence that is there or not, which a maximum over the slice can locate: without
        # them the auxiliary activation map found 0.58 of the object, with them 0.70 (Dice on ACDC, tags alone).
        self.local = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        # One norm over all tokens of a slice: a layer norm would make every token equally large, and the class
        # activation map of an empty corner as high as that of an object.
        self.norm = nn.GroupNorm(1, width, eps=1e-6)
        self.skip_strides = tuple(s for s in (2, 4, 8) if s < token_stride)
        self.skip_channels = tuple(STAGE_CHANNELS[STAGE_STRIDES.index(s)] for s in self.skip_strides)

    def forward(self, images: Tensor, need_affinity: bool = False) -> BackboneOutput:
        """Features of images (B, C, H, W) in [0, 1]; any size, padded inside to a multiple of 16 by the stages."""
        maps = self.stages(images)
        size = size_of(maps[STAGE_STRIDES.index(self.patch_size)])
        grid = sum(resized(lateral(maps[i]), size) for i, lateral in zip(self._taps, self.laterals, strict=True))
        aux, logits = self.local(grid), []
        tokens = aux.flatten(2).transpose(1, 2)  # (B, N, E)
        for index, block in enumerate(self.blocks):
            tokens, attention = block(tokens, need_affinity and index >= self.depth - 2)
            if attention is not None:
                logits.append(attention)
        skips = tuple(maps[STAGE_STRIDES.index(stride)] for stride in self.skip_strides)
        affinity = torch.cat(logits, 1) if logits else None
        return BackboneOutput(self.norm(self._grid(tokens, size)), aux, affinity, skips)

    @staticmethod
    def _grid(tokens: Tensor, size: Size) -> Tensor:
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)
