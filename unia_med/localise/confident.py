"""Confident maps: where activation maps are sure of a class, sure of background, or say nothing.

Ahn and Kwak, CVPR 2018 (PSA); numbers in brackets are sections of the AffinityNet specification. Pixel-adaptive
refinement takes the place of the dense CRF, which is hard to install.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unia_med.labels import BACKGROUND, IGNORE, TAG_PRESENT
from unia_med.localise.pixel_refine import ITERATIONS, pixel_kernel, propagate
from unia_med.tensors import detached, resized, size_of

GUARD = 1e-6


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
    images: Tensor | None = None,
    dilations: Sequence[int] = (1, 2),
) -> Tensor:
    """(B, H, W) labels: 0 where both say background or the second does, the first's class, else `IGNORE` [4].

    A class whose tag is unknown competes, but where it wins nothing is said.

    Args:
        sure_foreground: (B, K, H, W) scores in which background is strong (alpha 4).
        sure_background: (B, K, H, W) scores in which background is weak (alpha 32).
        tags: (B, T).
        images: (B, C, H, W) in [0, 1]; refines the scores along intensity edges. None leaves them.
        dilations: distances of the refinement's neighbours, in pixels of the half-resolution image.
    """
    both = torch.cat([_shares(scores) for scores in (sure_foreground, sure_background)], 1)
    if images is not None:
        both = _refined(both, images, dilations)
    first, second = (scores.argmax(1) for scores in both.chunk(2, 1))
    labels = torch.where(first == BACKGROUND, IGNORE, first)
    known = torch.cat((torch.ones_like(tags[:, :1], dtype=torch.bool), tags == TAG_PRESENT), 1)
    sure = known.gather(1, first.flatten(1)).view_as(first)
    labels = torch.where(sure, labels, IGNORE)
    return torch.where(second == BACKGROUND, BACKGROUND, labels)


def _shares(scores: Tensor) -> Tensor:
    # Scores that do not sum to 1 would weigh pixels differently in the refinement (defect 7 of the public code).
    return scores / scores.sum(1, keepdim=True).clamp(min=GUARD)


def _refined(scores: Tensor, images: Tensor, dilations: Sequence[int]) -> Tensor:
    kernel = pixel_kernel(images, dilations)
    return resized(propagate(kernel, resized(scores, kernel.size), ITERATIONS), size_of(scores))
