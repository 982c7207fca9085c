"""Labels that follow the attention between tokens (UniA specification, sections 9 and 10)."""

from __future__ import annotations

import functools
from typing import Literal

import torch
import torch.nn.functional as F

from unia_med.labels import IGNORE, TAG_PRESENT
from unia_med.localise.pixel_refine import (
    PixelKernel,
    class_scores,
    combine_high_low,
    refined_labels,
)
from unia_med.localise.thresholds import withhold_background
from unia_med.tensors import Size, detached, resized, size_of

AffinityNorm = Literal["sinkhorn", "column", "none"]
SINKHORN_ROUNDS = 3
COLUMN_GUARD = 0.1  # section 10, published evaluation column


@functools.lru_cache(maxsize=32)
def radius_mask(height: int, width: int, radius: int, device: torch.device) -> torch.Tensor:
    """(N, N) booleans: tokens at most `radius` rows and `radius` columns apart. Cached; do not change it in place.

    >>> radius_mask(28, 28, 7, torch.device("cpu")).float().sum(1).mean().round().item()
    169.0
    """
    with torch.inference_mode(False):
        rows = torch.arange(height, device=device).repeat_interleave(width)
        columns = torch.arange(width, device=device).repeat(height)
        near_rows = (rows.unsqueeze(1) - rows).abs() <= radius
        return near_rows & ((columns.unsqueeze(1) - columns).abs() <= radius)


@detached
def normalise_affinity(
    affinity: torch.Tensor,
    near: torch.Tensor | None = None,
    norm: AffinityNorm = "sinkhorn",
    power: int = 2,
    steps: int = 1,
) -> torch.Tensor:
    """(B, N, N) matrix to propagate with; the input is left as it is.

    Args:
        affinity: (B, N, N), not negative.
        near: (N, N), pairs within the radius, from `radius_mask`; others become 0. None for all.
        norm: `sinkhorn` makes rows and columns sum to 1, so that hub tokens do not dominate; `column` divides each
            column by its sum + 0.1, the published evaluation; `none` is the published training: the raw matrix
            without radius, power or scaling (`near`, `power` and `steps` then have no effect).
        power: elementwise; a larger one keeps only strong relations.
        steps: matrix power, how far labels travel.
    """
    if norm == "none":
        return affinity
    kept = (affinity if near is None else affinity * near) ** power
    matrix = _doubly_stochastic(kept) if norm == "sinkhorn" else kept / (kept.sum(1, keepdim=True) + COLUMN_GUARD)
    return torch.linalg.matrix_power(matrix, steps) if steps > 1 else matrix


def _doubly_stochastic(matrix: torch.Tensor) -> torch.Tensor:
    """Three rounds of dividing columns, then rows, by their sums; symmetrised (section 10, steps 2 and 3).

    Only the accumulated factors are updated: a matrix-vector product a round in place of two passes that write N x N.
    """
    tiny = torch.finfo(matrix.dtype).tiny
    row_factors = torch.ones_like(matrix[:, :, :1])
    for _ in range(SINKHORN_ROUNDS):
        column_factors = 1 / _times(matrix.transpose(1, 2), row_factors).clamp(min=tiny)
        row_factors = 1 / _times(matrix, column_factors).clamp(min=tiny)
    scaled = (matrix * row_factors).mul_(column_factors.transpose(1, 2))
    return (scaled + scaled.transpose(1, 2)).div_(2)


def _times(matrix: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """(B, N, 1) products of matrices (B, N, N) and vectors (B, N, 1)."""
    if matrix.device.type != "cpu":
        return torch.bmm(matrix, vectors)
    # A product of a batch whose columns are single takes a CPU three times as long.
    pairs = zip(matrix, vectors.squeeze(2), strict=True)
    return torch.stack([torch.mv(one, vector) for one, vector in pairs]).unsqueeze(2)


@detached
def propagate_affinity(scores: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w): S'_k(i) = sum_j S_k(j) A(j, i) for `scores` (B, K, h, w) and `matrix` (B, N, N)."""
    return torch.bmm(scores.flatten(2), matrix).view_as(scores)


@detached
def affinity_scores(
    cam: torch.Tensor,
    tags: torch.Tensor,
    matrix: torch.Tensor,
    background: float,
    grid: Size,
    temperature: float = 1.0,
) -> torch.Tensor:
    """(B, K, h, w) class scores on the token grid, propagated.

    Args:
        cam: (B, T, H, W) in [0, 1].
        tags: (B, T), 1 present, 0 absent, -1 unknown.
        matrix: (B, N, N), from `normalise_affinity`.
        background: constant score of background before the softmax.
        grid: (h, w) with h * w = N.
        temperature: as in `class_scores`.
    """
    return propagate_affinity(class_scores(cam, tags, background, grid, temperature), matrix)


@detached
def pixel_and_affinity_labels(
    kernel: PixelKernel,
    cam: torch.Tensor,
    tags: torch.Tensor,
    matrix: torch.Tensor,
    grid: Size,
    high: float,
    low: float,
    pull: float = 1.0,
    temperature: float = 1.0,
    keep_detail: bool = False,
    ignore_index: int = IGNORE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(P2, P3): the pixel-refined and the affinity-refined label (B, H, W), in one propagation (sections 8 and 10).

    P3 is propagation on tokens, then PAR, rule HL; P2 as from `refine_labels`.

    Args:
        kernel: of the same batch, from `pixel_refine.pixel_kernel`.
        cam: (B, T, H, W) in [0, 1].
        tags: (B, T), 1 present, 0 absent, -1 unknown.
        matrix: (B, N, N), from `normalise_affinity`.
        grid: (h, w) with h * w = N.
        high: background value for "sure foreground".
        low: background value for "sure background".
        pull: as in `pixel_refine.propagate`.
        temperature: as in `pixel_refine.class_scores`.
        keep_detail: propagate what tokens change in place of token scores. On activation maps, which live on tokens,
            it comes to the same; of scores that are finer, such as a prior's, nothing smaller than a token is lost.
        ignore_index: the label of undecided pixels.
    """
    pixel = [class_scores(cam, tags, background, kernel.size, temperature) for background in (high, low)]
    if keep_detail:
        moved = [_moved(scores, matrix, grid) for scores in pixel]
    else:
        tokens = [affinity_scores(cam, tags, matrix, value, grid, temperature) for value in (high, low)]
        moved = [resized(scores, kernel.size) for scores in tokens]
    present, stacked = tags == TAG_PRESENT, torch.cat([*pixel, *moved], 1)
    labels = refined_labels(kernel, stacked, 4, size_of(cam), pull=pull, present=present, closed=2)
    combined = (combine_high_low(*pair, ignore_index) for pair in zip(labels[::2], labels[1::2], strict=True))
    second, third = (withhold_background(one, cam, tags, low, ignore_index) for one in combined)
    return second, third


def _moved(scores: torch.Tensor, matrix: torch.Tensor, grid: Size) -> torch.Tensor:
    """Scores (B, K, h', w') with the change that propagation makes to their means on tokens, enlarged."""
    means = F.adaptive_avg_pool2d(scores, grid)
    return scores + resized(propagate_affinity(means, matrix) - means, size_of(scores))


@detached
def affinity_map(
    cam: torch.Tensor,
    tags: torch.Tensor,
    matrix: torch.Tensor,
    grid: Size,
    background: float = 0.5,
) -> torch.Tensor:
    """(B, H, W) the evaluation column: propagated, enlarged, no PAR, nothing ignored; arguments as above."""
    scores = affinity_scores(cam, tags, matrix, background, grid)
    return resized(scores, size_of(cam)).argmax(1)
