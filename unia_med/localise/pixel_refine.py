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
_TIE = 1e-5  # of a score: above what the rounding of `ITERATIONS` sums over the neighbours adds up to, on any processor
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class PixelKernel:
    """How much each neighbour counts.

    Attributes:
        weights: (B, J, h, w) float32 of J = 8 * len(dilations) neighbours, over which they sum to one constant; best
            with the neighbours of a pixel next to each other in memory.
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


@functools.lru_cache(maxsize=16)
def neighbour_index(size: Size, dilations: tuple[int, ...], device: torch.device | None = None) -> torch.Tensor:
    """(n, J) int32: where each pixel's neighbours lie among all n, edges repeated. Cached, do not change.

    >>> neighbour_index((2, 2), (1,))[3].tolist()
    [0, 1, 1, 2, 3, 2, 3, 3]
    """
    with torch.inference_mode(False):
        offsets = torch.tensor(neighbour_offsets(dilations), device=device)
        rows, columns = (
            (torch.arange(side, device=device)[:, None] + offset).clamp(0, side - 1)
            for side, offset in zip(size, offsets.T, strict=True)
        )
        return (rows[:, None] * size[1] + columns).flatten(0, 1).int()


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
    flat = images.flatten(2)
    index = neighbour_index(size_of(images), tuple(dilations), images.device)
    # Map by map, several times as fast on a CPU as all at once.
    gathered = torch.stack([one.index_select(0, index.flatten()) for one in flat.flatten(0, 1)])
    neighbours = gathered.view(*flat.shape, index.shape[1])  # (B, C, n, J)
    # Tensor.std takes fifteen times as long on a CPU.
    centred = neighbours - neighbours.mean(3, keepdim=True)
    deviation = centred.square_().sum(3, keepdim=True).div_(neighbours.shape[3] - 1).sqrt_()
    distances = neighbours.sub_(flat.unsqueeze(3)).div_(BANDWIDTH * (deviation + DEVIATION_GUARD))
    similarity = distances.square_().mean(1).neg_().softmax(2)
    weights = similarity.add_(POSITION_WEIGHT * position_weights(tuple(dilations), images.device))
    return PixelKernel(weights.unflatten(1, (rows, columns)).permute(0, 3, 1, 2), tuple(dilations))


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
    if _on_host(scores):
        pairs = zip(kernel.weights, scores, strict=True)
        return torch.stack([_propagated(weights, kernel.dilations, one, iterations, pull) for weights, one in pairs])
    given = scores
    by_neighbour = kernel.weights.contiguous().unsqueeze(2).unbind(1)
    for _ in range(iterations):
        result = torch.zeros_like(scores)
        for weight, neighbour in zip(by_neighbour, neighbour_views(scores, kernel.dilations), strict=True):
            result.addcmul_(weight, neighbour)
        scores = result if pull == 1 else torch.lerp(given, result, pull)
    return scores


def _propagated(
    weights: torch.Tensor, dilations: tuple[int, ...], scores: torch.Tensor, iterations: int, pull: float
) -> torch.Tensor:
    """`propagate` of one slice on a CPU, scores (C, h, w): a weighted sum of rows of a table for each pixel.

    The channels of a pixel lie together, so that its neighbours are gathered once for all of them.
    """
    index = neighbour_index(size_of(scores), dilations)
    rows = weights.permute(1, 2, 0).flatten(0, 1).contiguous()
    given = table = scores.flatten(1).T.contiguous()
    for _ in range(iterations):
        found = F.embedding_bag(index, table, per_sample_weights=rows, mode="sum")
        table = found if pull == 1 else torch.lerp(given, found, pull)
    return table.T.unflatten(1, size_of(scores))


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
    present: torch.Tensor | None = None,
    closed: int = 0,
) -> list[torch.Tensor]:
    """Labels (B, H, W) of several score maps refined at once.

    Args:
        kernel: of the same batch.
        scores: (B, groups * K, h, w), the score maps one after the other, on the kernel's grid.
        groups: how many score maps.
        size: (H, W) of the labels.
        iterations: of the propagation.
        pull: as in `propagate`.
        present: (B, T), false for classes of which all scores are 0: a CPU leaves them out.
        closed: how many of the score maps, the first ones, sum to 1 over K at each pixel: a CPU leaves their
            background out, which is what the others leave over.
    """
    if present is None or not _on_host(scores):
        refined = resized(propagate(kernel, scores, iterations, pull), size)
        return [one.argmax(1) for one in refined.chunk(groups, 1)]
    labels = torch.zeros(groups, len(scores), *size, dtype=torch.long)
    for index, classes in enumerate(present.bool()):
        if classes.any():
            own = PixelKernel(kernel.weights[index : index + 1], kernel.dilations)
            maps = scores[index].unflatten(0, (groups, -1))
            labels[:, index] = _labels_of_slice(
                own, maps, classes.nonzero().flatten() + 1, closed, size, iterations, pull
            )
    return list(labels)


def _labels_of_slice(
    kernel: PixelKernel,
    maps: torch.Tensor,
    classes: torch.Tensor,
    closed: int,
    size: Size,
    iterations: int,
    pull: float,
) -> torch.Tensor:
    """Labels (G, H, W) of the score maps (G, K, h, w) of a slice that holds some classes and background."""
    whole = torch.cat((classes.new_zeros(1), classes))
    channels = torch.cat((maps[:closed, classes].flatten(0, 1), maps[closed:, whole].flatten(0, 1)))
    refined = resized(propagate(kernel, channels[None], iterations, pull), size)[0]
    split = closed * len(classes)
    grown = _grown(kernel, iterations, pull)
    found = []
    if closed:
        value, place = refined[:split].unflatten(0, (closed, -1)).max(1)
        background = grown - refined[:split].unflatten(0, (closed, -1)).sum(1)
        # Where scores are equal, background is first, as in an argmax over all of them.
        found.append(torch.where(value > background + _TIE * grown, classes[place], BACKGROUND))
    if closed < len(maps):
        found.append(whole[refined[split:].unflatten(0, (len(maps) - closed, -1)).max(1).indices])
    return torch.cat(found)


def _on_host(scores: torch.Tensor) -> bool:
    """Whether values may be looked at: on a GPU that would stall it."""
    return scores.device.type == "cpu"


def _grown(kernel: PixelKernel, iterations: int, pull: float) -> float:
    """Return what a map of ones is after the propagation."""
    total, value = kernel.weights[0, :, 0, 0].sum().item(), 1.0
    for _ in range(iterations):
        value = 1 - pull + pull * total * value
    return value


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
    present = tags == TAG_PRESENT
    under_high, under_low = refined_labels(kernel, scores, 2, size_of(cam), pull=pull, present=present, closed=2)
    labels = combine_high_low(under_high, under_low, ignore_index)
    return withhold_background(labels, cam, tags, low, ignore_index)
