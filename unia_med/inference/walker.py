"""Random walker from the pixels that a network is sure of to those that it is not, along the edges of the image.

A network trained on inexact labels is unsure in a band about as wide as its labels differ by, and half of the band lies
on the wrong side of the boundary. The edges of the image say more about that side than the network's probability.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unia_med.data.weak_labels.complete import walker_probabilities
from unia_med.labels import BACKGROUND, IGNORE


def sure_labels(probabilities: np.ndarray, foreground: float, background: float) -> np.ndarray:
    """Labels (Z, H, W) of the pixels from which a walk starts, IGNORE elsewhere.

    Args:
        probabilities: (Z, K, H, W) in [0, 1].
        foreground: from this probability of all classes together, a pixel has its likeliest class.
        background: up to this probability of all classes together, a pixel is background.
    """
    inside = 1 - probabilities[:, 0]
    labels = np.where(inside >= foreground, probabilities[:, 1:].argmax(1) + 1, IGNORE)
    return np.where(inside <= background, BACKGROUND, labels)


def walked_slices(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, beta: float) -> np.ndarray:
    """Float32 (Z, K, H, W): the chance that a random walk from a pixel meets a labelled pixel of each class first.

    Args:
        images: (Z, H, W), or (Z, C, H, W) with channels, in [0, 1].
        labels: (Z, H, W) as of `sure_labels`.
        probabilities: (Z, K, H, W); a slice that lacks a labelled class or labelled background keeps its own.
        beta: aversion to intensity edges, on scikit-image's scale.
    """
    found = probabilities.astype(np.float32)
    has_class = ((labels != BACKGROUND) & (labels != IGNORE)).any((1, 2))
    for index in np.flatnonzero(has_class & (labels == BACKGROUND).any((1, 2))):
        chances = walker_probabilities(images[index], labels[index], probabilities.shape[1], beta)
        found[index] = chances.clip(0, 1)  # solved to within rounding
    return found


def decide_unsure(probabilities: Tensor, images: Tensor, foreground: float, background: float, beta: float) -> Tensor:
    """Return the probabilities where the network is sure; elsewhere their mean with those of the walk.

    The mean, since a walk says 0 of a class that no pixel of the slice is sure to be, and the network knows better.

    Args:
        probabilities: (Z, K, H, W) in [0, 1].
        images: (Z, C, H, W) in [0, 1], the slices that they belong to.
        foreground: see `sure_labels`.
        background: see `sure_labels`.
        beta: see `walked_slices`.
    """
    known = probabilities.detach().float().cpu().numpy()
    labels = sure_labels(known, foreground, background)
    walked = walked_slices(images.float().cpu().numpy(), labels, known, beta)
    decided = np.where(labels[:, None] == IGNORE, (walked + known) / 2, known)
    return torch.from_numpy(decided).to(probabilities)
