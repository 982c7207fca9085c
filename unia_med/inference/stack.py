"""Smoothing of class probabilities along the stack: what a slice shows is also a sign of its neighbours.

A network that sees one slice at a time may take one ventricle for the other in a single slice; the slices above and
below know better. Probabilities are averaged, not labels, so that a slice without a doubt stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

_REACH = 4
"""Standard deviations after which the Gaussian ends."""


def smooth_stack(probabilities: Tensor, sigma: float) -> Tensor:
    """Return the mean of each slice with its neighbours, weighted by a Gaussian; the outermost slices are repeated.

    Args:
        probabilities: (Z, K, H, W) in [0, 1] of the slices of one volume, in their order.
        sigma: standard deviation of the Gaussian in slices; 0 leaves them as they are.

    >>> stack = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).view(5, 1, 1, 1)
    >>> [round(value, 3) for value in smooth_stack(stack, 0.6).flatten().tolist()]
    [0.003, 0.166, 0.664, 0.166, 0.003]
    """
    parts = smooth_parts([(probabilities, probabilities[:, :0])], sigma)
    return torch.cat([smoothed for smoothed, _ in parts])


def smooth_parts(parts: Iterable[tuple[Tensor, Tensor]], sigma: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Smooth a stack that comes in parts, of which few are in memory at once.

    Args:
        parts: probabilities (z, K, H, W) and other maps (z, C, H, W) of consecutive slices, one slice or more each.
        sigma: see `smooth_stack`.

    Yields:
        The same slices in the same order, in parts of other lengths; the other maps are left as they are.
    """
    weights = _gaussian(sigma)
    reach = len(weights) // 2
    if not reach:
        yield from parts
        return
    held: Tensor | None = None
    waiting: Tensor | None = None  # other maps of the slices that are not given out yet
    for part, others in parts:
        held = torch.cat([part[:1].expand(reach, *part.shape[1:]), part] if held is None else [held, part])
        waiting = others if waiting is None else torch.cat([waiting, others])
        ready = len(held) - 2 * reach
        if ready > 0:
            yield _averaged(held, weights), waiting[:ready]
            held, waiting = held[ready:], waiting[ready:]
    if held is not None and waiting is not None:
        yield _averaged(torch.cat([held, held[-1:].expand(reach, *held.shape[1:])]), weights), waiting


def _gaussian(sigma: float) -> list[float]:
    """Weights with sum 1 of the slices from -reach to reach."""
    reach = int(_REACH * sigma + 0.5)
    heights = [math.exp(-0.5 * (step / sigma) ** 2) if step else 1.0 for step in range(-reach, reach + 1)]
    return [height / sum(heights) for height in heights]


def _averaged(slices: Tensor, weights: list[float]) -> Tensor:
    """Weighted means (z - 2 reach, K, H, W) of slices (z, K, H, W) that have all their neighbours."""
    count = len(slices) - len(weights) + 1
    total = slices[:count] * weights[0]
    for first, weight in enumerate(weights[1:], 1):
        total = total.add(slices[first : first + count], alpha=weight)
    return total
