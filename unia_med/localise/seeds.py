"""Seeds: the few pixels about which a class activation map is sure (AGMM, section 8)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unia_med.labels import BACKGROUND, IGNORE, TAG_ABSENT, TAG_PRESENT
from unia_med.tensors import detached


@detached
def seed_labels(
    maps: torch.Tensor,
    tags: torch.Tensor,
    high: float = 0.4,
    runner_up: float = 0.8,
    low: float = 0.05,
    erosion_cells: int = 1,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """(B, h, w): classes that clearly win, background where no map is active, ignore elsewhere.

    Where a class of unknown tag is not ruled out, there is no background seed in the image.

    Args:
        maps: (B, T, h, w), normalised to a peak of 1.
        tags: (B, T), 1 present, 0 absent, -1 unknown.
        high: a class needs more than this.
        runner_up: ... and the next class must lie below this share of it.
        low: background where every map is below this.
        erosion_cells: taken off the rim of every seed; the image's border is no rim.
        ignore_index: the label of undecided cells.
    """
    padded = torch.cat((maps, torch.zeros_like(maps[:, :1])), 1)
    (best, second), winner = padded.topk(2, 1)[0].unbind(1), padded.argmax(1) + 1
    labels = torch.where((best > high) & (second < runner_up * best), winner, ignore_index)
    complete = ((tags == TAG_PRESENT) | (tags == TAG_ABSENT)).all(1)[:, None, None]
    labels = torch.where((best < low) & complete, BACKGROUND, labels)
    return _eroded(labels, erosion_cells, ignore_index)


@detached
def fill_missing(labels: torch.Tensor, seeds: torch.Tensor, classes: int, ignore_index: int = IGNORE) -> torch.Tensor:
    """Labels (B, H, W) with unlabelled pixels seeded by those classes of which nothing is labelled in the image.

    So tags alone are seeded entirely, boxes (background known) inside only, and drawn classes not at all.

    Args:
        labels: (B, H, W).
        seeds: (B, H, W), see `seed_labels`.
        classes: K, with background.
        ignore_index: the label of pixels that say nothing.
    """
    numbers = torch.arange(classes, device=labels.device).view(1, -1, 1)
    drawn = (labels.flatten(1).unsqueeze(1) == numbers).any(2)  # (B, K)
    index = torch.where(seeds == ignore_index, 0, seeds)
    wanted = ~drawn.gather(1, index.flatten(1)).view_as(seeds) & (seeds != ignore_index)
    return torch.where((labels == ignore_index) & wanted, seeds, labels)


def _eroded(labels: torch.Tensor, cells: int, ignore_index: int) -> torch.Tensor:
    """Labels whose neighbourhood of that radius holds one label only; others become ignore."""
    if cells == 0:
        return labels
    values = F.pad(labels.float().unsqueeze(1), (cells,) * 4, mode="replicate")
    highest = F.max_pool2d(values, 2 * cells + 1, 1)
    lowest = -F.max_pool2d(-values, 2 * cells + 1, 1)
    return torch.where((highest == lowest).squeeze(1), labels, ignore_index)
