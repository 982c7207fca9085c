"""Which pixels of a batch are labelled before a method adds labels of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from unia_med.labels import IGNORE, TAG_ABSENT, TAG_PRESENT
from unia_med.localise.thresholds import three_valued
from unia_med.methods.base import Batch


@torch.no_grad()
def given_labels(batch: Batch, high: float, low: float) -> Tensor:
    """Labels (B, H, W): drawn ones, else sure scores of a prior or a self-training round, else IGNORE.

    Args:
        batch: With `labels`, `scores`, both or neither.
        high: Score above which a class is sure; classes whose tag says absent never are.
        low: Background where no class has more.
    """
    labels = torch.full_like(batch.images[:, 0], IGNORE, dtype=torch.long)
    if batch.scores is not None:
        # A class of unknown tag may win: unlike an activation map, a score is not stretched to 1 somewhere.
        possible = torch.where(batch.tags == TAG_ABSENT, TAG_ABSENT, TAG_PRESENT)
        labels = three_valued(batch.scores[:, 1:], possible, high, low)
    if batch.labels is not None:
        labels = torch.where(batch.labels == IGNORE, labels, batch.labels)
    return inside(labels, batch)


def drawn(batch: Batch) -> Tensor:
    """(B, H, W) bool: pixels that somebody labelled, within the source image."""
    if batch.labels is None:
        return torch.zeros_like(batch.images[:, 0], dtype=torch.bool)
    return inside(batch.labels, batch) != IGNORE


def inside(labels: Tensor, batch: Batch) -> Tensor:
    """Labels (B, H, W) with IGNORE where augmentation filled in: such pixels say nothing."""
    return labels if batch.valid is None else torch.where(batch.valid.bool().squeeze(1), labels, IGNORE)
