"""Random walks on a pixel grid: scores spread along affinities, or labels from trusted seeds.

W is symmetric with W_ii = 1, D its row sums, T = D^-1 W; a walk of t steps gives T^t m (AffinityNet specification, 6).
Two exact evaluations: squaring a dense T, and applying a stencil t times; the first suits small grids on a GPU.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unia_med.localise.pixel_pairs import Offset, first_view, inside, second_view
from unia_med.tensors import detached, size_of

Evaluation = Literal["auto", "dense", "stencil"]
DENSE_CELLS = {"cuda": 1024, "cpu": 300}
"""Largest grid that `auto` squares, by device: below, thousands of small steps cost more than eight products. The
number for a CPU lies between 256 cells, where squaring was faster on one core, and 576, where it was as fast; that for
CUDA is the specification's."""


@detached
def pair_weights(
    costs: Tensor, beta: float, offsets: list[Offset], valid: Tensor | None = None, smallest: float = 0.0
) -> Tensor:
    """W^beta = exp(-beta * cost) of each pair (B, P, h, w), 0 where a cell is off the grid or not valid.

    Args:
        costs: (B, P, h, w), -log W.
        beta: sharpness; a larger one spreads less across weak links.
        offsets: of the pairs.
        valid: (B, h, w) bool, false in padding, which would drain scores from its neighbours.
        smallest: lower bound of a weight on the grid; above 0 every cell stays linked.
    """
    weights = torch.exp(-beta * costs).clamp(min=smallest)
    weights = weights * inside(size_of(costs), offsets, costs.device)
    if valid is not None:
        for index, offset in enumerate(offsets):
            both = first_view(valid, offset) & second_view(valid, offset)
            first_view(weights[:, index], offset).mul_(both)
    return weights


@detached
def random_walk(
    weights: Tensor, scores: Tensor, offsets: list[Offset], log2_steps: int = 8, evaluation: Evaluation = "auto"
) -> Tensor:
    """T^t applied to each score map, t = 2^log2_steps; (B, C, h, w) float32.

    Args:
        weights: (B, P, h, w), from `pair_weights`.
        scores: (B, C, h, w).
        offsets: of the pairs.
        log2_steps: a larger number spreads further; published 8.
        evaluation: `auto` picks by grid size and device; the two agree up to rounding.
    """
    cells = scores.shape[-2] * scores.shape[-1]
    dense = evaluation == "dense" or (evaluation == "auto" and cells <= DENSE_CELLS.get(scores.device.type, 0))
    if dense:
        return _squared(weights, scores, offsets, log2_steps)
    ones = torch.ones_like(scores[:, :1])
    scale = (1 + _gather(weights, ones, offsets)).reciprocal()
    # Two buffers whose views are cut once: on small grids, cutting them takes longer than all arithmetic.
    here, there = scores.clone(), torch.empty_like(scores)
    ways = [(here, there, _links(weights, here, there, offsets)), (there, here, _links(weights, there, here, offsets))]
    for step in range(2**log2_steps):
        source, target, links = ways[step % 2]
        target.copy_(source)
        for part, weight, neighbour in links:
            part.addcmul_(weight, neighbour)
        target.mul_(scale)
    return ways[2**log2_steps % 2][0]


@detached
def absorbing_walk(
    weights: Tensor,
    seeds: Tensor,
    seeded: Tensor,
    offsets: list[Offset],
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> Tensor:
    """Chance that a walk from each cell meets a seed of each class first: (B, C, h, w), 0 where no seed is in reach.

    Seeds stay as they are. Solves (D - W)_uu X_u = W_us Y_s, the symmetric form of (I - T_uu) X_u = T_us Y_s, by
    conjugate gradients with the diagonal as preconditioner, for all images and classes at once.

    Args:
        weights: (B, P, h, w).
        seeds: (B, C, h, w), scores of the seeds; read where `seeded`.
        seeded: (B, h, w) bool, cells whose scores are trusted.
        offsets: of the pairs.
        tolerance: residual, relative to the start's, at which to stop.
        iterations: at most so many.
    """
    free = (~seeded).unsqueeze(1).to(seeds.dtype)
    fixed = seeds * (1 - free)
    degree = _gather(weights, torch.ones_like(free), offsets)
    inverse = torch.where(degree > 0, degree, torch.ones_like(degree)).reciprocal() * free
    residual = _gather(weights, fixed, offsets) * free
    found = torch.zeros_like(fixed)
    goal = tolerance * residual.square().sum((2, 3), keepdim=True).sqrt()
    preconditioned = inverse * residual
    direction = preconditioned
    energy = (residual * preconditioned).sum((2, 3), keepdim=True)
    for _ in range(iterations):
        if bool((residual.square().sum((2, 3), keepdim=True).sqrt() <= goal).all()):
            break
        image = (degree * direction - _gather(weights, direction, offsets)) * free
        step = energy / (direction * image).sum((2, 3), keepdim=True).clamp(min=1e-30)
        found = found + step * direction
        residual = residual - step * image
        preconditioned = inverse * residual
        earlier, energy = energy, (residual * preconditioned).sum((2, 3), keepdim=True)
        direction = preconditioned + energy / earlier.clamp(min=1e-30) * direction
    return (found + fixed).clamp(0, 1)


def dense_transition(weights: Tensor, offsets: list[Offset]) -> Tensor:
    """T as a (B, n, n) matrix, n = h * w; for small grids.

    Args:
        weights: (B, P, h, w).
        offsets: of the pairs.
    """
    batch, _, height, width = weights.shape
    cells = height * width
    number = torch.arange(cells, device=weights.device).view(height, width)
    matrix = torch.eye(cells, device=weights.device, dtype=weights.dtype).repeat(batch, 1, 1)
    for index, offset in enumerate(offsets):
        one, other = first_view(number, offset).flatten(), second_view(number, offset).flatten()
        values = first_view(weights[:, index], offset).flatten(1)
        matrix[:, one, other] = values
        matrix[:, other, one] = values
    return matrix / matrix.sum(2, keepdim=True)


def _squared(weights: Tensor, scores: Tensor, offsets: list[Offset], log2_steps: int) -> Tensor:
    matrix = dense_transition(weights, offsets)
    for _ in range(log2_steps):
        matrix = matrix @ matrix
        matrix = matrix / matrix.sum(2, keepdim=True)  # rounding would let scores grow or fade
    flat = scores.flatten(2).transpose(1, 2)
    return (matrix @ flat).transpose(1, 2).reshape(scores.shape)


def _gather(weights: Tensor, maps: Tensor, offsets: list[Offset]) -> Tensor:
    """Sum over the neighbours j of w_ij m_j, both ways along each offset, without the cell itself."""
    total = torch.zeros_like(maps)
    for part, weight, neighbour in _links(weights, maps, total, offsets):
        part.addcmul_(weight, neighbour)
    return total


def _links(
    weights: Tensor, source: Tensor, target: Tensor, offsets: list[Offset]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Both ways along each offset: the part of `target` that receives, the weights, the part of `source` that gives."""
    links = []
    for index, offset in enumerate(offsets):
        weight = first_view(weights[:, index : index + 1], offset)
        links.append((first_view(target, offset), weight, second_view(source, offset)))
        links.append((second_view(target, offset), weight, first_view(source, offset)))
    return links
