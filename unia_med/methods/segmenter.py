"""A backbone and a decoder as one segmentation network, and the builders that all methods share."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from unia_med.config.schema import HEADS, NetworkConfig, RunConfig
from unia_med.methods.base import Method, Prediction, Settings
from unia_med.nn.backbone import Backbone, BackboneOutput
from unia_med.nn.heads import AtrousPyramid, LargeFieldOfView
from unia_med.nn.unet import SkipDecoder
from unia_med.registry import BACKBONES, resolve
from unia_med.tensors import Size, resized, size_of

_CELL = 16  # pixels that the coarsest features cover
Decoder = SkipDecoder | LargeFieldOfView | AtrousPyramid


class PixelNetwork(nn.Module):
    """A backbone with a decoder: the one place where slices change their size on the way through a network.

    Args:
        network: Backbone settings; the subclass sets `decoder`.
        zoom: Factor by which slices are enlarged for the backbone, see `network_zoom`. A factor, not a size: a view of
            a slice at another scale is then seen at another scale, and no side is squeezed.
    """

    decoder: Decoder

    def __init__(self, network: NetworkConfig, zoom: float = 1.0) -> None:
        super().__init__()
        self.zoom = zoom
        self.backbone = build_backbone(network)
        self.pretrained = pretrained_part(network)

    def features(self, images: Tensor, need_affinity: bool = False) -> BackboneOutput:
        """Return features of images (B, C, H, W) in [0, 1], which are enlarged first where `input_size` says so."""
        found: BackboneOutput = self.backbone(resized(images, self.enlarged_size(size_of(images))), need_affinity)
        return found

    def enlarged_size(self, size: Size) -> Size:
        """Return the size at which the backbone sees slices of `size`: multiples of 16 where they are enlarged."""
        if self.zoom == 1:
            return size
        rows, columns = (max(1, round(side * self.zoom / _CELL)) * _CELL for side in size)
        return rows, columns

    def decode(self, tokens: Tensor, skips: tuple[Tensor, ...], size: Size) -> Tensor:
        """Logits (B, K, H, W) at `size` from token features (B, E, h, w) and skips, finest first."""
        if isinstance(self.decoder, SkipDecoder):
            return resized(self.decoder(tokens, skips, self.enlarged_size(size)), size)
        return resized(self.decoder(tokens), size)


class Segmenter(PixelNetwork):
    """Logits of every pixel: the backbone's features through the decoder that the configuration names.

    Args:
        network: Backbone and decoder settings.
        classes: K, with background.
        zoom: See `PixelNetwork`.
    """

    def __init__(self, network: NetworkConfig, classes: int, zoom: float = 1.0) -> None:
        super().__init__(network, zoom)
        self.decoder = build_decoder(network, self.backbone, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1]."""
        features = self.features(images)
        return self.decode(features.tokens, features.skips, size_of(images))


class SegmenterMethod(Method[Settings]):
    """A method whose `network` is a `PixelNetwork`: it spares its pretrained part, and predicts with its logits.

    Attributes:
        network: The network.
    """

    network: Any  # nn.Module would hide the type that each subclass declares

    def rate_multipliers(self) -> dict[str, float]:
        """Everything that is not pretrained learns `head_multiplier` times faster."""
        return {"": self.head_multiplier, f"network.backbone.{self.network.pretrained}": 1.0}

    def predict(self, images: Tensor) -> Prediction:
        """Softmax probabilities of the network, and their normalised entropy as uncertainty."""
        return softmax_prediction(self.network(images))


def network_zoom(config: RunConfig) -> float:
    """Return the factor by which slices are enlarged: `network.input_size` over the longer side of the grid."""
    size = config.network.input_size
    return 1.0 if size is None else size / max(config.data.grid.size)


def build_backbone(config: NetworkConfig) -> Backbone:
    """Return the backbone that the configuration names."""
    backbone = resolve(BACKBONES, config.backbone, "network.backbone")
    if config.backbone == "vit":
        return cast(Backbone, backbone(config.model, config.weights, config.token_stride, channels=config.channels))
    if config.backbone == "lite0":
        return cast(Backbone, backbone(config.weights, config.channels))
    form = (config.width, config.depth, HEADS, config.token_stride or 8)
    return cast(Backbone, backbone(*form, config.weights, channels=config.channels))


def build_decoder(config: NetworkConfig, backbone: Backbone, classes: int) -> Decoder:
    """Return the decoder that the configuration names, fitted to the backbone."""
    if config.decoder == "unet":
        return SkipDecoder(backbone.width, backbone.skip_channels, classes, config.decoder_widths)
    if config.decoder == "largefov":
        return LargeFieldOfView(backbone.width, classes)
    return AtrousPyramid(backbone.width, classes)


def pretrained_part(config: NetworkConfig) -> str:
    """Name prefix, within the backbone, of the parameters that pretrained weights fill."""
    return "" if config.backbone == "vit" else "stages."


def softmax_prediction(logits: Tensor) -> Prediction:
    """Softmax probabilities, and their entropy divided by log K as uncertainty.

    Args:
        logits: (B, K, H, W).
    """
    probabilities = logits.float().softmax(1)
    # entr(0) is 0, its limit; p * log(p) would be NaN there.
    entropy = torch.special.entr(probabilities).sum(1) / math.log(probabilities.shape[1])
    return Prediction(probabilities, entropy.clamp(0, 1))
