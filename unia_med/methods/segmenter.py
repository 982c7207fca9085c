"""A backbone and a decoder as one segmentation network, and the builders that all methods share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unia_med.config.schema import NetworkConfig
from unia_med.methods.base import Method, Prediction
from unia_med.nn.backbone import BackboneOutput
from unia_med.nn.heads import AtrousPyramid, LargeFieldOfView
from unia_med.nn.unet import SkipDecoder
from unia_med.registry import BACKBONES, resolve


class Segmenter(nn.Module):
    """Logits of every pixel: the backbone's features through the decoder that the configuration names.

    Args:
        network: Backbone and decoder settings.
        classes: K, with background.
    """

    def __init__(self, network: NetworkConfig, classes: int) -> None:
        super().__init__()
        self.input_size = None if network.input_size is None else (network.input_size, network.input_size)
        self.backbone = build_backbone(network)
        self.decoder = build_decoder(network, self.backbone, classes)
        self.pretrained = pretrained_part(network)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1]."""
        features = self.features(images)
        return self.decode(features.tokens, features.skips, tuple(images.shape[-2:]))

    def features(self, images: Tensor, need_affinity: bool = False) -> BackboneOutput:
        """Compute features of images (B, C, H, W) in [0, 1], enlarged first where `input_size` says so."""
        if self.input_size is not None:
            images = F.interpolate(images, size=self.input_size, mode="bilinear", align_corners=False)
        return self.backbone(images, need_affinity)

    def decode(self, tokens: Tensor, skips: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W) at `size` from token features (B, E, h, w) and skips, finest first."""
        if isinstance(self.decoder, SkipDecoder):
            logits = self.decoder(tokens, skips, self.input_size or size)
        else:
            logits = self.decoder(tokens)
        if logits.shape[-2:] == torch.Size(size):
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class SegmenterMethod(Method):
    """A method whose `network` is a `Segmenter`: it predicts with it, and spares its pretrained part.

    Attributes:
        network: The network.
        head_multiplier: Factor on the learning rate of everything that is not pretrained.
    """

    network: Segmenter
    head_multiplier: float

    def rate_multipliers(self) -> dict[str, float]:
        """Everything that is not pretrained learns `head_multiplier` times faster."""
        return {"": self.head_multiplier, f"network.backbone.{self.network.pretrained}": 1.0}

    def predict(self, images: Tensor) -> Prediction:
        """Softmax probabilities of the network, and their normalised entropy as uncertainty."""
        return softmax_prediction(self.network(images))


def build_backbone(config: NetworkConfig) -> nn.Module:
    """Return the backbone that the configuration names."""
    backbone = resolve(BACKBONES, config.backbone, "network.backbone")
    if config.backbone == "vit":
        return backbone(config.model, config.weights, channels=config.channels)
    if config.backbone == "lite0":
        return backbone(config.weights, config.channels)
    return backbone(
        config.width, config.depth, config.heads, config.token_stride, config.weights, channels=config.channels
    )


def build_decoder(config: NetworkConfig, backbone: nn.Module, classes: int) -> nn.Module:
    """Return the decoder that the configuration names, fitted to the backbone."""
    if config.decoder == "unet":
        return SkipDecoder(backbone.width, backbone.skip_channels, classes, config.decoder_widths)
    form = LargeFieldOfView if config.decoder == "largefov" else AtrousPyramid
    return form(backbone.width, classes)


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
