"""Pixel-adaptive refinement: labels that follow intensity edges (PAR, Ru et al. 2022; UniA specification, section 8).

The kernel is built once per image; whatever is to be refined with it is stacked as channels, which do not interact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from unia_med.labels import BACKGROUND, IGNORE, TAG_PRESENT
from unia_med.localise.thresholds import withhold_background
from unia_med.tensors import Size, detached, resized, size_of

DILATIONS = (1, 2, 4, 8, 12, 24)
REFERENCE_SIDE = 224
"""Longest side of the grid to which the published dilations belong: half of 448 pixels."""
BANDWIDTH = 0.3  # of a standard deviation, for intensities and for lengths
POSITION_WEIGHT = 0.01
ITERATIONS = 10
DEVIATION_GUARD = 1e-8
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class PixelKernel:
    """How much each neighbour counts.

    Attributes:
        weights: (B, 8 * len(dilations), h, w) float32, sums to 1 + POSITION_WEIGHT over the neighbours.
        dilations: distances of the neighbours in pixels of this grid, in the order of `neighbour_offsets`.
    """

    weights: torch.Tensor
    dilations: tuple[int, ...]

    @property
    def size(self) -> Size:
        """(rows, columns) of the grid."""
        return size_of(self.weights)


def neighbour_offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(row, column) offsets of the neighbours: the 8 directions at each dilation.

    >>> neighbour_offsets([2])[:3]
    [(-2, -2), (-2, 0), (-2, 2)]
    """
    return [(row * dilation, column * dilation) for dilation in dilations for row, column in DIRECTIONS]


def neighbour_views(maps: torch.Tensor, dilations: Sequence[int]) -> list[torch.Tensor]:
    """Each neighbour's value at every pixel of `maps` (B, C, h, w), edges repeated; views of one padded copy.

    Padding once and slicing is as fast as a sparse product and three times as fast as shifting axis by axis.
    """
    height, width = maps.shape[-2:]
    reach = max(dilations)
    padded = F.pad(maps, (reach,) * 4, mode="replicate")
    return [
        padded[:, :, reach + row : reach + row + height, reach + column : reach + column + width]
        for row, column in neighbour_offsets(dilations)
    ]


@functools.lru_cache(maxsize=32)
def position_weights(dilations: tuple[int, ...], device: torch.device | None = None) -> torch.Tensor:
    """(J,) softmax over the neighbours of the position term; sums to 1, favours the nearest. Cached, do not change.

    >>> position_weights((1, 2, 4, 8, 12, 24)).reshape(6, 8).sum(1)[:3].mul(1000).round().int().tolist()
    [579, 356, 65]
    """
    with torch.inference_mode(False):
        lengths = torch.tensor([math.hypot(*offset) for offset in neighbour_offsets(dilations)], device=device)
        return (-(lengths / (BANDWIDTH * (lengths.std() + DEVIATION_GUARD))).square()).softmax(0)


def grid_of(size: Size, dilations: Sequence[int] = DILATIONS) -> tuple[float, tuple[int, ...]]:
    """Return by what the image is reduced, and the dilations on that grid, for one reach in shares of the image.

    The published numbers are for images of 448 pixels, halved; on a slice of 160 pixels, halved, the widest of them
    spans a third of the slice, and thin structures are washed away.

    Args:
        size: (rows, columns) of the image; reduced only where the longer one exceeds `REFERENCE_SIDE`.
        dilations: distances of neighbours on a grid of that side.

    Example:
        >>> grid_of((448, 448)), grid_of((160, 128))
        ((2.0, (1, 2, 4, 8, 12, 24)), (1.0, (1, 3, 6, 9, 17)))
    """
    reduction = max(1.0, max(size) / REFERENCE_SIDE)
    scale = max(size) / reduction / REFERENCE_SIDE
    return reduction, tuple(dict.fromkeys(max(1, round(dilation * scale)) for dilation in dilations))


@detached
def pixel_kernel(images: torch.Tensor, dilations: Sequence[int] = DILATIONS, reduction: float = 2.0) -> PixelKernel:
    """Return the refinement kernel of each image, on the grid of the images reduced by `reduction`.

    Args:
        images: (B, C, H, W) in [0, 1].
        dilations: neighbour distances in pixels of the reduced grid; rescale them with the zoom of the image.
        reduction: factor by which rows and columns shrink; 1 keeps full resolution at 4 times the cost of 2.
    """
    rows, columns = (max(1, round(side / reduction)) for side in images.shape[-2:])
    images = resized(images, (rows, columns))
    neighbours = torch.stack(neighbour_views(images, dilations), 1)
    deviation = neighbours.std(1, keepdim=True)
    distances = (neighbours - images.unsqueeze(1)) / (BANDWIDTH * (deviation + DEVIATION_GUARD))
    similarity = (-distances.square().mean(2)).softmax(1)
    position = position_weights(tuple(dilations), images.device)
    weights = similarity + POSITION_WEIGHT * position[:, None, None]
    return PixelKernel(weights.contiguous(), tuple(dilations))


@detached
def propagate(
    kernel: PixelKernel, scores: torch.Tensor, iterations: int = ITERATIONS, pull: float = 1.0
) -> torch.Tensor:
    """`scores` (B, C, h, w) after so many weighted means over each pixel's neighbours.

    With `pull` 1, as published, values grow by 1.01 an iteration (the weights' sum), which an argmax over channels does
    not notice, and a pixel forgets its own scores at once. Below 1 it is a random walk with restart: unsure pixels
    follow their neighbours, sure ones hold.

    Args:
        kernel: of the same batch and grid.
        scores: any number of channels.
        iterations: a larger number spreads further.
        pull: share of the neighbours in each new value; the rest are the scores that were given.
    """
    given = scores
    weights = kernel.weights.unsqueeze(2).unbind(1)
    for _ in range(iterations):
        result = torch.zeros_like(scores)
        for weight, neighbour in zip(weights, neighbour_views(scores, kernel.dilations), strict=True):
            result.addcmul_(weight, neighbour)
        scores = result if pull == 1 else torch.lerp(given, result, pull)
    return scores


@detached
def class_scores(
    cam: torch.Tensor, tags: torch.Tensor, background: float, size: Size, temperature: float = 1.0
) -> torch.Tensor:
    """(B, K, h, w) softmax over background (a constant) and the present classes; absent ones get 0.

    Args:
        cam: (B, T, H, W) in [0, 1].
        tags: (B, T), 1 present, 0 absent, -1 unknown; unknown classes do not compete.
        background: the constant; a larger one leaves less foreground.
        size: (h, w), the CAM is resized to it bilinearly first.
        temperature: of the softmax; published 1, where a sure class has 0.6 and any blur is won by the background.
    """
    small = resized(cam, size)
    present = (tags == TAG_PRESENT)[:, :, None, None]
    competing = small.masked_fill(~present, -torch.inf)
    return torch.cat((torch.full_like(small[:, :1], background), competing), 1).div(temperature).softmax(1)


@detached
def combine_high_low(high_labels: torch.Tensor, low_labels: torch.Tensor, ignore_index: int = IGNORE) -> torch.Tensor:
    """Rule HL: the label under the high background where it is foreground, 0 where both say 0, else ignore."""
    both_background = (high_labels == BACKGROUND) & (low_labels == BACKGROUND)
    unsure = torch.where(both_background, BACKGROUND, ignore_index)
    return torch.where(high_labels != BACKGROUND, high_labels, unsure)


@detached
def refined_labels(
    kernel: PixelKernel,
    scores: torch.Tensor,
    groups: int,
    size: Size,
    iterations: int = ITERATIONS,
    pull: float = 1.0,
) -> list[torch.Tensor]:
    """Labels (B, H, W) of several score maps refined at once.

    Args:
        kernel: of the same batch.
        scores: (B, groups * K, h, w), the score maps one after the other, on the kernel's grid.
        groups: how many score maps.
        size: (H, W) of the labels.
        iterations: of the propagation.
        pull: as in `propagate`.
    """
    refined = resized(propagate(kernel, scores, iterations, pull), size)
    return [one.argmax(1) for one in refined.chunk(groups, 1)]


@detached
def refine_labels(
    kernel: PixelKernel,
    cam: torch.Tensor,
    tags: torch.Tensor,
    high: float,
    low: float,
    pull: float = 1.0,
    temperature: float = 1.0,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """P2, the pixel-refined label (B, H, W): scores under a high and a low background, PAR, rule HL (section 8).

    Args:
        kernel: of the same batch, from `pixel_kernel`.
        cam: (B, T, H, W) in [0, 1].
        tags: (B, T), 1 present, 0 absent, -1 unknown (background is then withheld where that class is active).
        high: background value for "sure foreground".
        low: background value for "sure background".
        pull: as in `propagate`.
        temperature: as in `class_scores`.
        ignore_index: the label of undecided pixels.
    """
    scores = torch.cat([class_scores(cam, tags, value, kernel.size, temperature) for value in (high, low)], 1)
    under_high, under_low = refined_labels(kernel, scores, 2, size_of(cam), pull=pull)
    labels = combine_high_low(under_high, under_low, ignore_index)
    return withhold_background(labels, cam, tags, low, ignore_index)
