"""A backbone and a decoder as one segmentation network, and the builders that all methods share."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from unia_med.config.schema import NetworkConfig
from unia_med.methods.base import Method, Prediction, Settings
from unia_med.nn.backbone import Backbone, BackboneOutput
from unia_med.nn.heads import AtrousPyramid, LargeFieldOfView
from unia_med.nn.unet import SkipDecoder
from unia_med.registry import BACKBONES, resolve
from unia_med.tensors import Size, resized, size_of

Decoder = SkipDecoder | LargeFieldOfView | AtrousPyramid


class PixelNetwork(nn.Module):
    """A backbone with a decoder: the one place where slices change their size on the way through a network.

    Args:
        network: Backbone settings; the subclass sets `decoder`.
    """

    decoder: Decoder

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        self.input_size: Size | None = None
        if network.input_size is not None:
            self.input_size = network.input_size, network.input_size
        self.backbone = build_backbone(network)
        self.pretrained = pretrained_part(network)

    def features(self, images: Tensor, need_affinity: bool = False) -> BackboneOutput:
        """Return features of images (B, C, H, W) in [0, 1], which are enlarged first where `input_size` says so."""
        found: BackboneOutput = self.backbone(resized(images, self.input_size or size_of(images)), need_affinity)
        return found

    def decode(self, tokens: Tensor, skips: tuple[Tensor, ...], size: Size) -> Tensor:
        """Logits (B, K, H, W) at `size` from token features (B, E, h, w) and skips, finest first."""
        if isinstance(self.decoder, SkipDecoder):
            return resized(self.decoder(tokens, skips, self.input_size or size), size)
        return resized(self.decoder(tokens), size)


class Segmenter(PixelNetwork):
    """Logits of every pixel: the backbone's features through the decoder that the configuration names.

    Args:
        network: Backbone and decoder settings.
        classes: K, with background.
    """

    def __init__(self, network: NetworkConfig, classes: int) -> None:
        super().__init__(network)
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


def build_backbone(config: NetworkConfig) -> Backbone:
    """Return the backbone that the configuration names."""
    backbone = resolve(BACKBONES, config.backbone, "network.backbone")
    if config.backbone == "vit":
        return cast(Backbone, backbone(config.model, config.weights, channels=config.channels))
    if config.backbone == "lite0":
        return cast(Backbone, backbone(config.weights, config.channels))
    form = (config.width, config.depth, config.heads, config.token_stride)
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
