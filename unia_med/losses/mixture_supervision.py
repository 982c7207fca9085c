"""The losses between a Gaussian mixture and the network that it sits on (AGMM, sections 6 and 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.labels import IGNORE, TAG_ABSENT
from unia_med.losses.masked import masked_mean
from unia_med.losses.mixture_geometry import labelled_masks
from unia_med.tensors import full_precision

LOG_OFFSET = 1e-6  # section 6


@full_precision
def self_supervision(responses: Tensor, probabilities: Tensor, present: Tensor, valid: Tensor | None = None) -> Tensor:
    """L_self: half the binary cross-entropy from the mixture's scores to the network's, mean over valid pixels.

    Each image's mean is over the classes that have a Gaussian; an image without any contributes 0. Gradient flows into
    both arguments; detach one to teach the other alone.

    Args:
        responses: (B, K, H, W) in [0, 1], the target.
        probabilities: (B, K, H, W) in [0, 1].
        present: (B, K) bool, classes with a Gaussian.
        valid: (B, 1, H, W), 1 inside the source image; None for everywhere.
    """
    values = _class_mean(_half_entropy(responses, probabilities), present)
    inside = torch.ones_like(values) if valid is None else valid[:, 0].to(values.dtype)
    return masked_mean(values, inside)


@torch.no_grad()
def class_weights(labels: Tensor, classes: int, balance: float) -> Tensor:
    """(K,) weights of the labelled pixels' losses that keep their mean a mean: 1 on average over labelled pixels.

    Args:
        labels: (B, H, W), 0..K-1 or IGNORE.
        classes: K.
        balance: in [0, 1]; 0: pixels count alike, 1: classes of the batch count alike, however few their pixels.

    Example:
        >>> class_weights(torch.tensor([[[0, 0, 0, 1]]]), 3, 1.0)
        tensor([0.6667, 2.0000, 0.0000])
    """
    counts = labelled_masks(labels, classes).sum((0, 2, 3)).float()
    raw = counts.clamp(min=1).pow(-balance) * (counts > 0)
    return raw * counts.sum() / (raw * counts).sum().clamp(min=1e-6)


@full_precision
def discrimination(responses: Tensor, labels: Tensor, present: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_mix: half the binary cross-entropy from labels to responses, mean over labelled pixels and present classes.

    Args:
        responses: (B, K, H, W) in [0, 1].
        labels: (B, H, W), 0..K-1 or IGNORE.
        present: (B, K) bool.
        weights: (K,) of pixels by their label, see `class_weights`; None for all alike.
    """
    targets = labelled_masks(labels, responses.shape[1]).to(responses.dtype)
    values = _class_mean(_half_entropy(targets, responses), present)
    if weights is not None:
        values = values * (targets * weights.to(values.dtype).view(1, -1, 1, 1)).sum(1)
    return masked_mean(values, labels != IGNORE)


@full_precision
def separation(class_centres: Tensor, labelled: Tensor) -> Tensor:
    """L_sep: mean of exp(-delta^2) over the pairs of classes present in the batch; delta is their mean distance.

    A class's centre is the mean over the images that have it; the published code takes the sum, which leaves hardly
    any push between classes (section 10.1).

    Args:
        class_centres: (B, K, E).
        labelled: (B, K) bool, classes with a labelled pixel in the image.
    """
    weights = labelled.to(class_centres.dtype).unsqueeze(2)
    means = (class_centres * weights).sum(0) / weights.sum(0).clamp(min=1)
    # Not cdist: K * K * E is small, and the difference of a class to itself must have a finite gradient.
    delta = (means.unsqueeze(0) - means.unsqueeze(1)).abs().mean(2)
    found = labelled.any(0)
    pairs = (found.unsqueeze(0) & found.unsqueeze(1)).triu(1)
    return masked_mean((-delta.square()).exp(), pairs)


@full_precision
def negative_log_posterior(class_log_joint: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_max: mean over labelled pixels of -log of the posterior of the labelled class (section 7).

    Args:
        class_log_joint: (B, K, H, W), log of prior times density of each class.
        labels: (B, H, W), 0..K-1 or IGNORE.
        weights: (K,) of pixels by their label, see `class_weights`; None for all alike.
    """
    weights = None if weights is None else weights.to(class_log_joint.dtype)
    losses = F.cross_entropy(class_log_joint, labels, weights, ignore_index=IGNORE, reduction="none")
    return masked_mean(losses, labels != IGNORE)


@full_precision
def absent_classes(logits: Tensor, tags: Tensor, valid: Tensor | None = None) -> Tensor:
    """L_tag: -log(1 - P_k) added up over the classes known to be absent, mean over valid pixels (section 6).

    Args:
        logits: (B, K, H, W).
        tags: (B, T), 1 present, 0 absent, -1 unknown; only known absence costs anything.
        valid: (B, 1, H, W), 1 inside the source image; None for everywhere.
    """
    absent = (tags == TAG_ABSENT)[:, :, None, None].to(logits.dtype)
    left = 1 - logits.softmax(1)[:, 1:]
    values = (absent * -(left + LOG_OFFSET).log()).sum(1)
    inside = torch.ones_like(values) if valid is None else valid[:, 0].to(values.dtype)
    return masked_mean(values, inside)


def _half_entropy(targets: Tensor, predictions: Tensor) -> Tensor:
    """0.5 * BCE(targets; predictions), element by element, with the published offset in the logarithms."""
    on = targets * (predictions + LOG_OFFSET).log()
    off = (1 - targets) * (1 - predictions + LOG_OFFSET).log()
    return -0.5 * (on + off)


def _class_mean(values: Tensor, present: Tensor) -> Tensor:
    """(B, H, W): mean of (B, K, H, W) over each image's present classes, 0 where there are none."""
    weights = present.to(values.dtype)
    share = weights / weights.sum(1, keepdim=True).clamp(min=1)
    return (values * share[:, :, None, None]).sum(1)
