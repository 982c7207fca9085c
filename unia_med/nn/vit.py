"""Vision transformers of timm behind the backbone interface, on images of any number of channels.

Architecture and weights: timm (Wightman 2019) and the authors each model's card names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from unia_med.errors import UserError, nearest
from unia_med.nn.backbone import Backbone, BackboneOutput
from unia_med.nn.lite0 import filters_for_channels
from unia_med.nn.torchvision_compat import ensure_torchvision_operators
from unia_med.nn.weights import cached_weights

MODULES = ("vision_transformer", "deit")  # of timm, with the plain models


class TimmViT(Backbone):
    """Any plain vision transformer of timm as a backbone (UniA specification, section 2).

    Attributes `width`, `aux_width`, `heads`, `depth` and `patch_size` (pixels from token to token) are those of the
    backbone interface.

    Args:
        model: timm's name of the model.
        weights: `timm` takes its published weights from this machine's caches, never from the network; `none` leaves
            them random, anything else is a file.
        token_stride: pixels from one token to the next, at most the patch's side; smaller makes patches overlap and
            costs quadratically, but separates thin structures (B3). None for the patch's side.
        freeze_positions: keep the position embedding as loaded; without effect on random weights.
        channels: C of the images.
    """

    vit: Any  # timm's types say nothing about the parts of a model

    def __init__(
        self,
        model: str = "vit_small_patch16_224",
        weights: str | Path = "timm",
        token_stride: int | None = None,
        freeze_positions: bool = True,
        channels: int = 1,
    ) -> None:
        super().__init__()
        self.vit = load_vit(model, weights)
        config = self.vit.pretrained_cfg
        convolution = self.vit.patch_embed.proj
        folded = fold_channels(convolution, config.get("mean", (0.5,) * 3), config.get("std", (0.5,) * 3), channels)
        self.patch_size = _set_stride(folded, token_stride)
        self.vit.patch_embed.proj = folded
        if freeze_positions and weights != "none" and self.vit.pos_embed is not None:
            self.vit.pos_embed.requires_grad_(False)
        self.width = self.aux_width = self.vit.embed_dim
        self.depth, self.heads = len(self.vit.blocks), self.vit.blocks[-1].attn.num_heads

    def forward(self, images: torch.Tensor, need_affinity: bool = False) -> BackboneOutput:
        """Features of `images` (B, C, H, W) in [0, 1] of any size; attention logits only when asked for."""
        tokens, size = self._embed(images)
        auxiliary, logits = tokens, []
        for index, block in enumerate(self.vit.blocks):
            if index == self.depth - 2:
                auxiliary = tokens
            if need_affinity and index >= self.depth - 2:
                logits.append(attention_logits(block.attn, block.norm1(tokens)))
            tokens = block(tokens)
        tokens = self.vit.fc_norm(self.vit.norm(tokens))  # one of the two is an identity
        first = self.vit.num_prefix_tokens
        affinity = torch.cat(logits, 1)[:, :, first:, first:] if logits else None
        return BackboneOutput(self._grid(tokens, size), self._grid(auxiliary, size), affinity)

    def _embed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Size]:
        """(B, prefix + N, E) tokens with positions, and the grid (h, w)."""
        whole = tuple(max(1, round(side / self.patch_size)) * self.patch_size for side in images.shape[-2:])
        if whole != tuple(images.shape[-2:]):  # stretched by less than half a token, so the grid still spans it
            images = F.interpolate(images, whole, mode="bilinear", align_corners=False)
        patches = self.vit.patch_embed.proj(images)
        size = patches.shape[-2:]
        tokens = self.vit.patch_embed.norm(patches.permute(0, 2, 3, 1).contiguous())
        return self.vit.norm_pre(self.vit._pos_embed(tokens)), size

    def _grid(self, tokens: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """(B, E, h, w) patch tokens; class and register tokens are dropped."""
        return tokens[:, self.vit.num_prefix_tokens :].transpose(1, 2).unflatten(2, size)


def attention_logits(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(B, M, N, N) scaled query-key products before the softmax, row = query.

    Queries and keys are computed a second time outside the block, so that the block keeps its fused attention.

    Args:
        attention: timm's plain attention module.
        tokens: (B, N, E), its input.
    """
    rows = 2 * attention.num_heads * attention.head_dim  # timm 1.0.22 has no name for their product
    bias = None if attention.qkv.bias is None else attention.qkv.bias[:rows]
    both = F.linear(tokens, attention.qkv.weight[:rows], bias)
    queries, keys = both.unflatten(2, (2, attention.num_heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    return (queries * attention.scale) @ keys.transpose(-2, -1)


def fold_channels(
    convolution: nn.Conv2d, mean: tuple[float, ...], std: tuple[float, ...], channels: int = 1
) -> nn.Conv2d:
    """Return the same convolution for images in [0, 1], of which three standardised ones are no longer needed (B1).

    W'_c = W_c / std_c, b' = b - sum_c sum(W_c) mean_c / std_c: exact wherever no padding is read. One channel is seen
    with the sum of the three; any other number shares it out evenly, so that one image in all channels gives the same.

    Args:
        convolution: over three channels.
        mean: per channel, subtracted from the input the weights were trained on.
        std: per channel, the input was divided by it.
        channels: C of the images.
    """
    weight = convolution.weight.detach()
    scaled = weight / weight.new_tensor(std).view(1, -1, 1, 1)
    shift = (scaled.sum((2, 3)) * weight.new_tensor(mean)).sum(1)
    (rows, columns), (down, right) = convolution.kernel_size, convolution.stride
    folded = nn.Conv2d(channels, weight.shape[0], (rows, columns), (down, right))
    assert folded.bias is not None
    with torch.no_grad():
        folded.weight.copy_(filters_for_channels(scaled, channels))
        folded.bias.copy_(-shift if convolution.bias is None else convolution.bias - shift)
    return folded


def load_vit(model: str, weights: str | Path) -> Any:
    """Return a plain vision transformer of timm without its classifier; see `TimmViT` for the arguments."""
    ensure_torchvision_operators()
    import timm  # after the operators: importing it earlier fails where torchvision's are missing
    from timm.layers import Attention
    from timm.models.vision_transformer import Block, VisionTransformer

    _check(model, weights, [name for module in MODULES for name in timm.list_models(module=module)])
    network: Any = _created(timm.create_model, model, weights)
    plain = isinstance(network, VisionTransformer) and getattr(network.patch_embed.proj, "in_channels", 0) == 3
    if not plain or not all(isinstance(b, Block) and isinstance(b.attn, Attention) for b in network.blocks[-2:]):
        raise UserError(
            f"'{model}' is not a plain vision transformer", "network.model", "Choose one such as vit_small_patch16_224"
        )
    return network


def _check(model: str, weights: str | Path, known: list[str]) -> None:
    if model.split(".")[0] not in known:
        close = nearest(model, known) or "vit_small_patch16_224"
        raise UserError(f"timm has no plain vision transformer '{model}'", "network.model", f"Did you mean {close}?")
    if str(weights) not in ("none", "timm") and not Path(weights).is_file():
        raise UserError("no such weight file", weights, "Set network.weights to a file, 'timm' or 'none'")


def _created(create: Callable[..., nn.Module], model: str, weights: str | Path) -> nn.Module:
    settings: dict[str, Any] = {"pretrained": str(weights) != "none", "num_classes": 0}
    if str(weights) != "none":
        file = cached_weights(model) if str(weights) == "timm" else Path(weights)
        settings["pretrained_cfg_overlay"] = {"file": str(file), "custom_load": file.suffix == ".npz"}
    try:
        return create(model, dynamic_img_size=True, **settings)
    except Exception as error:  # timm and the hub raise a dozen unrelated types here
        raise UserError(
            f"the weights of '{model}' could not be loaded ({type(error).__name__}: {error})",
            "network.weights",
            "Check the file, or set it to 'none'",
        ) from error


def _set_stride(convolution: nn.Conv2d, stride: int | None) -> int:
    """Make patches overlap; the margin keeps a grid of exactly side / stride tokens. Returns the stride."""
    side = convolution.kernel_size[0]
    if stride is None or stride == side:
        return side
    if stride > side or stride < 1 or (side - stride) % 2:
        raise UserError(
            f"a stride of {stride} px does not fit patches of {side} px",
            "network.token_stride",
            f"Choose {side} or {max(1, side // 2)}",
        )
    convolution.stride, convolution.padding = (stride, stride), ((side - stride) // 2,) * 2
    return stride
