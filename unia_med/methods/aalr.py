"""AA&LR: pseudo labels made on line, learned with an adaptive affinity loss and a label reassign loss.

After Zhang et al., "Adaptive affinity loss and erroneous pseudo-label refinement for weakly supervised semantic
segmentation", ACM MM 2021. **What may be claimed: the affinity loss is that of the public fragment; the label reassign
loss was re-designed from its published description. This is not a reproduction of AA&LR.** Numbers in brackets are
sections of the specification.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.config.aalr import AalrConfig
from unia_med.config.schema import RunConfig
from unia_med.labels import IGNORE, TAG_PRESENT
from unia_med.localise.confident import crf_labels, with_background
from unia_med.localise.local_refine import local_kernel, refined_scores, sole_winners
from unia_med.localise.normalise import normalise_maps
from unia_med.localise.thresholds import allowed_classes, two_valued, withhold_background
from unia_med.losses.adaptive_affinity import adaptive_affinity
from unia_med.losses.classification import tag_classification
from unia_med.losses.label_reassign import (
    Centres,
    class_centres,
    grid_labels,
    label_reassign,
    memberships,
    reassign,
)
from unia_med.losses.segmentation import balanced_cross_entropy, partial_cross_entropy, soft_dice
from unia_med.methods.base import Batch, needed_part, weighted_sum
from unia_med.methods.embedding_network import EmbeddedOutput, EmbeddingNetwork
from unia_med.methods.given_labels import (
    CAM_BACKGROUND,
    SCORE_THRESHOLDS,
    drawn,
    given_labels,
    inside,
    refuse_unlabelled,
)
from unia_med.methods.segmenter import SegmenterMethod, network_zoom
from unia_med.tensors import Size, resized, size_of

_CHANNELS = 64  # of the point embeddings
_DROPOUT = {"max": 0.0, "mean": 0.5}  # of the tag classifier, by pooling: published with the mean
_BANK_SHARE = 0.9  # of earlier batches in a class's centre; a larger one changes slower [6]
_MARGIN = 3.0  # divergence that unlike pixels should have [5]
_GATE = 0.2  # pairs that are trusted less are dropped [5]
_BACKGROUND_POWER = 16.0  # [3]; a larger one leaves less background
_DILATIONS = (1, 2, 4, 8)  # of the local refinement, in pixels of the half-resolution slice
_LEAST = 0.2  # refined score of a labelled pixel [3]
_SURE = 0.9  # membership of a changed label that is learned [6]; probability of a pixel that joins drawn ones [11]


@dataclass(frozen=True)
class Targets:
    """What a step learns.

    Attributes:
        labels: (B, H, W), 0..K-1 or IGNORE.
        confidence: (B, H, W) in [0, 1]; 0 where nothing is labelled.
        reassign_loss: scalar of the label reassign loss; None before it begins.
    """

    labels: Tensor
    confidence: Tensor
    reassign_loss: Tensor | None = None


class Aalr(SegmenterMethod[AalrConfig]):
    """See the module; settings are `AalrConfig`.

    Args:
        config: The whole run.
    """

    network: EmbeddingNetwork
    bank: Tensor
    seen: Tensor

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        pooling = self.settings.pooling if self.settings.online.use else None
        dropout = _DROPOUT[self.settings.pooling]
        self.network = EmbeddingNetwork(config.network, self.classes, _CHANNELS, pooling, dropout, network_zoom(config))
        self.register_buffer("bank", torch.zeros(self.classes - 1, _CHANNELS))
        self.register_buffer("seen", torch.zeros(self.classes - 1, dtype=torch.bool))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted sum of section 7 and its unweighted parts; terms that are off are not computed.

        Raises:
            UserError: the batch has neither labels nor scores, and labels on line are off.
        """
        if not self.settings.online.use:
            refuse_unlabelled(batch, "aalr", "method.online.use")
        weights = self._active_weights(step)
        output = self.network.embed(batch.images)
        targets = self._targets(batch, output, step, "label_reassign" in weights)
        terms = {
            "classification": lambda: tag_classification(needed_part(output.tag_logits), batch.tags),
            "segmentation": lambda: self._segmentation(output.logits, targets.labels),
            "adaptive_affinity": lambda: self._adaptive_affinity(output.logits, targets),
            "label_reassign": lambda: needed_part(targets.reassign_loss),
        }
        return weighted_sum(terms, weights)

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Activation maps and pseudo labels where the run makes them on line; the network's own labels."""
        output = self.network.embed(batch.images)
        columns: dict[str, Tensor] = {}
        if self.settings.online.use:
            maps = normalise_maps(needed_part(output.maps), batch.tags == TAG_PRESENT)
            columns["CAM"] = two_valued(resized(maps, size_of(batch.images)), batch.tags, CAM_BACKGROUND)
            columns["pseudo"] = self._pseudo_labels(batch, output, self.iterations).labels
            columns["reassigned"] = self._targets(batch, output, self.iterations, True).labels
        return {**columns, "prediction": output.logits.argmax(1)}

    def _active_weights(self, step: int) -> dict[str, float]:
        gates = self.settings.gates
        weights = self.settings.weights.model_dump()
        if not self.settings.online.use:
            weights["classification"] = 0.0
        weights["segmentation"] *= self.ramp(gates.segmentation, 0.0, step)
        weights["adaptive_affinity"] *= self.ramp(gates.adaptive_affinity, gates.ramp, step)
        weights["label_reassign"] *= self.ramp(gates.label_reassign, gates.ramp, step)
        active = {name: weight for name, weight in weights.items() if weight > 0}
        # Before the first gate there may be no term at all; the segmentation term on nothing keeps the step whole.
        return active or {"segmentation": self.settings.weights.segmentation}

    def _targets(self, batch: Batch, output: EmbeddedOutput, step: int, with_reassignment: bool) -> Targets:
        first = self._pseudo_labels(batch, output, step)
        if not with_reassignment:
            return first
        settings = self.settings.reassign
        points = F.normalize(output.embeddings.float(), dim=1)
        grid = size_of(points)
        points = points.flatten(2).transpose(1, 2)
        # Exact labels are not reassigned: their background, of many tissues, would go to the classes little by little.
        open_labels = first.labels if batch.exact is None else first.labels.where(~batch.exact[:, None, None], IGNORE)
        labels, confidence = (t.flatten(1) for t in grid_labels(open_labels, first.confidence, self.classes, grid))
        centres = self._centres(points.detach(), labels, confidence)
        log_membership = memberships(points, centres, allowed_classes(batch.tags), settings.temperature)
        anchors = F.adaptive_max_pool2d(drawn(batch).float().unsqueeze(1), grid).flatten(1) > 0
        new = reassign(log_membership, labels, anchors, settings.lead, settings.cap)
        loss = label_reassign(log_membership, new.labels, new.changed, new.certainty, confidence)
        kept = torch.where(new.changed & (new.certainty <= _SURE), IGNORE, new.labels)
        corrected = self._corrected(first, labels, kept, new.changed, new.certainty, grid)
        if self.reached(self.settings.gates.grow, step):
            corrected = self._grown(batch, output, corrected, log_membership.detach(), grid)
        return Targets(corrected.labels, corrected.confidence, loss)

    @torch.no_grad()
    def _pseudo_labels(self, batch: Batch, output: EmbeddedOutput, step: int) -> Targets:
        """Y and c of section 3: drawn labels (c = 1), else scores of a prior, else activation maps."""
        settings = self.settings
        labels = given_labels(batch, *SCORE_THRESHOLDS)
        certainty = torch.ones_like(batch.images[:, 0])
        if batch.scores is not None:
            certainty = self._of_label(batch.scores, labels)
        elif settings.online.use:
            made, scores = self._online_labels(batch, output)
            # Slices with drawn labels grow from those instead [11].
            bare = ~drawn(batch).flatten(1).any(1)[:, None, None]
            labels = torch.where(bare, inside(made, batch), labels)
            certainty = self._of_label(scores, labels)
        if self.reached(self.settings.gates.agreement, step):
            certainty = certainty * self._of_label(output.logits.detach().float().softmax(1), labels)
        certainty = torch.where(drawn(batch), 1.0, certainty) * (labels != IGNORE)
        return Targets(labels, certainty)

    def _online_labels(self, batch: Batch, output: EmbeddedOutput) -> tuple[Tensor, Tensor]:
        """Labels (B, H, W) and scores (B, K, H, W) from activation maps, refined locally by intensities [3]."""
        size, raw = size_of(batch.images), needed_part(output.maps)
        maps = resized(normalise_maps(raw, batch.tags == TAG_PRESENT), size)
        if self.settings.online.refine == "crf":
            labels, scores = crf_labels(maps, batch.tags, batch.images)
            return withhold_background(labels, resized(normalise_maps(raw), size), batch.tags, _LEAST), scores
        kernel = local_kernel(batch.images, _DILATIONS)
        scores = refined_scores(kernel, with_background(maps, _BACKGROUND_POWER))
        labels = sole_winners(scores, least=_LEAST)
        active = resized(normalise_maps(raw), size)
        return withhold_background(labels, active, batch.tags, _LEAST), scores

    @staticmethod
    def _of_label(scores: Tensor, labels: Tensor) -> Tensor:
        """(B, H, W): the score of each pixel's own label; of the background's where there is none."""
        return scores.gather(1, torch.where(labels == IGNORE, 0, labels).unsqueeze(1)).squeeze(1)

    def _centres(self, points: Tensor, labels: Tensor, confidence: Tensor) -> Centres:
        clusters = self.settings.reassign.background_centres
        centres = class_centres(points, labels, confidence, self.bank, self.seen, _BANK_SHARE, clusters)
        if self.training:
            self.bank.copy_(centres.objects)
            self.seen.copy_(centres.has_object)
        return centres

    @staticmethod
    @torch.no_grad()
    def _corrected(first: Targets, old: Tensor, new: Tensor, changed: Tensor, certainty: Tensor, grid: Size) -> Targets:
        """Pixels follow their cell where it changed from the label that they have [6]; others stay as they are."""
        size = size_of(first.labels)

        def on_pixels(values: Tensor) -> Tensor:
            cells = values.unflatten(1, grid).unsqueeze(1)
            return F.interpolate(cells.float(), size=size, mode="nearest").squeeze(1)

        moved = on_pixels(changed).bool() & (on_pixels(old) == first.labels)
        labels = torch.where(moved, on_pixels(new).long(), first.labels)
        confidence = torch.where(moved, on_pixels(certainty), first.confidence) * (labels != IGNORE)
        return Targets(labels, confidence)

    @torch.no_grad()
    def _grown(
        self, batch: Batch, output: EmbeddedOutput, targets: Targets, log_membership: Tensor, grid: Size
    ) -> Targets:
        """Return targets with unlabelled pixels added on which refined network and centres confidently agree [11]."""
        kernel = local_kernel(batch.images, _DILATIONS)
        probabilities = output.logits.detach().float().softmax(1)
        # The kernel's weights sum to 1, so refined probabilities do as well.
        refined = refined_scores(kernel, probabilities)
        certainty, winner = refined.max(1)
        near = log_membership.argmax(1).unflatten(1, grid).unsqueeze(1).float()
        near = F.interpolate(near, size=size_of(winner), mode="nearest").squeeze(1).long()
        has_drawn = drawn(batch).flatten(1).any(1)[:, None, None]
        joins = has_drawn & (targets.labels == IGNORE) & (certainty > _SURE) & (near == winner)
        labels = inside(torch.where(joins, winner, targets.labels), batch)
        trust = certainty * self._of_label(probabilities, winner)
        return Targets(labels, torch.where(joins, trust, targets.confidence) * (labels != IGNORE))

    def _segmentation(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.settings.segmentation_loss == "balanced":
            loss = 2 * balanced_cross_entropy(logits, labels)  # the shared form halves the two means [4]
        else:
            loss = partial_cross_entropy(logits, labels)
        return loss + soft_dice(logits, labels) if self.settings.segmentation_dice else loss

    def _adaptive_affinity(self, logits: Tensor, targets: Targets) -> Tensor:
        settings = self.settings.affinity
        return adaptive_affinity(
            logits,
            targets.labels,
            targets.confidence,
            settings.offsets,
            _MARGIN,
            _GATE,
            settings.weighting,
        )
