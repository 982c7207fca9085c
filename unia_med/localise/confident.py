"""Confident maps: pixels where activation maps are sure of a class, sure of background, or undecided.

Ahn and Kwak, CVPR 2018 (PSA); numbers in brackets are sections of the AffinityNet specification. Scores
follow intensity edges by pixel-adaptive refinement or by a dense CRF.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.labels import BACKGROUND, IGNORE, TAG_PRESENT
from unia_med.localise.dense_crf import CrfSettings, dense_crf
from unia_med.localise.pixel_refine import ITERATIONS, pixel_kernel, propagate
from unia_med.tensors import detached, resized, size_of

GUARD = 1e-6
Refine = Callable[[Tensor], Tensor]
SCORE_CRF = CrfSettings(10, 3.0, 3.0, 10.0, 80.0, 13.0)
"""PSA's, on scores [4]."""
LABEL_CRF = CrfSettings(10, 3.0, 3.0, 10.0, 50.0, 5.0)
"""IRN's, on labels [8]."""
SURE, ACTIVE, HIGHEST = 0.8, 0.1, 0.4  # RRM: least certainty, least active value, share of a class's pixels
LABEL_TRUST = 0.7  # probability of the class that a label names, in IRN
DILATIONS = (1, 2)  # UniA's reach, up to 24, is for 448 pixels; at 128 it lets the background wash objects away


@detached
def with_background(maps: Tensor, alpha: float) -> Tensor:
    """(B, K, H, W): the background score (1 - highest map)^alpha, and the maps [3].

    Args:
        maps: (B, T, H, W) in [0, 1].
        alpha: 1 or more; a larger one leaves less background.
    """
    return torch.cat(((1 - maps.amax(1, keepdim=True)).clamp(min=0).pow(alpha), maps), 1)


@detached
def with_constant(maps: Tensor, score: float) -> Tensor:
    """(B, K, H, W): a constant background score, and the maps.

    Args:
        maps: (B, T, H, W) in [0, 1].
        score: in [0, 1]; a larger one leaves less foreground.
    """
    return torch.cat((torch.full_like(maps[:, :1], score), maps), 1)


@detached
def confident_labels(
    sure_foreground: Tensor,
    sure_background: Tensor,
    tags: Tensor,
    refine: Refine | None = None,
) -> Tensor:
    """(B, H, W) labels: 0 where both say background or the second does, the first's class, else `IGNORE` [4].

    A class whose tag is unknown competes, but pixels where it wins stay `IGNORE`.

    Args:
        sure_foreground: (B, K, H, W) scores in which background is strong (alpha 4).
        sure_background: (B, K, H, W) scores in which background is weak (alpha 32).
        tags: (B, T).
        refine: makes scores (B, K, H, W), summing to 1, follow intensity edges; None leaves them.
    """
    both = [_shares(scores) for scores in (sure_foreground, sure_background)]
    if refine is not None:
        both = [refine(scores) for scores in both]
    first, second = (scores.argmax(1) for scores in both)
    labels = torch.where(first == BACKGROUND, IGNORE, first)
    known = torch.cat((torch.ones_like(tags[:, :1], dtype=torch.bool), tags == TAG_PRESENT), 1)
    sure = known.gather(1, first.flatten(1)).view_as(first)
    labels = torch.where(sure, labels, IGNORE)
    return torch.where(second == BACKGROUND, BACKGROUND, labels)


def _shares(scores: Tensor) -> Tensor:
    # Scores that do not sum to 1 would weigh pixels differently in the refinement (defect 7 of the public code).
    return scores / scores.sum(1, keepdim=True).clamp(min=GUARD)


def pixel_refinement(images: Tensor, dilations: Sequence[int] = DILATIONS) -> Refine:
    """Return pixel-adaptive refinement along the edges of images.

    Args:
        images: (B, C, H, W) in [0, 1].
        dilations: distances of neighbours, in pixels of the half-resolution image.
    """
    kernel = pixel_kernel(images, dilations)
    return lambda scores: resized(propagate(kernel, resized(scores, kernel.size), ITERATIONS), size_of(scores))


def crf_refinement(images: Tensor, settings: CrfSettings = SCORE_CRF, of_labels: bool = False) -> Refine:
    """Return a dense CRF on images, one after the other.

    Args:
        images: (B, C, H, W) in [0, 1].
        settings: of the CRF; the deviation of colours is that of RGB triples; one channel gets 1 / sqrt(3) of it.
        of_labels: start from the likeliest class with a probability of `LABEL_TRUST`, not from the scores.
    """
    if images.shape[1] == 1:
        settings = settings._replace(appearance_colour=settings.appearance_colour / math.sqrt(3))

    def refine(scores: Tensor) -> Tensor:
        if of_labels:
            others = (1 - LABEL_TRUST) / (scores.shape[1] - 1)
            best = F.one_hot(scores.argmax(1), scores.shape[1]).movedim(-1, 1)
            scores = others + (LABEL_TRUST - others) * best
        return torch.stack([dense_crf(image, one, settings) for image, one in zip(images, scores, strict=True)])

    return refine


@detached
def crf_labels(maps: Tensor, tags: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B, H, W) and scores (B, K, H, W) by the rule of RRM (AA&LR specification, section 3).

    Two CRFs, one in which background is strong and one in which it is weak, say what a pixel is; it counts only where
    the CRF is sure (0.8), and the map is: background above 0.8, or among the highest 40 % of its class's pixels.

    Args:
        maps: (B, T, H, W) in [0, 1], 0 for absent classes.
        tags: (B, T).
        images: (B, C, H, W) in [0, 1].
    """
    refine = crf_refinement(images)
    strong, weak = (refine(_shares(with_background(maps, power))) for power in (4.0, 32.0))
    labels = torch.where(strong.argmax(1) == BACKGROUND, IGNORE, strong.argmax(1))
    labels = torch.where(weak.argmax(1) == BACKGROUND, BACKGROUND, labels)
    sure = torch.maximum(weak[:, 0], strong[:, 1:].amax(1)) >= SURE
    raw = with_background(maps, 32.0)
    active = torch.where(maps > ACTIVE, maps, torch.nan).flatten(2)
    least = torch.cat((torch.full_like(active[:, :1, 0], SURE), active.nanquantile(1 - HIGHEST, 2)), 1)  # (B, K)
    value, winner = raw.max(1)
    sure &= value > least.gather(1, winner.flatten(1)).view_as(value)  # false where a class is active nowhere
    known = torch.cat((torch.ones_like(tags[:, :1], dtype=torch.bool), tags == TAG_PRESENT), 1)
    sure &= known.gather(1, torch.where(labels == IGNORE, 0, labels).flatten(1)).view_as(sure)
    return torch.where(sure, labels, IGNORE), strong
