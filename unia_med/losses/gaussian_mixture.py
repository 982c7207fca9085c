"""Gaussian mixtures of pixel features, fitted to each image's own labelled pixels (AGMM, sections 4, 5 and 7).

Wu et al., CVPR 2023, and Wu et al., IEEE TPAMI 2025. A Gaussian around the mean feature of each class (several for the
background) gives every pixel a response per class. Everything is done on the features' own coarse grid: bilinear
enlargement is linear, so label maps are pulled down by the transposed interpolation instead of features being enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.labels import IGNORE
from unia_med.losses.mixture_geometry import (
    class_log_sum,
    distances,
    enlarged,
    labelled_masks,
    log_joint,
    nearest_in_class,
    per_class_max,
    per_class_sum,
    pull_down,
    squared_distances,
    weighted_means,
    with_position,
)
from unia_med.tensors import promoted, size_of

FIXED_VARIANCE = 0.5  # exp(-d^2 / (2 * 0.5)) = exp(-d^2), the released form
_CLUSTER_ROUNDS = 4


@dataclass(frozen=True)
class Mixture:
    """Gaussians of a batch and the distance of every grid cell to them. J Gaussians, K classes, N = h * w cells.

    Attributes:
        centres: (B, J, E); zero where the Gaussian does not exist.
        variance: (B, J), no gradient.
        prior: (B, J), sums to 1 over the Gaussians that exist.
        exists: (B, J) bool.
        distances: (B, J, h, w), mean absolute difference over channels.
        owner: (J,) class of each Gaussian.
        class_centres: (B, K, E), means over the labelled pixels; zero for classes without any.
        labelled: (B, K) bool, classes with a labelled pixel in the image.
        inside: (B, 1, h, w) bool, cells that see at least one pixel of the source image.
    """

    centres: Tensor
    variance: Tensor
    prior: Tensor
    exists: Tensor
    distances: Tensor
    owner: Tensor
    class_centres: Tensor
    labelled: Tensor
    inside: Tensor

    @property
    def present(self) -> Tensor:
        """(B, K) bool: classes that have a Gaussian, z of the specification."""
        return per_class_sum(self.exists.to(self.variance.dtype).unsqueeze(2), self.owner, self.classes)[..., 0] > 0

    @property
    def classes(self) -> int:
        """K."""
        return self.class_centres.shape[1]

    def responses(self, size: tuple[int, int]) -> Tensor:
        """(B, K, H, W) in [0, 1]: the response of each class's nearest Gaussian; 0 for classes that have none.

        Cells outside the source image are left out of the enlargement (the published code lets them bleed in).
        """
        scaled = self.distances.square() / (2 * self.variance[:, :, None, None])
        each = (-scaled).exp() * self.exists[:, :, None, None]
        best = per_class_max(each.flatten(2), self.owner, self.classes).unflatten(2, each.shape[2:])
        inside = self.inside.to(best.dtype)
        share = enlarged(inside, size).clamp(min=1e-6)
        return enlarged(best * inside, size) / share

    def class_log_joint(self, size: tuple[int, int]) -> Tensor:
        """(B, K, H, W): log of prior times density of each class, from distances enlarged to `size`."""
        distances = enlarged(self.distances, size)
        joint = log_joint(distances.flatten(2), self.variance, self.prior, self.exists)
        return class_log_sum(joint, self.owner, self.classes).unflatten(2, size)

    def posterior(self, size: tuple[int, int]) -> Tensor:
        """(B, K, H, W), sums to 1 over the classes that have a Gaussian; 0 for the others."""
        return self.class_log_joint(size).softmax(1) * self.present[:, :, None, None]


class MixtureFit:
    """Fits a `Mixture` to each image of a batch.

    Args:
        classes: K, with background.
        centres_per_class: Gaussians of class 0, 1, ...; the last number holds for all further classes.
        variance: `fixed`: exp(-d^2), what the released code runs; `adaptive`: of the predicted class (CVPR eq. 7);
            `pooled` (not published): the mean of the adaptive ones over an image's Gaussians, the same for all of them.
        minimum_variance: Floor of an adaptive variance; a larger one keeps responses softer.
        rounds: Rounds of online expectation-maximisation; 0 leaves the centres on the labelled pixels.
        position: Weight of the distance in place, in half image sides, added to that in features.
        trust: Least product of posterior and prediction with which an unlabelled pixel takes part.
        mass_ratio: Unlabelled pixels count at most this many times what a class's labelled pixels count.
        prior_floor: Least prior of a class.
    """

    def __init__(
        self,
        classes: int,
        centres_per_class: Sequence[int] = (1,),
        variance: Literal["fixed", "adaptive", "pooled"] = "adaptive",
        minimum_variance: float = 1e-3,
        rounds: int = 0,
        position: float = 0.0,
        trust: float = 0.5,
        mass_ratio: float = 4.0,
        prior_floor: float = 0.02,
    ) -> None:
        counts = [*centres_per_class, *[centres_per_class[-1]] * classes][:classes]
        self.owners = [k for k, count in enumerate(counts) for _ in range(count)]
        self.counts, self.classes = counts, classes
        self.variance, self.minimum_variance, self.rounds = variance, minimum_variance, rounds
        self.position = position
        self.trust, self.mass_ratio, self.prior_floor = trust, mass_ratio, prior_floor

    def __call__(
        self, features: Tensor, labels: Tensor, probabilities: Tensor, tags: Tensor, valid: Tensor | None = None
    ) -> Mixture:
        """Centres take gradients from the labelled features alone; variances and priors take none.

        Args:
            features: (B, E, h, w), of one scale (see `normalise_features`).
            labels: (B, H, W), 0..K-1 or IGNORE.
            probabilities: (B, K, H, W) of the network; no gradient is taken.
            tags: (B, T), 1 present, 0 absent, -1 unknown.
            valid: (B, 1, H, W), 1 inside the source image; None for everywhere.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self._fit(promoted(features), labels, promoted(probabilities.detach()), tags, valid)

    def _fit(
        self, features: Tensor, labels: Tensor, probabilities: Tensor, tags: Tensor, valid: Tensor | None
    ) -> Mixture:
        grid, owner = size_of(features), torch.tensor(self.owners, device=features.device)
        inside = torch.ones_like(probabilities[:, :1]) if valid is None else valid.to(features.dtype)
        one_hot = labelled_masks(labels, self.classes).to(features.dtype) * inside
        labelled = pull_down(one_hot, grid).flatten(2)  # (B, K, N), in pixels
        cells = with_position(features, self.position).flatten(2).transpose(1, 2)  # (B, N, E)
        weights = labelled[:, owner] * self._clusters(cells.detach(), labelled, owner)
        exists = weights.sum(2) > 0
        centres = weighted_means(cells, weights)
        class_centres = weighted_means(cells, labelled)
        allowed = torch.cat((torch.ones_like(tags[:, :1]), tags != 0), 1)[:, :, None, None]
        expected = F.adaptive_avg_pool2d(probabilities * allowed * inside, grid).flatten(2)
        state = self._first_state(cells.detach(), centres.detach(), exists, expected, owner)
        if self.rounds:
            free = pull_down(inside * (labels == IGNORE).unsqueeze(1), grid).flatten(2)
            state = self._improved(cells.detach(), state, exists, labelled, free, expected, owner)
            centres = centres + (state[0] - centres).detach()
        return Mixture(
            centres,
            *state[1:],
            exists,
            distances(cells, centres).unflatten(2, grid),
            owner,
            class_centres,
            one_hot.flatten(2).any(2),
            pull_down(inside, grid) > 0,
        )

    def _clusters(self, cells: Tensor, labelled: Tensor, owner: Tensor) -> Tensor:
        """(B, J, N) zeros and ones: which Gaussian of its class each labelled cell belongs to (k-means, no gradient).

        Starts from the mean and then, again and again, from the labelled cell farthest from all centres so far.
        """
        if len(self.owners) == self.classes:
            return torch.ones_like(labelled)
        labels_of = labelled[:, owner]
        centres = self._spread_centres(cells, labelled)[:, self._slots(owner.device)]
        for _ in range(_CLUSTER_ROUNDS):
            nearest = nearest_in_class(squared_distances(cells, centres), owner, self.classes)
            weights = labels_of * nearest
            centres = torch.where(weights.sum(2, keepdim=True) > 0, weighted_means(cells, weights), centres)
        return nearest_in_class(squared_distances(cells, centres), owner, self.classes)

    def _spread_centres(self, cells: Tensor, labelled: Tensor) -> Tensor:
        """(B, K * M, E) starting centres, M being the most that any class has; a class's own first."""
        found = [weighted_means(cells, labelled)]  # (B, K, E) each
        nearest = torch.full_like(labelled, torch.inf)
        for _ in range(max(self.counts)):
            nearest = torch.minimum(nearest, squared_distances(cells, found[-1]))
            farthest = (nearest * (labelled > 0)).argmax(2)
            found.append(cells.gather(1, farthest.unsqueeze(2).expand(-1, -1, cells.shape[2])))
        # With several centres the mean itself is no start: it lies between the clusters.
        return torch.stack(found[1:], 2).flatten(1, 2)

    def _slots(self, device: torch.device) -> Tensor:
        most = max(self.counts)
        return torch.tensor([k * most + i for k, count in enumerate(self.counts) for i in range(count)], device=device)

    def _first_state(
        self, cells: Tensor, centres: Tensor, exists: Tensor, expected: Tensor, owner: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Centres, variance by the prediction (section 5) and prior z / sum z, shared by a class's Gaussians."""
        mask = exists.to(cells.dtype)
        if self.variance != "fixed":
            far = distances(cells, centres)
            share = nearest_in_class(far.masked_fill(~exists.unsqueeze(2), torch.inf), owner, self.classes)
            variance = self._variance(far, expected[:, owner] * share, torch.ones_like(mask), exists)
        else:
            variance = torch.full_like(mask, FIXED_VARIANCE)
        siblings = per_class_sum(mask.unsqueeze(2), owner, self.classes)[..., 0]
        prior = mask / siblings[:, owner].clamp(min=1)
        return centres, variance, prior / prior.sum(1, keepdim=True).clamp(min=1)

    def _variance(self, far: Tensor, weights: Tensor, otherwise: Tensor, exists: Tensor) -> Tensor:
        total = weights.sum(2)
        mean = (weights * far.square()).sum(2) / total.clamp(min=1e-6)
        each = torch.where(total > 1e-6, mean, otherwise)
        if self.variance == "pooled":
            # One factor 1 / sigma cannot make up for a broad class of many channels: it would take all pixels between.
            shared = (each * exists).sum(1, keepdim=True) / exists.sum(1, keepdim=True).clamp(min=1)
            each = shared.expand_as(each)
        return each.clamp(min=self.minimum_variance)

    @torch.no_grad()
    def _improved(
        self,
        cells: Tensor,
        state: tuple[Tensor, Tensor, Tensor],
        exists: Tensor,
        labelled: Tensor,
        free: Tensor,
        expected: Tensor,
        owner: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Online expectation-maximisation (section 7); labelled pixels stay in their class."""
        centres, variance, prior = state
        own = labelled[:, owner]
        for _ in range(self.rounds):
            joint = log_joint(distances(cells, centres), variance, prior, exists)
            by_class = class_log_sum(joint, owner, self.classes)
            posterior = joint.softmax(1) * exists.unsqueeze(2)
            agreement = per_class_sum(posterior, owner, self.classes) * expected
            trusted = (expected * (agreement > self.trust))[:, owner] * posterior * free
            inner = (joint - by_class[:, owner]).exp() * exists.unsqueeze(2)
            mass = per_class_sum(trusted, owner, self.classes).sum(2)
            scale = (self.mass_ratio * labelled.sum(2) / mass.clamp(min=1e-6)).clamp(max=1)
            weights = own * inner + trusted * scale[:, owner].unsqueeze(2)
            total = weights.sum(2, keepdim=True)
            centres = torch.where(total > 1e-6, weighted_means(cells, weights), centres)
            if self.variance != "fixed":
                variance = self._variance(distances(cells, centres), weights, variance, exists)
            prior = self._prior((own * inner + posterior * free).sum(2), exists, owner)
        return centres, variance, prior

    def _prior(self, mass: Tensor, exists: Tensor, owner: Tensor) -> Tensor:
        share = mass / mass.sum(1, keepdim=True).clamp(min=1e-6)
        floor = self.prior_floor / torch.tensor(self.counts, device=owner.device, dtype=mass.dtype)[owner]
        floored = torch.maximum(share, floor) * exists
        return floored / floored.sum(1, keepdim=True).clamp(min=1e-6)
