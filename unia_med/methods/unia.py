"""UniA: segmentation from slice tags, with uncertainty inference and affinity diversification.

Yang, Meng, Fu, Wang, Song, IEEE TMM 2025 (arXiv 2404.08195). One network is trained in one stage: activation maps of
its classifier, refined by pixels (PAR) and by attention (affinity), are the labels of its decoder. Numbers in brackets
are sections of the specification; where an anatomical prior is switched on, its scores take the place of the
activation maps (remedy 2 of section B5), and everything after them is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.config.schema import RunConfig
from unia_med.labels import IGNORE, TAG_ABSENT
from unia_med.localise.affinity_refine import (
    affinity_map,
    normalise_affinity,
    pixel_and_affinity_labels,
    radius_mask,
)
from unia_med.localise.cam import mean_peak, multi_scale_maps, normalise_maps, normalise_together
from unia_med.localise.complement import complement
from unia_med.localise.pixel_refine import pixel_kernel, refine_labels
from unia_med.localise.thresholds import three_valued, token_labels, two_valued
from unia_med.localise.token_grid import foreground_share, majority_labels
from unia_med.losses import affinity as affinity_losses
from unia_med.losses.classification import tag_classification
from unia_med.losses.dense_energy import dense_energy
from unia_med.losses.distribution import DistributionLoss
from unia_med.losses.segmentation import balanced_cross_entropy, partial_cross_entropy, soft_dice
from unia_med.losses.token_contrast import token_contrast
from unia_med.methods.base import Batch, Method, Prediction, weighted_sum
from unia_med.methods.unia_network import UniaNetwork, UniaOutput

_PIXEL_TERMS = ("segmentation", "dense_energy")
# Scores of a prior or a round say yes, no or doubtful (0.5), whatever the thresholds of activation maps are;
# augmentation blends them at borders, which the narrow band ignores.
_SCORE_THRESHOLDS = (0.55, 0.45)
_SAMPLING_SEED = 0
_PEAK_RATE = 0.05  # of the running mean: about the last 20 steps


@dataclass(frozen=True)
class PseudoLabels:
    """The label maps of one step [7, 8, 10, 11]; what no active term needs is None.

    Attributes:
        auxiliary: P_aux (B, h, w) on the token grid.
        cam: P1 (B, H, W).
        pixel: P2 (B, H, W).
        affinity: P3 (B, H, W).
        fused: F (B, H, W).
    """

    auxiliary: Tensor
    cam: Tensor
    pixel: Tensor | None = None
    affinity: Tensor | None = None
    fused: Tensor | None = None


class UniA(Method):
    """The method UniA on any backbone of the registry.

    Args:
        config: The whole run's configuration; `method`, `network`, `data.target_classes` and `training.iterations`
            (the scale of all gates) are read.
    """

    samples_features = True

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.settings = config.method
        self.iterations = config.training.iterations
        self.head_multiplier = config.training.head_multiplier
        self.classes = len(config.data.target_classes) + 1
        self.network = UniaNetwork(config.network, config.method, self.classes)
        self.distribution_loss = DistributionLoss(config.method.distribution)
        if self.settings.cam_normalisation == "running":
            self.register_buffer("cam_peaks", torch.zeros(2))  # of the activation maps and the auxiliary ones

    def rate_multipliers(self) -> dict[str, float]:
        """Everything that is not pretrained learns `head_multiplier` times faster [17]."""
        return {"": self.head_multiplier, f"network.backbone.{self.network.pretrained}": 1.0}

    def predict(self, images: Tensor) -> Prediction:
        """Probabilities of the decoder, and the network's own uncertainty map U [3.8] at image size."""
        output = self.network(images)
        uncertainty = self._at_image_size(output.inferred.uncertainty_map, images)
        return Prediction(output.logits.float().softmax(1), uncertainty)

    def predict_samples(self, images: Tensor, samples: int) -> Prediction:
        """Return the decoder on features moved by draws from each token's Gaussian about its mean; see `Method`."""
        generator = torch.Generator().manual_seed(_SAMPLING_SEED)
        output = self.network.forward_samples(images, samples, generator)
        return Prediction(output.probabilities, self._at_image_size(output.uncertainty_map, images))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted sum of section 16 and its unweighted parts; terms that are off are not computed."""
        weights = self._active_weights(step)
        fused_labels = self._reached("final_labels", step)
        need_labels = fused_labels or any(term in weights for term in _PIXEL_TERMS)
        need_affinity = "affinity" in weights or (need_labels and self.settings.label_source == "F")
        output = self.network(batch.images, need_affinity, "distribution" in weights)
        self._follow_peaks(batch, output)
        labels = self._pseudo_labels(batch, output, step, need_labels)
        terms = {
            "classification": lambda: tag_classification(output.tag_logits, batch.tags),
            "auxiliary": lambda: tag_classification(output.aux_tag_logits, batch.tags),
            "distribution": lambda: self._distribution(output, labels, fused_labels),
            "affinity": lambda: self._affinity(output, labels, fused_labels),
            "token_contrast": lambda: self._token_contrast(output, labels),
            "segmentation": lambda: self._segmentation(output, labels, fused_labels),
            "dense_energy": lambda: self._dense_energy(batch, output, labels, fused_labels),
        }
        return weighted_sum(terms, weights)

    def pseudo_probabilities(self, images: Tensor, tags: Tensor, step: int) -> Tensor:
        """Those of the decoder, or of the seed activation maps as long as the decoder has not begun to learn.

        The odds of a pixel's strongest class against background are its map over the background threshold; other
        classes get nothing there, since doubt between classes is no doubt that something is there.
        """
        gate = self.settings.gates.segmentation
        if self.settings.weights.segmentation > 0 and gate < 1 and step > gate * self.iterations:
            return self.predict(images).probabilities
        batch = Batch(images, tags)
        maps, _ = self._activation_maps(batch, self.network(images))
        maps = maps * (tags != TAG_ABSENT)[:, :, None, None]
        winner = maps * (maps == maps.amax(1, keepdim=True))
        background = torch.full_like(maps[:, :1], max(self.settings.thresholds.background, 1e-3))
        return F.normalize(torch.cat((background, winner), 1), p=1, dim=1)

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Return the columns of section 20; the first four use the slices' tags, the last does not."""
        output = self.network(batch.images, need_affinity=True)
        cam, auxiliary = self._activation_maps(batch, output)
        size = tuple(batch.images.shape[-2:])
        background = self.settings.thresholds.background
        matrix = self._affinity_matrix(output)
        enlarged = F.interpolate(auxiliary, size=size, mode="bilinear", align_corners=False)
        labels = self._pseudo_labels(batch, output, self.iterations, need_labels=True)
        return {
            "CAM": two_valued(cam, batch.tags, background),
            "aux CAM": two_valued(enlarged, batch.tags, background),
            "affinity": affinity_map(cam, batch.tags, matrix, self._grid(output), background),
            "fused": self._decoder_labels(labels, final=True),
            "prediction": output.logits.argmax(1),
        }

    def _active_weights(self, step: int) -> dict[str, float]:
        gates = {"dense_energy": "segmentation"}
        weights = self.settings.weights.model_dump()
        gated = {"token_contrast", "affinity", *_PIXEL_TERMS}
        return {
            name: weight
            for name, weight in weights.items()
            if weight > 0 and (name not in gated or self._reached(gates.get(name, name), step))
        }

    def _reached(self, gate: str, step: int) -> bool:
        fraction = getattr(self.settings.gates, gate)
        return fraction < 1 and step >= fraction * self.iterations

    @staticmethod
    def _at_image_size(uncertainty: Tensor, images: Tensor) -> Tensor:
        size = images.shape[-2:]
        return F.interpolate(uncertainty[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].float()

    @staticmethod
    def _grid(output: UniaOutput) -> tuple[int, int]:
        return tuple(output.inferred.features.shape[-2:])

    def _affinity_matrix(self, output: UniaOutput) -> Tensor:
        near = radius_mask(*self._grid(output), self.settings.radius, output.affinity.device)
        settings = self.settings
        return normalise_affinity(
            output.affinity, near, settings.affinity_norm, settings.affinity_power, settings.affinity_steps
        )

    def _activation_maps(self, batch: Batch, output: UniaOutput) -> tuple[Tensor, Tensor]:
        """Normalised seed CAM and auxiliary CAM (B, T, H, W); the step's own pass serves as scale 1 [22.1]."""
        cam, auxiliary = multi_scale_maps(
            batch.images,
            self.network.activation_maps,
            self.settings.scales,
            self.settings.flip,
            unscaled=(output.cam, output.aux_cam),
        )
        from_auxiliary = self.settings.cam_source == "auxiliary"
        seed = auxiliary if from_auxiliary else cam
        if self.settings.cam_normalisation == "class":
            floor = self.settings.cam_minimum_range
            return normalise_maps(seed, floor), normalise_maps(auxiliary, floor)
        peaks = (None, None)
        if self.settings.cam_normalisation == "running":  # maps are sums over scales
            of_cam, of_auxiliary = self.cam_peaks * len(self.settings.scales)
            peaks = (of_auxiliary if from_auxiliary else of_cam, of_auxiliary)
        return normalise_together(seed, batch.tags, peaks[0]), normalise_together(auxiliary, batch.tags, peaks[1])

    @torch.no_grad()
    def _follow_peaks(self, batch: Batch, output: UniaOutput) -> None:
        if self.settings.cam_normalisation != "running" or not self.training:
            return
        peaks = torch.stack([mean_peak(maps, batch.tags) for maps in (output.cam, output.aux_cam)])
        followed = torch.where(self.cam_peaks > 0, self.cam_peaks.lerp(peaks, _PEAK_RATE), peaks)
        self.cam_peaks.copy_(torch.where(peaks > 0, followed, self.cam_peaks))

    @torch.no_grad()
    def _pseudo_labels(self, batch: Batch, output: UniaOutput, step: int, need_labels: bool) -> PseudoLabels:
        high, low = self.settings.thresholds.high, self.settings.thresholds.low
        if batch.scores is not None:
            cam = auxiliary = batch.scores[:, 1:]
            high, low = _SCORE_THRESHOLDS
        else:
            cam, auxiliary = self._activation_maps(batch, output)
        on_tokens = token_labels(auxiliary, batch.tags, self._grid(output), high, low)
        first = self._overridden(three_valued(cam, batch.tags, high, low), batch)
        if not need_labels or self.settings.label_source == "P1":
            return PseudoLabels(on_tokens, first)
        kernel = pixel_kernel(batch.images, self.settings.par.dilations)
        grid, rounds = self._grid(output), self.settings.par.iterations
        if output.affinity is None:
            second = self._overridden(refine_labels(kernel, cam, batch.tags, high, low, rounds), batch)
            return PseudoLabels(on_tokens, first, second)
        matrix = self._affinity_matrix(output)
        second, third = (
            self._overridden(labels, batch)
            for labels in pixel_and_affinity_labels(kernel, cam, batch.tags, matrix, grid, high, low, rounds)
        )
        trust, agree = self._reached("trust_cam", step), self._reached("agreement", step)
        return PseudoLabels(on_tokens, first, second, third, complement(first, second, third, trust, agree))

    @staticmethod
    def _overridden(labels: Tensor, batch: Batch) -> Tensor:
        """Annotated pixels keep their annotation (B5.6); pixels from outside the source image say nothing."""
        if batch.labels is not None:
            labels = torch.where(batch.labels == IGNORE, labels, batch.labels)
        return labels if batch.valid is None else torch.where(batch.valid.bool().squeeze(1), labels, IGNORE)

    def _decoder_labels(self, labels: PseudoLabels, final: bool) -> Tensor:
        if labels.pixel is None:
            return labels.cam
        return labels.fused if final and labels.fused is not None else labels.pixel

    def _token_targets(self, labels: PseudoLabels, grid: tuple[int, int], final: bool) -> Tensor:
        if not final:
            return labels.auxiliary
        return majority_labels(self._decoder_labels(labels, True), grid, self.classes, self.settings.token_purity)

    def _distribution(self, output: UniaOutput, labels: PseudoLabels, final: bool) -> Tensor:
        grid, inferred = self._grid(output), output.inferred
        target = foreground_share(self._decoder_labels(labels, True) if final else labels.auxiliary, grid)
        return self.distribution_loss(inferred.distribution_map, inferred.mean, inferred.log_variance, target)

    def _affinity(self, output: UniaOutput, labels: PseudoLabels, final: bool) -> Tensor:
        grid = self._grid(output)
        near = radius_mask(*grid, self.settings.radius, output.affinity.device)
        pairs = affinity_losses.pair_labels(self._token_targets(labels, grid, final), near)
        form = getattr(affinity_losses, self.settings.affinity_loss)
        return form(output.affinity, *pairs, self.settings.affinity_temperature)

    def _token_contrast(self, output: UniaOutput, labels: PseudoLabels) -> Tensor:
        return token_contrast(output.inferred.features, *affinity_losses.pair_labels(labels.auxiliary))

    def _segmentation(self, output: UniaOutput, labels: PseudoLabels, final: bool) -> Tensor:
        target = self._decoder_labels(labels, final)
        form = balanced_cross_entropy if self.settings.segmentation_loss == "balanced" else partial_cross_entropy
        loss = form(output.logits, target)
        return loss + soft_dice(output.logits, target) if self.settings.segmentation_dice else loss

    def _dense_energy(self, batch: Batch, output: UniaOutput, labels: PseudoLabels, final: bool) -> Tensor:
        allowed = torch.cat((torch.ones_like(batch.tags[:, :1]), batch.tags != TAG_ABSENT), 1).bool()
        return dense_energy(
            output.logits.float().softmax(1),
            batch.images,
            self._decoder_labels(labels, final),
            allowed,
            batch.valid,
            self.settings.dense_energy_grid,
        )
