"""A segmentation network that also shows its pixel features and, where asked for, class activation maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from unia_med.config.schema import NetworkConfig
from unia_med.methods.segmenter import Segmenter
from unia_med.nn.tag_map_head import TagMapHead
from unia_med.nn.unet import SkipDecoder
from unia_med.tensors import resized, size_of


@dataclass(frozen=True)
class EmbeddedOutput:
    """What one training pass gives.

    Attributes:
        logits: (B, K, H, W) at image size.
        embeddings: (B, E, h, w) pixel features, on the grid of the decoder's finest skip (stride 2 for `unet`).
        tag_logits: (B, T), None without a tag head.
        maps: (B, T, h', w') raw activation maps without gradient, None without a tag head.
    """

    logits: Tensor
    embeddings: Tensor
    tag_logits: Tensor | None = None
    maps: Tensor | None = None


class EmbeddingNetwork(Segmenter):
    """A `Segmenter` with a linear projection of the features that its last stage classifies.

    Args:
        network: Backbone and decoder settings.
        classes: K, with background.
        channels: E of the projection.
        tag_pooling: Pooling of the tag head on the backbone's intermediate features; None for no tag head.
        tag_dropout: Share of channels that the tag head drops in training.
        zoom: See `PixelNetwork`.
    """

    def __init__(
        self,
        network: NetworkConfig,
        classes: int,
        channels: int,
        tag_pooling: Literal["max", "mean"] | None = None,
        tag_dropout: float = 0.0,
        zoom: float = 1.0,
    ) -> None:
        super().__init__(network, classes, zoom)
        width = self.decoder.width if isinstance(self.decoder, SkipDecoder) else self.backbone.width
        self.projection = nn.Conv2d(width, channels, 1)
        self.tag_head = None
        if tag_pooling is not None:
            self.tag_head = TagMapHead(self.backbone.aux_width, classes - 1, tag_pooling, tag_dropout)

    def embed(self, images: Tensor) -> EmbeddedOutput:
        """See `EmbeddedOutput`; images (B, 1, H, W) in [0, 1]."""
        size = size_of(images)
        found = self.features(images)
        tag_logits, maps = (None, None) if self.tag_head is None else self.tag_head(found.aux_tokens)
        if isinstance(self.decoder, SkipDecoder):
            features = self.decoder.features(found.tokens, found.skips)
            logits = self.decoder.classify(features, self.enlarged_size(size))
        else:
            features, logits = found.tokens, self.decoder(found.tokens)
        return EmbeddedOutput(resized(logits, size), self.projection(features), tag_logits, maps)
