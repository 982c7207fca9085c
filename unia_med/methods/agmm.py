"""AGMM: a Gaussian mixture of pixel features and a segmentation network that teach each other on unlabelled pixels.

Wu et al., "Sparsely annotated semantic segmentation with adaptive Gaussian mixtures", CVPR 2023; "Modeling the label
distributions for weakly-supervised semantic segmentation", IEEE TPAMI 2025. Labelled pixels of a slice define a
Gaussian per class (several for the background). Numbers in brackets are sections of the specification; what the papers
leave open (the form of the online expectation-maximisation, of its loss and of the seeds) is ours. Prediction uses the
network alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.config.schema import RunConfig
from unia_med.errors import UserError
from unia_med.labels import IGNORE, TAG_ABSENT
from unia_med.localise.seeds import fill_missing, peak_normalised, seed_labels
from unia_med.localise.thresholds import two_valued
from unia_med.localise.token_grid import nearest_labels
from unia_med.losses.classification import tag_classification
from unia_med.losses.dense_energy import dense_energy
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
from unia_med.methods.base import Batch, weighted_sum
from unia_med.methods.embedding_network import EmbeddedOutput, EmbeddingNetwork
from unia_med.methods.segmenter import SegmenterMethod
from unia_med.methods.sparse_labels import given_labels, inside

_MIXTURE_TERMS = ("self_supervision", "mixture", "separation")


class Agmm(SegmenterMethod):
    """See the module; settings are `AgmmConfig`.

    Args:
        config: The whole run.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.settings = config.method
        self.iterations = config.training.iterations
        self.head_multiplier = config.training.head_multiplier
        self.classes = len(config.data.target_classes) + 1
        pooling = "max" if self.settings.weights.classification > 0 else None
        self.network = EmbeddingNetwork(config.network, self.classes, self.settings.channels, pooling)
        self.fit = MixtureFit(
            self.classes,
            self.settings.centres_per_class,
            self.settings.variance,
            self.settings.minimum_variance,
            self.settings.em_rounds,
            self.settings.position_weight,
            self.settings.borrow_centres,
        )

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted sum of section 6 and its unweighted parts; terms that are off are not computed.

        Raises:
            UserError: the batch has neither labels nor scores, and seeds are off.
        """
        if batch.labels is None and batch.scores is None and not self.settings.seeds.use:
            raise UserError(
                "method agmm has nothing to learn from: no weak labels, no prior and no seeds",
                where="data.labels",
                remedy="Add weak labels, name a prior in prior.names, or set method.seeds.use",
            )
        weights = self._active_weights(step)
        output = self.network.embed(batch.images)
        labels = self._labels(batch, output, step)
        mixture = self._mixture(batch, output, labels) if any(t in weights for t in _MIXTURE_TERMS) else None
        by_class = class_weights(labels, self.classes, self._balance(step))
        terms = {
            "segmentation": lambda: partial_cross_entropy(output.logits, labels, by_class),
            "self_supervision": lambda: self._self_supervision(batch, output, mixture),
            "mixture": lambda: self._mixture_loss(mixture, labels, by_class),
            "separation": lambda: separation(mixture.class_centres, mixture.labelled),
            "absent_classes": lambda: absent_classes(output.logits, batch.tags, batch.valid),
            "classification": lambda: tag_classification(output.tag_logits, batch.tags),
            "dense_energy": lambda: self._dense_energy(batch, output, labels),
        }
        return weighted_sum(terms, weights)

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Return the activation maps and seeds where the run uses them, the mixture's labels where it has Gaussians.

        A slice without labels and seeds has no Gaussian, and the mixture abstains there.
        """
        output = self.network.embed(batch.images)
        columns = {}
        if self.settings.seeds.use:
            maps = peak_normalised(output.maps, batch.tags)
            enlarged = F.interpolate(maps, size=batch.images.shape[-2:], mode="bilinear", align_corners=False)
            columns["CAM"] = two_valued(enlarged, batch.tags, self.settings.thresholds.background)
        labels = self._labels(batch, output, self.iterations)
        if self.settings.seeds.use or batch.labels is not None or batch.scores is not None:
            columns["labels"] = labels
            mixture = self._mixture(batch, output, labels)
            found = mixture.posterior(tuple(batch.images.shape[-2:])).argmax(1)
            columns["mixture"] = torch.where(mixture.present.any(1)[:, None, None], found, IGNORE)
        return {**columns, "prediction": output.logits.argmax(1)}

    def _active_weights(self, step: int) -> dict[str, float]:
        settings = self.settings
        weights = settings.weights.model_dump()
        weights["self_supervision"] *= self._self_share(step)
        if settings.mix_loss == "posterior":
            weights["separation"] = 0.0
        return {name: weight for name, weight in weights.items() if weight > 0}

    def _balance(self, step: int) -> float:
        settings = self.settings
        if settings.balance_until is None:
            return settings.balance
        return settings.balance * max(0.0, 1 - step / (settings.balance_until * self.iterations))

    def _self_share(self, step: int) -> float:
        """Weight of L_self in [0, 1]: 0 up to `self_start`, then a linear rise over `self_ramp`."""
        done = step - self.settings.self_start * self.iterations
        ramp = self.settings.self_ramp * self.iterations
        if done < 0:
            return 0.0
        return 1.0 if done >= ramp else done / ramp

    @torch.no_grad()
    def _labels(self, batch: Batch, output: EmbeddedOutput, step: int) -> Tensor:
        """Drawn labels, sure scores of a prior, and seeds for tagged classes of which nothing is labelled [8]."""
        thresholds, seeds = self.settings.thresholds, self.settings.seeds
        labels = given_labels(batch, thresholds.high, thresholds.low)
        if not seeds.use or step < seeds.start * self.iterations:
            return labels
        maps = peak_normalised(output.maps, batch.tags)
        cells = seed_labels(maps, batch.tags, seeds.high, seeds.runner_up, seeds.low, seeds.erosion_cells)
        return inside(fill_missing(labels, nearest_labels(cells, tuple(labels.shape[-2:])), self.classes), batch)

    def _mixture(self, batch: Batch, output: EmbeddedOutput, labels: Tensor) -> Mixture:
        features = normalise_features(output.embeddings, batch.valid)
        features = with_intensity(features, batch.images, self.settings.intensity_weight)
        return self.fit(features, labels, output.logits.float().softmax(1), batch.tags, batch.valid)

    def _self_supervision(self, batch: Batch, output: EmbeddedOutput, mixture: Mixture) -> Tensor:
        size = tuple(batch.images.shape[-2:])
        response = self.settings.self_target == "response"
        target = mixture.responses(size) if response else mixture.posterior(size)
        probabilities = output.logits.float().softmax(1)
        if self.settings.self_grad == "to_seg":
            target = target.detach()
        elif self.settings.self_grad == "to_mix":
            probabilities = probabilities.detach()
        return self_supervision(target, probabilities, mixture.present, batch.valid)

    def _mixture_loss(self, mixture: Mixture, labels: Tensor, by_class: Tensor) -> Tensor:
        size = tuple(labels.shape[-2:])
        if self.settings.mix_loss == "posterior":
            return negative_log_posterior(mixture.class_log_joint(size), labels, by_class)
        return discrimination(mixture.responses(size), labels, mixture.present, by_class)

    def _dense_energy(self, batch: Batch, output: EmbeddedOutput, labels: Tensor) -> Tensor:
        allowed = torch.cat((torch.ones_like(batch.tags[:, :1]), batch.tags != TAG_ABSENT), 1).bool()
        probabilities = output.logits.float().softmax(1)
        return dense_energy(probabilities, batch.images, labels, allowed, batch.valid, self.settings.dense_energy_grid)
