"""Turns probabilities of a network or a prior on tagged volumes into scores that a method can learn from.

Scores are class maps in [0, 1] that pass through the same three-valued rule as activation maps (UniA specification,
section 7): 1 is a sure class, 0 everywhere is sure background, and `DOUBTFUL` for the likeliest class falls between
the thresholds, so that the pixel is ignored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unia_med.config.prior import WalkerConfig
from unia_med.labels import IGNORE, TAG_ABSENT, TAG_PRESENT, TAG_UNKNOWN
from unia_med.localise.pieces import largest_piece
from unia_med.localise.random_walker import sure_labels, walked_slices

DOUBTFUL = 0.5
_TRACE = 0.1  # a tagged class that won nowhere may hide where it reached this probability
_EIGHT = np.ones((3, 3), bool)


class Confidence(NamedTuple):
    """From which probability a pixel's likeliest class is sure.

    Averages over views shrink thin structures, so that the background may need more than the classes.

    Attributes:
        classes: of the classes, in [0, 1].
        background: of the background, in [0, 1]; None for that of the classes.
    """

    classes: float
    background: float | None = None

    def sure(self, probabilities: np.ndarray) -> np.ndarray:
        """Return where (Z, H, W) the likeliest class of probabilities (Z, K, H, W) is sure."""
        background = self.classes if self.background is None else self.background
        return probabilities.max(1) > np.where(probabilities.argmax(1) == 0, background, self.classes)


class ShapeRules(NamedTuple):
    """Known shapes of the classes; by default nothing is known.

    Attributes:
        one_object: all classes together are one object per volume.
        one_piece: labels of classes that are one piece per slice.
    """

    one_object: bool = False
    one_piece: tuple[int, ...] = ()


NO_RULES = ShapeRules()


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


def pseudo_scores(
    probabilities: np.ndarray, tags: np.ndarray | None, confidence: Confidence, rules: ShapeRules = NO_RULES
) -> np.ndarray:
    """Score (Z, K, H, W) uint8, scaled by 255, of one volume's slices.

    A pixel is sure where its class exceeds `confidence` and no rule excludes it: outside the largest object, or
    outside the largest piece of its slice, it is doubtful. Where a tagged class wins nowhere in its slice, pixels that
    may be it are doubtful. A slice whose tags are all absent is sure background.

    Args:
        probabilities: (Z, K, H, W) in [0, 1]; K - 1 tag classes.
        tags: (Z, T) with 1 present, 0 absent, -1 unknown; None knows nothing.
        confidence: Least probability of a sure pixel; larger ones label fewer pixels more surely.
        rules: What is known of shapes.
    """
    tags = np.full((len(probabilities), probabilities.shape[1] - 1), TAG_UNKNOWN) if tags is None else tags
    probabilities = apply_tags(probabilities, tags)
    labels = probabilities.argmax(1)
    sure = confidence.sure(probabilities)
    if rules.one_object:
        sure &= (labels == 0) | largest_piece(labels > 0)
    for label in range(1, probabilities.shape[1]):
        if label in rules.one_piece:
            for index, plane in enumerate(labels == label):
                sure[index] &= ~plane | largest_piece(plane, _EIGHT)
        hidden = (tags[:, label - 1] == TAG_PRESENT) & ~(labels == label).any((1, 2))
        sure &= ~(hidden[:, None, None] & (probabilities[:, label] > _TRACE))
    return _scores(probabilities, labels, sure, (tags == TAG_ABSENT).all(1))


def agreed_scores(
    probabilities: np.ndarray,
    tags: np.ndarray | None,
    completed: np.ndarray | None,
    confidence: Confidence,
    rules: ShapeRules = NO_RULES,
) -> np.ndarray:
    """Score (Z, K, H, W) uint8, scaled by 255, where two labellings of one volume say the same.

    Args:
        probabilities: (Z, K, H, W) of the network, in [0, 1].
        tags: As in `pseudo_scores`; classes that are absent are removed from the network's labels first.
        completed: uint8 (Z, H, W) completed weak labels: sure where the network's likeliest class is the same, doubtful
            where it differs. Where they are `IGNORE`, or for None, the network alone counts, as in `pseudo_scores`.
        confidence: Least probability of a sure pixel where the network alone counts.
        rules: What is known of shapes, where the network alone counts.
    """
    alone = pseudo_scores(probabilities, tags, confidence, rules)
    if completed is None:
        return alone
    allowed = probabilities if tags is None else apply_tags(probabilities, tags)
    labels = allowed.argmax(1)
    both = _scores(allowed, labels, labels == completed, np.zeros(len(labels), bool))
    return np.where((completed == IGNORE)[:, None], alone, both)


def _scores(probabilities: np.ndarray, labels: np.ndarray, sure: np.ndarray, empty: np.ndarray) -> np.ndarray:
    likeliest = probabilities[:, 1:].argmax(1) + 1
    chosen = np.where(sure, labels, likeliest)
    value = np.where(sure, 1.0, DOUBTFUL)
    classes = np.arange(probabilities.shape[1])[None, :, None, None]
    scores = (chosen[:, None] == classes) * value[:, None]
    scores[:, 0] = 1 - scores[:, 1:].sum(1)
    scores[empty] = (classes == 0)[0]
    return np.round(scores * 255).astype(np.uint8)
