"""Test-time augmentation: the mean of the probabilities over mirrored and rescaled views of a slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.config.schema import TestTimeConfig

STRIDE = 16
"""Sides of rescaled slices are multiples of this many pixels, as the backbones' strides need."""


DEFAULT_SCALES = (0.875, 1.0, 1.125)
"""Views where the config names none but the plain one; 112, 128 and 144 pixels of 128."""


def chosen_views(config: TestTimeConfig, wanted: bool | None = True) -> tuple[bool, tuple[float, ...]]:
    """Return whether views are mirrored, and their scales.

    Args:
        config: as set; one that names the plain view alone stands for `DEFAULT_SCALES`.
        wanted: whether views are averaged at all; None: where the config does so by default.
    """
    if not (config.by_default if wanted is None else wanted):
        return False, (1.0,)
    scales = tuple(config.scales)
    return config.flips, DEFAULT_SCALES if not config.flips and scales == (1.0,) else scales


def predict_views(
    predict: Callable[[Tensor], Tensor], images: Tensor, flips: bool = False, scales: Sequence[float] = (1.0,)
) -> Tensor:
    """Mean probabilities over all views, each brought back to the slice's own grid.

    Probabilities are averaged, not logits and not by maximum (as in Yang et al. 2025), so that the result is a
    probability and its entropy means something.

    Args:
        predict: slices (B, C, H, W) to probabilities (B, K, H, W); called once per view.
        images: (B, C, H, W).
        flips: add the view mirrored along W.
        scales: sizes relative to the slice; 1.0 is the slice itself, untouched.
    """
    total: Tensor | None = None
    for scale in scales:
        scaled = _rescale(images, scale)
        for mirrored in (False, True) if flips else (False,):
            view = predict(scaled.flip(-1) if mirrored else scaled)
            view = view.flip(-1) if mirrored else view
            view = view if view.shape[-2:] == images.shape[-2:] else _resize(view, images.shape[-2:])
            total = view if total is None else total + view
    if total is None:
        raise ValueError("scales is empty")
    return total / (len(scales) * (2 if flips else 1))


def _rescale(images: Tensor, scale: float) -> Tensor:
    if scale == 1.0:
        return images
    sides = [max(STRIDE, STRIDE * round(scale * side / STRIDE)) for side in images.shape[-2:]]
    return _resize(images, sides)


def _resize(images: Tensor, size: Sequence[int] | torch.Size) -> Tensor:
    return F.interpolate(images, size=tuple(size), mode="bilinear", align_corners=False)
