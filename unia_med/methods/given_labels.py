"""Which pixels of a batch are labelled before a method adds labels of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.localise.thresholds import score_labels
from unia_med.methods.base import Batch

SCORE_THRESHOLDS = (0.55, 0.45)
"""Sure class above, background below. Scores of a prior or a round say yes, no or doubtful (0.5), whatever the
thresholds of activation maps are; augmentation blends them at borders, which the narrow band ignores."""
CAM_BACKGROUND = 0.4
"""Background threshold of the column CAM in the validation table, for methods that learn nothing from it."""


def refuse_unlabelled(batch: Batch, method: str, otherwise: str = "") -> None:
    """Refuse a batch that holds neither labels nor scores.

    Args:
        batch: Of a method that learns from these alone.
        method: Its name.
        otherwise: Setting that makes it learn from tags, e.g. `method.seeds.use`; empty where there is none.

    Raises:
        UserError: The batch has neither.
    """
    if batch.labels is not None or batch.scores is not None:
        return
    remedy = "Add weak labels, or name a prior in prior.names"
    if otherwise:
        remedy += f", or set {otherwise} to true to learn from tags"
    raise UserError(
        f"method {method} has nothing to learn from: no weak labels and no prior", "data.labels", remedy=remedy
    )


@torch.no_grad()
def given_labels(batch: Batch, high: float, low: float) -> Tensor:
    """Labels (B, H, W): drawn ones, else exact ones, else sure scores of a prior or of a round, else IGNORE.

    Args:
        batch: With `labels`, `scores`, both or neither.
        high: Score above which a class is sure; classes whose tag says absent never are.
        low: Background where all classes together have no more.
    """
    if batch.scores is None:
        return drawn_labels(batch)
    return with_given(score_labels(batch.scores, batch.tags, high, low), batch)


def with_given(labels: Tensor, batch: Batch) -> Tensor:
    """Labels (B, H, W) where exact slices have the class of their scores, and drawn labels win over everything."""
    if batch.exact is not None and batch.scores is not None:
        labels = torch.where(batch.exact[:, None, None], batch.scores.argmax(1), labels)
    return with_drawn(labels, batch)


def with_drawn(labels: Tensor, batch: Batch) -> Tensor:
    """Labels (B, H, W) where drawn labels win, and pixels from outside the source image say nothing."""
    if batch.labels is not None:
        labels = torch.where(batch.labels == IGNORE, labels, batch.labels)
    return inside(labels, batch)


def drawn_labels(batch: Batch) -> Tensor:
    """Return the drawn labels (B, H, W) within the source image; IGNORE elsewhere."""
    return with_drawn(torch.full_like(batch.images[:, 0], IGNORE, dtype=torch.long), batch)


def drawn(batch: Batch) -> Tensor:
    """Return bool (B, H, W): pixels with drawn labels, within the source image."""
    return drawn_labels(batch) != IGNORE


def inside(labels: Tensor, batch: Batch) -> Tensor:
    """Labels (B, H, W) with IGNORE where augmentation filled in: such pixels say nothing."""
    return labels if batch.valid is None else torch.where(batch.valid.bool().squeeze(1), labels, IGNORE)
