"""The network of UniA: backbone, uncertainty inference, classifiers, affinity head and decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unia_med.config.schema import NetworkConfig
from unia_med.config.unia import UniaConfig
from unia_med.nn.heads import AffinityHead, AtrousPyramid, LargeFieldOfView, TagClassifier
from unia_med.nn.uncertainty import UncertaintyInference, UncertaintyOutput
from unia_med.nn.unet import SkipDecoder
from unia_med.registry import BACKBONES, resolve


@dataclass(frozen=True)
class UniaOutput:
    """What one pass gives.

    Attributes:
        logits: (B, K, H, W) of the decoder, at image size.
        tag_logits, aux_tag_logits: (B, T).
        cam, aux_cam: (B, T, h, w) raw activation maps, detached.
        inferred: features Z, Gaussian parameters and uncertainty map.
        affinity: (B, N, N) in (0, 1), symmetric; None unless asked for.
    """

    logits: Tensor
    tag_logits: Tensor
    aux_tag_logits: Tensor
    cam: Tensor
    aux_cam: Tensor
    inferred: UncertaintyOutput
    affinity: Tensor | None


class UniaNetwork(nn.Module):
    """See `UniaOutput`.

    Args:
        network: Backbone and decoder settings.
        method: Form of the uncertainty network.
        classes: K, with background.
    """

    def __init__(self, network: NetworkConfig, method: UniaConfig, classes: int) -> None:
        super().__init__()
        self.input_size = None if network.input_size is None else (network.input_size, network.input_size)
        self.backbone = build_backbone(network)
        self.pretrained = "stages." if network.backbone == "hybrid_lite0" else ""
        width = self.backbone.width
        self.uncertainty = UncertaintyInference(
            width,
            inner=network.uncertainty_width,
            samples=method.samples,
            mask=method.mask,
            bounded=method.bounded,
            draw_samples=method.draw_samples,
            shared_head=method.shared_head,
            doubled=method.doubled_features,
        )
        if network.backbone == "hybrid_lite0":
            # As in its transformer blocks: what attention from scratch gathers must not drown a token's own place.
            with torch.no_grad():
                self.uncertainty.masked_attention.output.weight.mul_(0.01)
        self.classifier = TagClassifier(width, classes - 1)
        self.aux_classifier = TagClassifier(self.backbone.aux_width, classes - 1)
        self.affinity_head = AffinityHead(2 * self.backbone.heads)
        self.decoder = build_decoder(network, self.backbone, classes)

    def forward(self, images: Tensor, need_affinity: bool = False, need_distribution: bool = False) -> UniaOutput:
        """One pass over images (B, 1, H, W) in [0, 1]."""
        size = tuple(images.shape[-2:])
        features = self.backbone(self._enlarged(images), need_affinity)
        inferred = self.uncertainty(features.tokens, need_distribution)
        affinity = None if features.affinity_logits is None else self.affinity_head(features.affinity_logits)
        return UniaOutput(
            logits=self._decode(inferred.features, features.skips, size),
            tag_logits=self.classifier(inferred.features),
            aux_tag_logits=self.aux_classifier(features.aux_tokens),
            cam=self.classifier.maps(inferred.features),
            aux_cam=self.aux_classifier.maps(features.aux_tokens),
            inferred=inferred,
            affinity=affinity,
        )

    def activation_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw CAM and auxiliary CAM (B, T, h, w) alone: no affinity, no decoder [6, A7]."""
        features = self.backbone(self._enlarged(images))
        inferred = self.uncertainty(features.tokens, need_distribution=False)
        return self.classifier.maps(inferred.features), self.aux_classifier.maps(features.aux_tokens)

    def _enlarged(self, images: Tensor) -> Tensor:
        if self.input_size is None:
            return images
        return F.interpolate(images, size=self.input_size, mode="bilinear", align_corners=False)

    def _decode(self, features: Tensor, skips: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        if isinstance(self.decoder, SkipDecoder):
            logits = self.decoder(features, skips, self.input_size or size)
        else:
            logits = self.decoder(features)
        return logits if logits.shape[-2:] == torch.Size(size) else _resized(logits, size)


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def build_backbone(config: NetworkConfig) -> nn.Module:
    """The backbone that the configuration names."""
    backbone = resolve(BACKBONES, config.backbone, "network.backbone")
    if config.backbone == "vit":
        return backbone(config.model, config.weights)
    return backbone(config.width, config.depth, config.heads, config.token_stride, config.weights)


def build_decoder(config: NetworkConfig, backbone: nn.Module, classes: int) -> nn.Module:
    """The decoder that the configuration names, fitted to the backbone."""
    if config.decoder == "unet":
        return SkipDecoder(backbone.width, backbone.skip_channels, classes)
    form = LargeFieldOfView if config.decoder == "largefov" else AtrousPyramid
    return form(backbone.width, classes)
