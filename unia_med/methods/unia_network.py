"""The network of UniA: backbone, uncertainty inference, classifiers, affinity head and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unia_med.config.schema import NetworkConfig
from unia_med.config.unia import UniaConfig
from unia_med.methods.segmenter import PixelNetwork, build_decoder
from unia_med.nn.heads import AffinityHead, TagClassifier
from unia_med.nn.uncertainty import UncertaintyInference, UncertaintyOutput
from unia_med.tensors import size_of


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


class SampledOutput(NamedTuple):
    """Probabilities (B, K, H, W) averaged over draws of the features, and what the draws were about."""

    probabilities: Tensor
    inferred: UncertaintyOutput


class UniaNetwork(PixelNetwork):
    """See `UniaOutput`.

    Args:
        network: Backbone and decoder settings.
        method: Form of the uncertainty network.
        classes: K, with background.
        zoom: See `PixelNetwork`.
    """

    def __init__(self, network: NetworkConfig, method: UniaConfig, classes: int, zoom: float = 1.0) -> None:
        super().__init__(network, zoom)
        width = self.backbone.width
        self.uncertainty = UncertaintyInference(
            width,
            inner=network.uncertainty_width,
            mask=method.mask,
            draw_samples=method.form.draw_samples,
            shared_head=method.form.shared_head,
            doubled=method.form.doubled_features,
            whole_cells=method.form.whole_cells,
            bounded=method.distribution != "heteroscedastic",
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
        features = self.features(images, need_affinity)
        inferred = self.uncertainty(features.tokens, need_distribution)
        affinity = None if features.affinity_logits is None else self.affinity_head(features.affinity_logits)
        return UniaOutput(
            logits=self.decode(inferred.features, features.skips, size_of(images)),
            tag_logits=self.classifier(inferred.features),
            aux_tag_logits=self.aux_classifier(features.aux_tokens),
            cam=self.classifier.maps(inferred.features),
            aux_cam=self.aux_classifier.maps(features.aux_tokens),
            inferred=inferred,
            affinity=affinity,
        )

    def forward_samples(self, images: Tensor, samples: int, generator: torch.Generator) -> SampledOutput:
        """Return the decoder on Z + sigma * noise, with the same noise for every image.

        The paper draws from the Gaussian for its distribution map only; the decoder there sees Z alone.

        Args:
            images: (B, 1, H, W) in [0, 1].
            samples: draws, at least 1.
            generator: on the CPU, so that the draws are the same on every device.
        """
        features = self.features(images)
        inferred = self.uncertainty(features.tokens, need_distribution=False)
        deviation = (inferred.log_variance / 2).exp()
        total = torch.zeros((), device=images.device)
        for _ in range(samples):
            noise = torch.randn(deviation.shape[1:], generator=generator).to(deviation)
            drawn = inferred.features + (deviation * noise).to(inferred.features.dtype)
            total = total + self.decode(drawn, features.skips, size_of(images)).float().softmax(1)
        return SampledOutput(total / samples, inferred)

    def activation_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw CAM and auxiliary CAM (B, T, h, w) alone: no affinity, no decoder [6, A7]."""
        features = self.features(images)
        inferred = self.uncertainty(features.tokens, need_distribution=False)
        return self.classifier.maps(inferred.features), self.aux_classifier.maps(features.aux_tokens)
