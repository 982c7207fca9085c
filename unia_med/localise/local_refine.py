"""Local refinement of class scores by intensities (Araslanov and Roth, CVPR 2020; AA&LR specification, section 3).

Differs from `pixel_refine` in the kernel alone: weights fall with the difference in intensity, not with its square, and
nothing is added for nearness.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.localise.pixel_refine import PixelKernel, neighbour_views, propagate
from unia_med.tensors import detached, resized, size_of

BANDWIDTH = 0.1  # of a standard deviation
DEVIATION_GUARD = 1e-8


@detached
def local_kernel(images: torch.Tensor, dilations: Sequence[int], reduction: float = 2.0) -> PixelKernel:
    """Weights of the 8 neighbours at each dilation: softmax of -|dI| / (0.1 sigma), averaged over channels.

    Args:
        images: (B, C, H, W).
        dilations: distances in pixels of the reduced grid.
        reduction: factor by which rows and columns shrink first.
    """
    rows, columns = (max(1, round(side / reduction)) for side in images.shape[-2:])
    images = resized(images, (rows, columns))
    neighbours = torch.stack(neighbour_views(images, dilations), 1)
    deviation = torch.cat((neighbours, images.unsqueeze(1)), 1).std(1, keepdim=True)
    difference = (neighbours - images.unsqueeze(1)).abs() / (BANDWIDTH * (deviation + DEVIATION_GUARD))
    return PixelKernel((-difference).mean(2).softmax(1).contiguous(), tuple(dilations))


@detached
def refined_scores(kernel: PixelKernel, scores: torch.Tensor, iterations: int = 10) -> torch.Tensor:
    """Score (B, K, H, W) after local refinement on the kernel's grid, at their own size again.

    Args:
        kernel: of the same batch.
        scores: (B, K, H, W), non-negative.
        iterations: a larger number spreads further.
    """
    return resized(propagate(kernel, resized(scores, kernel.size), iterations), size_of(scores))


@detached
def sole_winners(
    scores: torch.Tensor,
    foreground: float = 0.6,
    background: float = 0.7,
    least: float = 0.2,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """(B, H, W): the one class whose score stands near its own maximum; ignore where it is none or more than one.

    Args:
        scores: (B, K, H, W), background first.
        foreground: share of its maximum that a class must exceed; a larger one labels less.
        background: the same for the background.
        least: no class is on below this, whatever its maximum.
        ignore_index: the label of undecided pixels.
    """
    share = torch.full((scores.shape[1], 1, 1), foreground, device=scores.device)
    share[BACKGROUND] = background
    on = scores > (share * scores.amax((2, 3), keepdim=True)).clamp(min=least)
    return torch.where(on.sum(1) == 1, on.long().argmax(1), ignore_index)
