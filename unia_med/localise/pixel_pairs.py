"""Pairs of near cells, as shifted views of maps: no index tables, no gathered features (AffinityNet specification, 5).

A pair map (B, P, h, w) holds at (p, y, x) what belongs to the cells (y, x) and (y, x) + offset p. Where the second cell
lies outside the grid the entry is 0 and `inside` is false. The whole grid is used, borders included.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.tensors import detached

Offset = tuple[int, int]


def pair_offsets(radius: float) -> list[Offset]:
    """(rows, columns) to every neighbour nearer than `radius` cells, one of each symmetric pair.

    Example:
        >>> [len(pair_offsets(radius)) for radius in (3, 4, 5, 6, 8, 10)]
        [12, 22, 34, 54, 96, 152]
    """
    reach = math.ceil(radius)
    square = ((y, x) for y in range(reach) for x in range(-reach + 1, reach))
    return [(y, x) for y, x in square if (y > 0 or x > 0) and y * y + x * x < radius * radius]


def first_view(maps: Tensor, offset: Offset) -> Tensor:
    """Return the part of `maps` (..., h, w) where a pair of this offset begins."""
    height, width = maps.shape[-2:]
    rows, columns = offset
    return maps[..., : max(height - rows, 0), max(-columns, 0) : max(width - max(columns, 0), 0)]


def second_view(maps: Tensor, offset: Offset) -> Tensor:
    """Return the part of `maps` (..., h, w) where a pair of this offset ends; same shape as `first_view`."""
    width = maps.shape[-1]
    rows, columns = offset
    return maps[..., rows:, max(columns, 0) : max(width - max(-columns, 0), 0)]


def inside(size: tuple[int, int], offsets: list[Offset], device: torch.device | None = None) -> Tensor:
    """(P, h, w) bool: both cells of the pair are on the grid."""
    known = torch.zeros(len(offsets), *size, dtype=torch.bool, device=device)
    for index, offset in enumerate(offsets):
        first_view(known[index], offset).fill_(True)
    return known


class _MeanDifference(torch.autograd.Function):
    """Mean absolute difference over channels; keeps the features alone and takes the differences again backwards."""

    @staticmethod
    def forward(context: Any, features: Tensor, offsets: list[Offset]) -> Tensor:
        context.save_for_backward(features)
        context.offsets = offsets
        batch, _, height, width = features.shape
        result = features.new_zeros(batch, len(offsets), height, width)
        for index, offset in enumerate(offsets):
            difference = first_view(features, offset) - second_view(features, offset)
            first_view(result[:, index], offset).copy_(difference.abs_().mean(1))
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (features,) = context.saved_tensors
        result = torch.zeros_like(features)
        scaled = gradient / features.shape[1]
        for index, offset in enumerate(context.offsets):
            slope = (first_view(features, offset) - second_view(features, offset)).sign_()
            slope *= first_view(scaled[:, index], offset).unsqueeze(1)
            first_view(result, offset).add_(slope)
            second_view(result, offset).sub_(slope)
        return result, None


def feature_distances(features: Tensor, offsets: list[Offset]) -> Tensor:
    """(B, P, h, w) mean over channels of |f(i) - f(j)|, the distance of AffinityNet [5]; differentiable once.

    Memory is that of the result: gathering the pairs would need P times the features, twice.

    Args:
        features: (B, E, h, w).
        offsets: from `pair_offsets`.
    """
    return _MeanDifference.apply(features, offsets)


def path_cells(offset: Offset) -> list[Offset]:
    """Cells less than one cell away from the line between a cell and its neighbour, ends included (IRN).

    Example:
        >>> path_cells((0, 2)), path_cells((1, 2))
        ([(0, 0), (0, 1), (0, 2)], [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
    """
    rows, columns = offset
    step = 1 if columns >= 0 else -1
    box = ((y, x) for y in range(rows + 1) for x in range(0, columns + step, step))
    return [(y, x) for y, x in box if (rows * x - columns * y) ** 2 < rows * rows + columns * columns]


def path_maxima(edges: Tensor, offsets: list[Offset]) -> Tensor:
    """(B, P, h, w) largest value of `edges` (B, 1, h, w) on the way from one cell of a pair to the other (IRN).

    Args:
        edges: edge logits, or anything that grows with them.
        offsets: from `pair_offsets`.
    """
    flat = edges[:, 0]
    height, width = flat.shape[-2:]
    maps = []
    for rows, columns in offsets:
        start = min(max(-columns, 0), width)
        tall, wide = max(height - rows, 0), max(width - abs(columns), 0)
        cells = path_cells((rows, columns))
        views = [flat[:, y : y + tall, start + x : start + x + wide] for y, x in cells]
        highest = torch.stack(views).amax(0)
        maps.append(F.pad(highest, (start, width - wide - start, 0, height - tall)))
    return torch.stack(maps, 1)


@detached
def pair_kinds(labels: Tensor, offsets: list[Offset]) -> tuple[Tensor, Tensor, Tensor]:
    """Which pairs are both background, both of one class, and of two classes [4]; three bool (B, P, h, w).

    Pairs with an unlabelled end belong to none of the three.

    Args:
        labels: (B, h, w), `IGNORE` where nothing is known.
        offsets: from `pair_offsets`.
    """
    shape = (labels.shape[0], len(offsets), *labels.shape[-2:])
    kinds = [torch.zeros(shape, dtype=torch.bool, device=labels.device) for _ in range(3)]
    for index, offset in enumerate(offsets):
        one, other = first_view(labels, offset), second_view(labels, offset)
        known = (one != IGNORE) & (other != IGNORE)
        same = known & (one == other)
        found = (same & (one == BACKGROUND), same & (one != BACKGROUND), known & (one != other))
        for kind, values in zip(kinds, found, strict=True):
            first_view(kind[:, index], offset).copy_(values)
    return kinds[0], kinds[1], kinds[2]


@detached
def grid_labels(labels: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """(B, h, w) labels of coarser cells: the one class that is labelled in a cell, `IGNORE` where none or two are [11].

    Averaging would erase lines of one pixel.

    Args:
        labels: (B, H, W) with `IGNORE`.
        size: (h, w).
        classes: K.
    """
    present = torch.stack([(labels == label).float() for label in range(classes)], 1)
    there = F.adaptive_max_pool2d(present, size) > 0
    return torch.where(there.sum(1) == 1, there.int().argmax(1), IGNORE)
