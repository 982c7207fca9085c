"""Segmentation losses on label maps that are only partly filled in."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.losses.masked import masked_mean
from unia_med.tensors import full_precision

COUNT_GUARD = 1e-6  # section 14


@full_precision
def balanced_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = IGNORE) -> torch.Tensor:
    """Half the mean over background pixels plus half the mean over foreground pixels (section 14).

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W), 0..K-1 or `ignore_index`.
        ignore_index: the label of pixels that say nothing.
    """
    losses = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")
    background = labels == BACKGROUND
    foreground = ~background & (labels != ignore_index)
    return 0.5 * (_guarded_mean(losses, background) + _guarded_mean(losses, foreground))


def _guarded_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.to(values.dtype)
    return (values * weights).sum() / (weights.sum() + COUNT_GUARD)


@full_precision
def partial_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """Mean cross-entropy over the labelled pixels.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W), 0..K-1 or `ignore_index`.
        class_weights: (K,), a larger one makes errors on that class dearer; the mean stays over pixels.
        ignore_index: the label of pixels that say nothing.
    """
    losses = F.cross_entropy(logits, labels, class_weights, ignore_index=ignore_index, reduction="none")
    return masked_mean(losses, labels != ignore_index)


@full_precision
def soft_dice(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 1.0, ignore_index: int = IGNORE
) -> torch.Tensor:
    """1 - Dice of the softmax over the labelled pixels of the batch, mean over foreground classes.

    Args:
        logits: (B, K, H, W), K >= 2.
        labels: (B, H, W), 0..K-1 or `ignore_index`.
        smoothing: in pixels, added above and below. A larger one weakens the pull on small structures; with it a
            class absent from the batch is pushed down and a batch without labels costs exactly 0.
        ignore_index: the label of pixels that say nothing.
    """
    labelled = (labels != ignore_index).unsqueeze(1)
    probabilities = (logits.softmax(1) * labelled)[:, 1:]
    classes = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    truth = (labels.unsqueeze(1) == classes).to(probabilities.dtype)
    overlap = (probabilities * truth).sum((0, 2, 3))
    sizes = probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((2 * overlap + smoothing) / (sizes + smoothing)).mean()
