"""AGMM: a Gaussian mixture of pixel features and a segmentation network that teach each other on unlabelled pixels.

Wu et al., "Sparsely annotated semantic segmentation with adaptive Gaussian mixtures", CVPR 2023; "Modeling the label
distributions for weakly-supervised semantic segmentation", IEEE TPAMI 2025. Labelled pixels of a slice define a
Gaussian per class (several for the background). Numbers in brackets are sections of the specification. The papers do
not specify the form of the online expectation-maximisation, of its loss and of the seeds; the forms used here were
designed for this package. Prediction uses the network alone.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor

from unia_med.config.agmm import AgmmConfig
from unia_med.config.schema import RunConfig
from unia_med.labels import IGNORE, TAG_PRESENT
from unia_med.localise.normalise import normalise_maps
from unia_med.localise.seeds import fill_missing, seed_labels
from unia_med.localise.thresholds import two_valued
from unia_med.localise.token_grid import nearest_labels
from unia_med.losses.classification import tag_classification
from unia_med.losses.gaussian_mixture import Mixture, MixtureFit
from unia_med.losses.mixture_geometry import normalise_features, with_intensity
from unia_med.losses.mixture_supervision import (
    absent_classes,
    class_weights,
    discrimination,
    negative_log_posterior,
    self_supervision,
    separation,
)
from unia_med.losses.segmentation import partial_cross_entropy
from unia_med.methods.base import Batch, needed_part, weighted_sum
from unia_med.methods.embedding_network import EmbeddedOutput, EmbeddingNetwork
from unia_med.methods.given_labels import CAM_BACKGROUND, SCORE_THRESHOLDS, given_labels, inside, refuse_unlabelled
from unia_med.methods.segmenter import SegmenterMethod, network_zoom
from unia_med.tensors import resized, size_of

_CHANNELS = {"default": 64, "released": 256}  # of the features in which the mixture lives, by preset [11]


class Agmm(SegmenterMethod[AgmmConfig]):
    """See the module; settings are `AgmmConfig`.

    Args:
        config: The whole run.
    """

    network: EmbeddingNetwork

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        pooling: Literal["max"] | None = "max" if self.settings.weights.classification > 0 else None
        channels = _CHANNELS[self.settings.preset]
        self.network = EmbeddingNetwork(config.network, self.classes, channels, pooling, zoom=network_zoom(config))
        self.fit = MixtureFit(
            self.classes,
            self.settings.centres_per_class,
            self.settings.variance,
            rounds=self.settings.em_rounds,
            position=self.settings.position_weight,
        )

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted sum of section 6 and its unweighted parts; terms that are off are not computed.

        Raises:
            UserError: the batch has neither labels nor scores, and seeds are off.
        """
        if not self.settings.seeds.use:
            refuse_unlabelled(batch, "agmm", "method.seeds.use")
        weights = self._weights(step)
        output = self.network.embed(batch.images)
        labels = self._labels(batch, output, step)
        mixture = functools.cache(lambda: self._mixture(batch, output, labels))  # for the terms that need it
        by_class = class_weights(labels, self.classes, self.settings.balance)
        terms = {
            "segmentation": lambda: partial_cross_entropy(output.logits, labels, by_class),
            "self_supervision": lambda: self._self_supervision(batch, output, mixture()),
            "mixture": lambda: self._mixture_loss(mixture(), labels, by_class),
            "separation": lambda: separation(mixture().class_centres, mixture().labelled),
            "absent_classes": lambda: absent_classes(output.logits, batch.tags, batch.valid),
            "classification": lambda: tag_classification(needed_part(output.tag_logits), batch.tags),
        }
        return weighted_sum(terms, weights)

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Return the activation maps and seeds where the run uses them, the mixture's labels where it has Gaussians.

        A slice without labels and seeds has no Gaussian, and the mixture abstains there.
        """
        output = self.network.embed(batch.images)
        columns: dict[str, Tensor] = {}
        if self.settings.seeds.use:
            maps = resized(self._maps(batch, output), size_of(batch.images))
            columns["CAM"] = two_valued(maps, batch.tags, CAM_BACKGROUND)
        labels = self._labels(batch, output, self.iterations)
        if self.settings.seeds.use or batch.labels is not None or batch.scores is not None:
            columns["labels"] = labels
            mixture = self._mixture(batch, output, labels)
            found = mixture.posterior(size_of(batch.images)).argmax(1)
            columns["mixture"] = torch.where(mixture.present.any(1)[:, None, None], found, IGNORE)
        return {**columns, "prediction": output.logits.argmax(1)}

    def _weights(self, step: int) -> dict[str, float]:
        settings = self.settings
        weights = settings.weights.model_dump()
        weights["self_supervision"] *= self.ramp(0.0, settings.self_ramp, step)
        if settings.mix_loss == "posterior":
            weights["separation"] = 0.0
        return weights

    @staticmethod
    def _maps(batch: Batch, output: EmbeddedOutput) -> Tensor:
        return normalise_maps(needed_part(output.maps), batch.tags == TAG_PRESENT)

    @torch.no_grad()
    def _labels(self, batch: Batch, output: EmbeddedOutput, step: int) -> Tensor:
        """Drawn labels, sure scores of a prior, and seeds for tagged classes of which nothing is labelled [8]."""
        seeds = self.settings.seeds
        labels = given_labels(batch, *SCORE_THRESHOLDS)
        if not seeds.use or step < seeds.start * self.iterations:
            return labels
        cells = seed_labels(self._maps(batch, output), batch.tags)
        return inside(fill_missing(labels, nearest_labels(cells, size_of(labels)), self.classes), batch)

    def _mixture(self, batch: Batch, output: EmbeddedOutput, labels: Tensor) -> Mixture:
        features = normalise_features(output.embeddings, batch.valid)
        features = with_intensity(features, batch.images, self.settings.intensity_weight)
        return self.fit(features, labels, output.logits.float().softmax(1), batch.tags, batch.valid)

    def _self_supervision(self, batch: Batch, output: EmbeddedOutput, mixture: Mixture) -> Tensor:
        size = size_of(batch.images)
        response = self.settings.self_target == "response"
        target = mixture.responses(size) if response else mixture.posterior(size)
        probabilities = output.logits.float().softmax(1)
        return self_supervision(target, probabilities, mixture.present, batch.valid)

    def _mixture_loss(self, mixture: Mixture, labels: Tensor, by_class: Tensor) -> Tensor:
        size = size_of(labels)
        if self.settings.mix_loss == "posterior":
            return negative_log_posterior(mixture.class_log_joint(size), labels, by_class)
        return discrimination(mixture.responses(size), labels, mixture.present, by_class)
