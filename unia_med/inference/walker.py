"""Random walker from the pixels that a network is sure of to those that it is not, along the edges of the image.

A network trained on inexact labels is unsure in a band about as wide as its labels differ by, and half of the band lies
on the wrong side of the boundary. The edges of the image say more about that side than the network's probability.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unia_med.labels import IGNORE
from unia_med.localise.random_walker import sure_labels, walked_slices


def decide_unsure(
    probabilities: Tensor,
    images: Tensor,
    foreground: float,
    background: float,
    beta: float,
    share: float = 0.5,
    background_odds: float = 1.0,
) -> Tensor:
    """Return the probabilities where the network is sure; elsewhere their mean with those of the walk.

    The mean, since a walk says 0 of a class that no pixel of the slice is sure to be, and the network knows better.

    Args:
        probabilities: (Z, K, H, W) in [0, 1].
        images: (Z, C, H, W) in [0, 1], the slices that they belong to.
        foreground: see `sure_labels`.
        background: see `sure_labels`.
        beta: see `walked_slices`.
        share: weight of the walk in the mean, in [0, 1].
        background_odds: factor on the odds of the background, in all pixels, after the mean; above 0.
    """
    known = probabilities.detach().float().cpu().numpy()
    labels = sure_labels(known, foreground, background)
    walked = walked_slices(images.float().cpu().numpy(), labels, known, beta)
    decided = np.where(labels[:, None] == IGNORE, share * walked + (1 - share) * known, known)
    if background_odds != 1:
        decided[:, 0] *= background_odds
        decided /= decided.sum(1, keepdims=True)
    return torch.from_numpy(decided).to(probabilities)
