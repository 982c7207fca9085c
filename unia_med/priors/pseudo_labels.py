"""From a network's or a prior's probabilities on tagged volumes to scores that a method can learn from.

Scores are class maps in [0, 1] that pass through the same three-valued rule as activation maps (UniA specification,
section 7): 1 is a sure class, 0 everywhere is sure background, and `DOUBTFUL` for the likeliest class falls between
the thresholds, so that the pixel is ignored.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from unia_med.config.prior import WalkerConfig
from unia_med.inference.walker import sure_labels, walked_slices
from unia_med.labels import IGNORE, TAG_ABSENT, TAG_PRESENT

DOUBTFUL = 0.5
_TRACE = 0.1  # a tagged class that won nowhere may hide where it reached this probability
_EIGHT = np.ones((3, 3), bool)


def apply_tags(probabilities: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Probabilities (Z, K, H, W) with the classes that tags (Z, T) call absent removed, summing to 1 again."""
    allowed = np.concatenate((np.ones((len(tags), 1)), tags != TAG_ABSENT), 1)
    kept = probabilities * allowed[:, :, None, None]
    return (kept / np.maximum(kept.sum(1, keepdims=True), 1e-6)).astype(np.float32)


def walked(
    probabilities: np.ndarray, tags: np.ndarray | None, images: np.ndarray, settings: WalkerConfig
) -> np.ndarray:
    """Probabilities (Z, K, H, W): the chance that a random walk from a pixel meets a sure pixel of each class first.

    Args:
        probabilities: (Z, K, H, W) in [0, 1].
        tags: As in `pseudo_scores`; classes that are absent are removed first.
        images: (Z, H, W), or (Z, C, H, W) with channels, in [0, 1].
        settings: Which pixels are sure, and how strongly the walk avoids edges. A slice where no class is sure keeps
            its probabilities.
    """
    probabilities = probabilities if tags is None else apply_tags(probabilities, tags)
    labels = sure_labels(probabilities, settings.foreground, settings.background)
    return walked_slices(images, labels, probabilities, settings.beta)


def pseudo_scores(probabilities: np.ndarray, tags: np.ndarray | None, confidence: float) -> np.ndarray:
    """Score (Z, K, H, W) uint8, scaled by 255, of one volume's slices.

    A pixel is sure where its class exceeds `confidence`, lies in the largest heart of the stack, and, for the two
    pools, in the largest piece of its slice. Where a tagged class wins nowhere in its slice, pixels that may be it are
    doubtful. A slice whose tags are all absent is sure background.

    Args:
        probabilities: (Z, K, H, W) in [0, 1]; K - 1 tag classes, the middle ones being walls when there are three.
        tags: (Z, T) with 1 present, 0 absent, -1 unknown; None knows nothing.
        confidence: Least probability of a sure pixel; a larger one labels fewer pixels more surely.
    """
    tags = np.full((len(probabilities), probabilities.shape[1] - 1), -1) if tags is None else tags
    probabilities = apply_tags(probabilities, tags)
    labels = probabilities.argmax(1)
    sure = probabilities.max(1) > confidence
    sure &= (labels == 0) | _largest(labels > 0, None)
    for label in range(1, probabilities.shape[1]):
        if label != 2:  # the myocardium may be open or in two arcs; blood pools are one piece
            for index, plane in enumerate(labels == label):
                sure[index] &= ~plane | _largest(plane, _EIGHT)
        hidden = (tags[:, label - 1] == TAG_PRESENT) & ~(labels == label).any((1, 2))
        sure &= ~(hidden[:, None, None] & (probabilities[:, label] > _TRACE))
    return _scores(probabilities, labels, sure, (tags == TAG_ABSENT).all(1))


def agreed_scores(
    probabilities: np.ndarray, tags: np.ndarray | None, completed: np.ndarray | None, confidence: float
) -> np.ndarray:
    """Score (Z, K, H, W) uint8, scaled by 255, where two labellings of one volume say the same.

    Args:
        probabilities: (Z, K, H, W) of the network, in [0, 1].
        tags: As in `pseudo_scores`; classes that are absent are removed from the network's labels first.
        completed: uint8 (Z, H, W) completed weak labels: sure where the network's likeliest class is the same, doubtful
            where it differs. Where they are `IGNORE`, or for None, the network alone counts, as in `pseudo_scores`.
        confidence: Least probability of a sure pixel where the network alone counts.
    """
    alone = pseudo_scores(probabilities, tags, confidence)
    if completed is None:
        return alone
    allowed = probabilities if tags is None else apply_tags(probabilities, tags)
    labels = allowed.argmax(1)
    both = _scores(allowed, labels, labels == completed, np.zeros(len(labels), bool))
    return np.where((completed == IGNORE)[:, None], alone, both)


def _largest(mask: np.ndarray, structure: np.ndarray | None) -> np.ndarray:
    pieces, count = ndimage.label(mask, structure)
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if count > 1 else mask


def _scores(probabilities: np.ndarray, labels: np.ndarray, sure: np.ndarray, empty: np.ndarray) -> np.ndarray:
    likeliest = probabilities[:, 1:].argmax(1) + 1
    chosen = np.where(sure, labels, likeliest)
    value = np.where(sure, 1.0, DOUBTFUL)
    classes = np.arange(probabilities.shape[1])[None, :, None, None]
    scores = (chosen[:, None] == classes) * value[:, None]
    scores[:, 0] = 1 - scores[:, 1:].sum(1)
    scores[empty] = (classes == 0)[0]
    return np.round(scores * 255).astype(np.uint8)
