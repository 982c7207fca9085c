"""Partial supervision: a segmentation network on whatever pixels are labelled, all others being left out.

The baseline of every comparison (partial cross-entropy: Tang et al., CVPR 2018, "On Regularized Losses", eq. 1), full
supervision where the labels are masks, and the student of self-training where scores of a prior or of an earlier round
stand next to the labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.config.partial import PartialConfig
from unia_med.config.schema import RunConfig
from unia_med.losses.classification import tag_classification
from unia_med.losses.segmentation import balanced_cross_entropy, partial_cross_entropy, soft_dice
from unia_med.methods.base import Batch, weighted_sum
from unia_med.methods.given_labels import drawn_labels, given_labels, refuse_unlabelled
from unia_med.methods.segmenter import Segmenter, SegmenterMethod, network_zoom


class Partial(SegmenterMethod[PartialConfig]):
    """Cross-entropy and soft Dice on labelled pixels; see `PartialConfig`.

    Args:
        config: The whole run.
    """

    network: Segmenter

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.network = Segmenter(config.network, self.classes, network_zoom(config))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted sum and its unweighted parts; terms of weight 0 are not computed."""
        targets = completed_labels(batch, self.settings.pseudo_confidence)
        logits = self.network(batch.images)
        terms = {
            "cross_entropy": lambda: partial_cross_entropy(logits, targets),
            "dice": lambda: soft_dice(logits, targets),
            "annotations": lambda: balanced_cross_entropy(logits, drawn_labels(batch)),
            "tags": lambda: tag_classification(log_odds(logits).amax((2, 3))[:, 1:], batch.tags),
        }
        return weighted_sum(terms, self.settings.weights.model_dump())

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Return the network's own labels on its grid."""
        return {"prediction": self.network(batch.images).argmax(1)}


@torch.no_grad()
def completed_labels(batch: Batch, confidence: float) -> Tensor:
    """Labels (B, H, W) to learn: the weak label where there is one, else the class whose score is above `confidence`.

    Args:
        batch: With `labels`, `scores` or both.
        confidence: In [0.5, 1), so that at most one class passes.

    Raises:
        UserError: The batch has neither.
    """
    refuse_unlabelled(batch, "partial")
    return given_labels(batch, confidence, 1 - confidence)


def log_odds(logits: Tensor) -> Tensor:
    """Log-odds (B, K, H, W) of each class against all others together: positive where its probability is above half.

    Args:
        logits: (B, K, H, W).

    Example:
        >>> log_odds(torch.tensor([0.1, 0.2, 0.7]).log().view(1, 3, 1, 1)).sigmoid().flatten()
        tensor([0.1000, 0.2000, 0.7000])
    """
    chance = F.log_softmax(logits.float(), 1)
    return chance - torch.log1p(-chance.exp().clamp(max=1 - 1e-6))
