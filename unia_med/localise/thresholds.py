"""From activation maps and tags to label maps by thresholds (UniA specification, section 7)."""

from __future__ import annotations

import torch

from unia_med.labels import BACKGROUND, IGNORE, TAG_ABSENT, TAG_PRESENT
from unia_med.tensors import detached, resized


def allowed_classes(tags: torch.Tensor) -> torch.Tensor:
    """(B, K) bool: background, and every class of tags (B, T) that is not known to be absent."""
    return torch.cat((torch.ones_like(tags[:, :1]), tags != TAG_ABSENT), 1).bool()


@detached
def possible_maps(maps: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Return `maps` (B, T, H, W) with the classes that tags (B, T) call absent set to 0; unknown ones stay."""
    return maps * (tags != TAG_ABSENT)[:, :, None, None]


def _best_class(cam: torch.Tensor, tags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, h, w) highest activation of a present class, and that class (1..T)."""
    value, index = (cam * (tags == TAG_PRESENT)[:, :, None, None]).max(1)
    return value, index + 1


@detached
def three_valued(
    cam: torch.Tensor,
    tags: torch.Tensor,
    high: float,
    low: float,
    valid: torch.Tensor | None = None,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """(B, h, w) training labels: the best present class above `high`, background up to `low`, ignore between.

    Where a class whose tag is unknown is active above `low`, background is not claimed either.

    Args:
        cam: (B, T, h, w) in [0, 1].
        tags: (B, T), 1 present, 0 absent, -1 unknown.
        high: a larger one labels less foreground, more surely.
        low: a larger one labels more background.
        valid: (B, 1, h, w), false where the source image does not reach: those pixels are ignored.
        ignore_index: the label of undecided pixels.
    """
    value, best = _best_class(cam, tags)
    labels = torch.where(value > high, best, ignore_index)
    labels = torch.where(value <= low, BACKGROUND, labels)
    labels = withhold_background(labels, cam, tags, low, ignore_index)
    return labels if valid is None else torch.where(valid.bool().squeeze(1), labels, ignore_index)


@detached
def score_labels(scores: torch.Tensor, tags: torch.Tensor, high: float, low: float) -> torch.Tensor:
    """(B, H, W) labels from class scores: the best class above `high`, background up to `low`, `IGNORE` between.

    A class of unknown tag may win: unlike an activation map, a score is not stretched to 1 somewhere.

    Args:
        scores: (B, K, H, W) in [0, 1], background first.
        tags: (B, T), 1 present, 0 absent, -1 unknown; absent classes count as background.
        high: a class is sure above it; at least 0.5, so that one class passes.
        low: background is sure where all classes together have no more.
    """
    foreground = possible_maps(scores[:, 1:], tags)
    value, best = foreground.max(1)
    labels = torch.where(value > high, best + 1, IGNORE)
    return torch.where(foreground.sum(1) <= low, BACKGROUND, labels)


def possible_tags(tags: torch.Tensor) -> torch.Tensor:
    """Tags (B, T) in which unknown classes count as present, for scores that may name them."""
    return torch.where(tags == TAG_ABSENT, TAG_ABSENT, TAG_PRESENT)


@detached
def two_valued(cam: torch.Tensor, tags: torch.Tensor | None, background: float) -> torch.Tensor:
    """(B, h, w) evaluation labels: the best present class above `background`, else 0.

    Args:
        cam: (B, T, h, w) in [0, 1].
        tags: (B, T), or None to let every class compete.
        background: threshold in [0, 1].
    """
    everything = torch.full(cam.shape[:2], TAG_PRESENT, device=cam.device)
    value, best = _best_class(cam, everything if tags is None else tags)
    return torch.where(value > background, best, BACKGROUND)


@detached
def token_labels(
    cam: torch.Tensor,
    tags: torch.Tensor,
    size: tuple[int, int],
    high: float,
    low: float,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """(B, h, w) `three_valued` labels on the token grid `size`, of the CAM resized to it bilinearly."""
    return three_valued(resized(cam, size), tags, high, low, ignore_index=ignore_index)


@detached
def withhold_background(
    labels: torch.Tensor, cam: torch.Tensor, tags: torch.Tensor, low: float, ignore_index: int = IGNORE
) -> torch.Tensor:
    """`labels` with background turned into ignore where a class of unknown tag is active above `low`.

    The specification knows only complete tags; without this rule an untagged image would be taught as empty.

    Args:
        labels: (B, h, w).
        cam: (B, T, h, w) in [0, 1].
        tags: (B, T), 1 present, 0 absent, -1 unknown.
        low: threshold in [0, 1].
        ignore_index: the label of undecided pixels.
    """
    unknown = (tags != TAG_PRESENT) & (tags != TAG_ABSENT)
    possible = (cam * unknown[:, :, None, None]).amax(1) > low
    return torch.where(possible & (labels == BACKGROUND), ignore_index, labels)
