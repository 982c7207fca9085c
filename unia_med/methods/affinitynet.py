"""AffinityNet: pixel affinity learned from confident activation maps, and a random walk along it.

Ahn and Kwak, CVPR 2018 (PSA), and the boundary variant of Ahn, Cho and Kwak, CVPR 2019 (IRN). Numbers in brackets are
sections of the specification. The method holds its classifier, so that one run can label images; a segmentation network
trained on these labels is a run of its own (method `partial`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.config.affinitynet import AffinityNetConfig
from unia_med.config.schema import RunConfig
from unia_med.errors import UserError
from unia_med.labels import IGNORE, TAG_ABSENT, TAG_PRESENT
from unia_med.localise.confident import with_background
from unia_med.localise.pixel_pairs import (
    feature_distances,
    grid_labels,
    pair_kinds,
    pair_offsets,
    path_maxima,
)
from unia_med.localise.random_walk import absorbing_walk, pair_weights, random_walk
from unia_med.localise.thresholds import possible_maps, two_valued
from unia_med.losses.classification import tag_classification
from unia_med.losses.pixel_affinity import distance_costs, edge_costs, three_way_loss
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.methods.cam import activation_maps, cam_network, confident_from_maps
from unia_med.methods.given_labels import inside
from unia_med.nn.affinity_network import AffinityNetwork
from unia_med.nn.lite0 import FROM_RUN, read_plain_file
from unia_med.run_files import RunFiles
from unia_med.tensors import resized, size_of

_SMALLEST_LINK = 1e-4  # keeps unlabelled islands of the absorbing walk linked to their surroundings
_GUARD = 1e-6
WALK_RADIUS = 5.0  # neighbours in the walk are nearer than this many cells, as in both publications [6, 8]
WALK_LOG2_STEPS = 8  # the walk takes 2 to this power steps, as published [6]


class AffinityNet(Method[AffinityNetConfig]):
    """See the module; pairs are learned where labels are given, and else from the classifier's confident maps.

    Args:
        config: the whole run; `method`, `network.weights` and the classes are read.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        settings, weights, channels = self.settings, config.network.weights, config.network.channels
        self.fixed_classifier = settings.classifier is not None
        self._fault: UserError | None = None
        start = "none" if self.fixed_classifier and weights != FROM_RUN else weights
        self.classifier = cam_network(settings.cam, start, self.classes - 1, channels)
        self.network = AffinityNetwork(
            weights, settings.stride, settings.affinity, settings.widths, settings.train_backbone, channels
        )
        if settings.classifier is not None:
            self.classifier.requires_grad_(False)
            self._take_classifier(settings.classifier, required=weights not in ("none", FROM_RUN))
        self.learned_offsets = pair_offsets(settings.radius)
        self.walk_offsets = pair_offsets(WALK_RADIUS)

    def train(self, mode: bool = True) -> AffinityNet:
        """As in torch; a classifier that was given keeps its batch statistics."""
        super().train(mode)
        if self.fixed_classifier:
            self.classifier.eval()
        return self

    def rate_multipliers(self) -> dict[str, float]:
        """All but pretrained stages learn `head_multiplier` times faster."""
        factors = {"": self.head_multiplier}
        if self.settings.train_backbone:
            factors["network.stages."] = 1.0
        if not self.fixed_classifier:
            factors["classifier.stages."] = 1.0
        return factors

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the three-way affinity loss [5] and, unless a classifier is given, its tag loss."""
        if self._fault is not None:
            raise self._fault
        output = self.network(batch.images)
        loss = self._pair_loss(output, self._targets(batch, size_of(output)))
        parts = {"affinity": loss}
        if not self.fixed_classifier:
            parts["classification"] = tag_classification(self.classifier(batch.images)[0], batch.tags)
        return {"loss": torch.stack([part.float() for part in parts.values()]).sum(), **parts}

    def predict(self, images: Tensor) -> Prediction:
        """Return the walk of the classes that the classifier finds, from the image alone."""
        found = (self.classifier(images)[0] > 0).to(torch.int8)
        probabilities = self.walk(images, torch.where(found > 0, TAG_PRESENT, TAG_ABSENT))
        return Prediction(probabilities, 1 - probabilities.amax(1))

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Columns `CAM`, `confident` (abstains) and `walk`; all use the slices' tags.

        With labels in the batch they are the seeds: `confident` repeats them and `walk` is absorbing.
        """
        maps = self._maps(batch.images)
        confident = self._confident(batch)
        if batch.labels is None:
            walked = self.walk(batch.images, batch.tags, maps).argmax(1)
        else:
            walked = self.walk_from_labels(batch.images, confident)
        cam = two_valued(maps, batch.tags, self.settings.cam.background)
        return {"CAM": cam, "confident": confident, "walk": walked}

    @torch.no_grad()
    def walk(self, images: Tensor, tags: Tensor, maps: Tensor | None = None) -> Tensor:
        """(B, K, H, W) scores summing to 1 after the random walk of the maps of possible classes [6].

        Args:
            images: (B, 1, H, W) in [0, 1].
            tags: (B, T); classes called absent stay out, and a slice without any class is background.
            maps: (B, T, H, W) in [0, 1], instead of the classifier's own.
        """
        settings = self.settings.walk
        output = self.network(images)
        maps = possible_maps(self._maps(images) if maps is None else maps, tags)
        scores = maps if settings.background is not None else with_background(maps, settings.alpha)
        scores = F.adaptive_avg_pool2d(scores, size_of(output))
        if self.settings.affinity == "boundary":
            scores = scores * (1 - output.float().sigmoid())  # published: maps start away from edges [8]
        walked = random_walk(self._weights(output), scores, self.walk_offsets, WALK_LOG2_STEPS)
        if settings.background is not None:
            walked = walked / walked.amax((1, 2, 3), keepdim=True).clamp(min=_GUARD)
            walked = torch.cat((torch.full_like(walked[:, :1], settings.background), walked), 1)
        walked = resized(walked, size_of(images))
        walked[:, 0] += _GUARD  # where nothing arrived there is background
        return walked / walked.sum(1, keepdim=True)

    @torch.no_grad()
    def walk_from_labels(self, images: Tensor, labels: Tensor) -> Tensor:
        """(B, H, W) labels: the given ones, and elsewhere the class whose seeds a walk most likely meets first [11].

        Args:
            images: (B, 1, H, W) in [0, 1].
            labels: (B, H, W) trusted labels with `IGNORE`; slices without any label stay `IGNORE`.
        """
        output = self.network(images)
        cells = grid_labels(labels, size_of(output), self.classes)
        seeded = cells != IGNORE
        seeds = F.one_hot(torch.where(seeded, cells, 0), self.classes).permute(0, 3, 1, 2).float()
        found = absorbing_walk(self._weights(output, _SMALLEST_LINK), seeds, seeded, self.walk_offsets)
        found = resized(found, size_of(images))
        best, walked = found.max(1)
        walked = torch.where(best > _GUARD, walked, IGNORE)
        return torch.where(labels == IGNORE, walked, labels)

    def _weights(self, output: Tensor, smallest: float = 0.0) -> Tensor:
        settings = self.settings.walk
        if self.settings.affinity == "feature":
            costs = feature_distances(output.float(), self.walk_offsets)
        else:
            costs = edge_costs(path_maxima(output.float(), self.walk_offsets))[0]
        return pair_weights(costs, settings.beta, self.walk_offsets, smallest=smallest)

    def _pair_loss(self, output: Tensor, cells: Tensor) -> Tensor:
        offsets = self.learned_offsets
        background, foreground, negative = pair_kinds(cells, offsets)
        if self.settings.affinity == "feature":
            alike, unlike = distance_costs(feature_distances(output.float(), offsets))
        else:
            alike, unlike = edge_costs(path_maxima(output.float(), offsets))
        return three_way_loss(alike, unlike, background, foreground, negative)

    def _targets(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        return grid_labels(inside(self._confident(batch), batch), size, self.classes)

    def _confident(self, batch: Batch) -> Tensor:
        if batch.labels is not None:
            return batch.labels
        return confident_from_maps(self._maps(batch.images), batch.tags, batch.images, self.settings.confident)

    @torch.no_grad()
    def _maps(self, images: Tensor) -> Tensor:
        was_training = self.classifier.training
        self.classifier.eval()
        try:
            return activation_maps(self.classifier, images, self.settings.cam)
        finally:
            self.classifier.train(was_training)

    def _take_classifier(self, run: Path, required: bool) -> None:
        """Load it; unless required, what is wrong with it waits until training starts.

        A finished run brings all weights itself, and by then its classifier's folder may be gone.
        """
        try:
            self._load_classifier(run)
        except UserError as fault:
            if required:
                raise
            self._fault = fault

    def _load_classifier(self, run: Path) -> None:
        """Take the averaged weights of a finished classifier run; its stages start those of the affinity network."""
        path = RunFiles(run).best
        found = read_plain_file(path)
        state: dict[str, Tensor] = dict(found.get("ema", {})) if isinstance(found, dict) else {}
        weights = {name.removeprefix("network."): value for name, value in state.items()}
        own = self.classifier.state_dict()
        if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
            raise UserError(
                "these are not the weights of a classifier with the settings of method.cam",
                where=path,
                remedy="Train it with method.name cam, the same settings and the same data.groups",
            )
        self.classifier.load_state_dict(weights)
        self.network.stages.load_state_dict(self.classifier.stages.state_dict())
