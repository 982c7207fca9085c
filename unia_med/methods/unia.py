"""UniA: segmentation from slice tags, with uncertainty inference and affinity diversification.

Yang, Meng, Fu, Wang, Song, IEEE TMM 2025 (arXiv 2404.08195). One network is trained in one stage: activation maps of
its classifier, refined by pixels (PAR) and by attention (affinity), are the labels of its decoder. Numbers in brackets
are sections of the specification; where an anatomical prior is switched on, its scores take the place of the
activation maps (remedy 2 of section B5), and everything after them is the same.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.config.schema import RunConfig
from unia_med.config.unia import UniaConfig
from unia_med.labels import TAG_ABSENT
from unia_med.localise.affinity_refine import affinity_map, radius_mask
from unia_med.localise.cam import multi_scale_maps
from unia_med.localise.normalise import mean_peak, normalise_maps
from unia_med.localise.thresholds import allowed_classes, possible_maps, possible_tags, two_valued
from unia_med.localise.token_grid import foreground_share, sampled_foreground
from unia_med.losses.affinity import AFFINITY_LOSSES, pair_labels
from unia_med.losses.classification import tag_classification
from unia_med.losses.dense_energy import dense_energy
from unia_med.losses.distribution import DistributionLoss, token_error
from unia_med.losses.segmentation import balanced_cross_entropy, partial_cross_entropy, soft_dice
from unia_med.losses.token_contrast import token_contrast
from unia_med.methods.base import Batch, Prediction, needed_part, weighted_sum
from unia_med.methods.label_plan import LabelPlan, Source, label_plan
from unia_med.methods.pseudo_labels import PseudoLabels
from unia_med.methods.segmenter import SegmenterMethod, network_zoom
from unia_med.methods.silence import SilenceWatch
from unia_med.methods.unia_network import UniaNetwork, UniaOutput
from unia_med.nn.statistics import unrecorded_statistics
from unia_med.nn.uncertainty import UncertaintyOutput, published_uncertainty_map
from unia_med.tensors import Size, resized, size_of

_SAMPLING_SEED = 0
_PEAK_RATE = 0.05  # of the running mean: about the last 20 steps


class UniA(SegmenterMethod[UniaConfig]):
    """The method UniA on any backbone of the registry.

    Args:
        config: The whole run's configuration; `method`, `network`, `data.target_classes` and `training.iterations`
            (the scale of all gates) are read.
    """

    samples_features = True
    network: UniaNetwork
    cam_peaks: Tensor

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.labels, self.silence = PseudoLabels(self.settings, self.classes), SilenceWatch()
        self.network = UniaNetwork(config.network, self.settings, self.classes, network_zoom(config))
        self.distribution_loss = DistributionLoss(self.settings.distribution)
        if self.settings.cam_normalisation == "running":
            self.register_buffer("cam_peaks", torch.zeros(2))  # of the activation maps and the auxiliary ones

    def predict(self, images: Tensor) -> Prediction:
        """Probabilities of the decoder, and the network's own uncertainty map U [3.8] at image size."""
        output = self.network(images)
        return Prediction(output.logits.float().softmax(1), self._uncertainty(output.inferred, size_of(images)))

    def predict_samples(self, images: Tensor, samples: int) -> Prediction:
        """Return the decoder on features moved by draws from each token's Gaussian about its mean; see `Method`."""
        generator = torch.Generator().manual_seed(_SAMPLING_SEED)
        output = self.network.forward_samples(images, samples, generator)
        return Prediction(output.probabilities, self._uncertainty(output.inferred, size_of(images)))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted sum of section 16 and its unweighted parts; terms that are off are not computed."""
        plan = label_plan(self.settings, step, self.iterations)
        output = self.network(batch.images, plan.needs_affinity, "distribution" in plan.weights)
        self._follow_peaks(batch, output)
        labels = self._pseudo_labels(batch, output, plan)
        self.silence.record({source: labels[source] for source in plan.needed})
        terms = {
            "classification": lambda: tag_classification(output.tag_logits, batch.tags),
            "auxiliary": lambda: tag_classification(output.aux_tag_logits, batch.tags),
            "distribution": lambda: self._distribution(output, labels, plan),
            "affinity": lambda: self._affinity(output, labels[plan.affinity]),
            "token_contrast": lambda: self._token_contrast(output, labels[plan.contrast]),
            "segmentation": lambda: self._segmentation(output, labels[plan.decoder]),
            "dense_energy": lambda: self._dense_energy(batch, output, labels[plan.decoder]),
        }
        return weighted_sum(terms, plan.weights)

    def pseudo_probabilities(self, images: Tensor, tags: Tensor, step: int) -> Tensor:
        """Return the decoder's probabilities, or those of the seed activation maps before the decoder learns.

        The odds of a pixel's strongest class against background are its map over the background threshold; other
        classes get nothing there, since doubt between classes is no doubt that something is there.
        """
        gate = self.settings.gates.segmentation
        if self.settings.weights.segmentation > 0 and gate < 1 and step > gate * self.iterations:
            return self.predict(images).probabilities
        batch = Batch(images, tags)
        maps = possible_maps(self._activation_maps(batch, self.network(images))[0], tags)
        winner = maps * (maps == maps.amax(1, keepdim=True))
        background = torch.full_like(maps[:, :1], max(self.settings.thresholds.background, 1e-3))
        return F.normalize(torch.cat((background, winner), 1), p=1, dim=1)

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Return the columns of section 20; all but the last use the slices' tags.

        Where the batch has scores of a prior or a round, `labels` are what these say, and the affinity works on them,
        as in training; the activation maps are the network's own.
        """
        self.silence.report()
        output, size = self.network(batch.images, need_affinity=True), size_of(batch.images)
        cam, auxiliary = self._activation_maps(batch, output)
        background = self.settings.thresholds.background
        plan = label_plan(self.settings, self.iterations, self.iterations)
        made = self._pseudo_labels(batch, output, plan, frozenset((plan.decoder,)))
        scored, tags = cam, batch.tags
        columns = {"CAM": two_valued(cam, tags, background), "aux CAM": two_valued(auxiliary, tags, background)}
        if batch.scores is not None:
            scored, tags, columns["labels"] = batch.scores[:, 1:], possible_tags(tags), made["P1"]
        matrix = self.labels.affinity_matrix(needed_part(output.affinity), self._grid(output))
        columns["affinity"] = affinity_map(resized(scored, size), tags, matrix, self._grid(output), background)
        return {**columns, "fused": made[plan.decoder], "prediction": output.logits.argmax(1)}

    def _uncertainty(self, inferred: UncertaintyOutput, size: Size) -> Tensor:
        if self.settings.form.relative_uncertainty:
            return published_uncertainty_map(inferred.log_variance, size)
        return resized(inferred.uncertainty_map[:, None], size)[:, 0].float()

    @staticmethod
    def _grid(output: UniaOutput) -> Size:
        return size_of(output.inferred.features)

    def _activation_maps(self, batch: Batch, output: UniaOutput) -> tuple[Tensor, Tensor]:
        """Normalised seed CAM and auxiliary CAM (B, T, H, W); the step's own pass serves as scale 1 [22.1]."""
        known, scales, flip = (output.cam, output.aux_cam), self.settings.scales, self.settings.flip
        with unrecorded_statistics(self.network):
            cam, auxiliary = multi_scale_maps(batch.images, self.network.activation_maps, scales, flip, unscaled=known)
        peaks = self.cam_peaks * len(self.settings.scales) if self.settings.cam_normalisation == "running" else None
        cam, auxiliary = (
            self._normalised(maps, batch.tags, None if peaks is None else peaks[index])
            for index, maps in enumerate((cam, auxiliary))
        )
        return (auxiliary if self.settings.cam_source == "auxiliary" else cam), auxiliary

    def _normalised(self, maps: Tensor, tags: Tensor, peak: Tensor | None) -> Tensor:
        if self.settings.cam_normalisation == "class":
            return normalise_maps(maps, from_minimum=True)
        return normalise_maps(maps, tags != TAG_ABSENT, "slice", peak=peak)  # maps, and peaks, are sums over scales

    @torch.no_grad()
    def _follow_peaks(self, batch: Batch, output: UniaOutput) -> None:
        if self.settings.cam_normalisation != "running" or not self.training:
            return
        peaks = torch.stack([mean_peak(maps, batch.tags) for maps in (output.cam, output.aux_cam)])
        followed = torch.where(self.cam_peaks > 0, self.cam_peaks.lerp(peaks, _PEAK_RATE), peaks)
        self.cam_peaks.copy_(torch.where(peaks > 0, followed, self.cam_peaks))

    def _pseudo_labels(
        self, batch: Batch, output: UniaOutput, plan: LabelPlan, needed: frozenset[Source] | None = None
    ) -> dict[Source, Tensor]:
        maps = functools.partial(self._activation_maps, batch, output)
        return self.labels.make(batch, maps, self._grid(output), output.affinity, plan, needed)

    def _distribution(self, output: UniaOutput, labels: dict[Source, Tensor], plan: LabelPlan) -> Tensor:
        inferred, grid = output.inferred, self._grid(output)
        share = sampled_foreground if self.settings.form.sampled_target else foreground_share
        error = judged = None
        if self.settings.distribution == "heteroscedastic":
            error, judged = token_error(output.logits, labels.get(plan.decoder, labels["P1"]), grid)
            judged = judged & ("segmentation" in plan.weights)  # a decoder that has not begun errs everywhere
        parts = (inferred.distribution_map, inferred.mean, inferred.log_variance)
        return self.distribution_loss(*parts, share(labels[plan.distribution], grid), None, error, judged)

    def _affinity(self, output: UniaOutput, labels: Tensor) -> Tensor:
        grid = self._grid(output)
        near = radius_mask(*grid, self.settings.radius, output.logits.device)
        positive, negative = pair_labels(self.labels.on_tokens(labels, grid), near)
        return AFFINITY_LOSSES[self.settings.affinity_loss](needed_part(output.affinity), positive, negative)

    def _token_contrast(self, output: UniaOutput, labels: Tensor) -> Tensor:
        positive, negative = pair_labels(self.labels.on_tokens(labels, self._grid(output)))
        return token_contrast(output.inferred.features, positive, negative)

    def _segmentation(self, output: UniaOutput, labels: Tensor) -> Tensor:
        form = balanced_cross_entropy if self.settings.segmentation_loss == "balanced" else partial_cross_entropy
        loss = form(output.logits, labels)
        return loss + soft_dice(output.logits, labels) if self.settings.segmentation_dice else loss

    def _dense_energy(self, batch: Batch, output: UniaOutput, labels: Tensor) -> Tensor:
        return dense_energy(
            output.logits.float().softmax(1),
            batch.images,
            labels,
            allowed_classes(batch.tags),
            batch.valid,
            self.settings.dense_energy_grid,
        )
