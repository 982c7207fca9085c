"""Label maps of image size brought to the token grid: class numbers are never interpolated (A11, A14)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.tensors import detached, resized


@detached
def nearest_labels(labels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, h, w): the label (B, H, W) at the centre of each cell of a grid of `size`."""
    rows, columns = (
        (2 * torch.arange(target, device=labels.device) + 1) * source // (2 * target)
        for source, target in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[:, rows.unsqueeze(1), columns]


@detached
def majority_labels(
    labels: torch.Tensor,
    size: tuple[int, int],
    classes: int,
    purity: float = 0.0,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """(B, h, w): the most frequent label of each cell of a grid of `size`, ignore counted as a label of its own.

    Args:
        labels: (B, H, W), 0..classes-1 or `ignore_index`.
        size: (h, w) of the token grid.
        classes: K, with background.
        purity: cells whose winner covers a smaller share than this are ignored: takes out tokens on class borders.
        ignore_index: the label of undecided pixels.
    """
    indices = torch.where(labels == ignore_index, classes, labels)
    shares = F.one_hot(indices, classes + 1).movedim(-1, 1).float()
    share, winner = F.adaptive_avg_pool2d(shares, size).max(1)
    return torch.where((winner == classes) | (share < purity), ignore_index, winner)


@detached
def sampled_foreground(labels: torch.Tensor, size: tuple[int, int], ignore_index: int = IGNORE) -> torch.Tensor:
    """(B, h, w) float32: "is a foreground class", resized bilinearly as published, from few pixels a cell (A14)."""
    foreground = (labels != BACKGROUND) & (labels != ignore_index)
    return resized(foreground.float().unsqueeze(1), size).squeeze(1)


@detached
def foreground_share(labels: torch.Tensor, size: tuple[int, int], ignore_index: int = IGNORE) -> torch.Tensor:
    """(B, h, w) float32 in [0, 1]: area mean of "is a foreground class" (target of section 4); ignore counts as not."""
    foreground = (labels != BACKGROUND) & (labels != ignore_index)
    return F.adaptive_avg_pool2d(foreground.float().unsqueeze(1), size).squeeze(1)
