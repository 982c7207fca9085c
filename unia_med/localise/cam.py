"""Class activation maps over scales and mirrors (UniA specification, section 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from unia_med.tensors import Size, resized, size_of

MapsFunction = Callable[[torch.Tensor], Sequence[torch.Tensor]]


@torch.no_grad()
def multi_scale_maps(
    images: torch.Tensor,
    maps: MapsFunction,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    unscaled: Sequence[torch.Tensor] | None = None,
    size: Size | None = None,
) -> tuple[torch.Tensor, ...]:
    """Sum over scales of the rectified maps, the larger of each image and its mirror; not normalised.

    Args:
        images: (B, C, H, W).
        maps: gives for a batch of images one or more maps (B, T, h, w), such as the CAM and the auxiliary CAM.
        scales: factors on the image size; each costs one forward pass, two with `flip`.
        flip: also look at the mirror image. Off where left and right differ between classes.
        unscaled: the maps at scale 1 without mirror if the caller has them already: saves that pass.
        size: (rows, columns) of the result; None for (H, W).

    Returns:
        As many (B, T, rows, columns) float32 tensors as `maps` gives.
    """
    target = size or size_of(images)
    totals: list[torch.Tensor] = []
    for scale in scales:
        scaled = _rescaled(images, scale)
        found = unscaled if scale == 1 and unscaled is not None else maps(scaled)
        views = [resized(one.detach().float(), target) for one in found]
        if flip:
            mirrored = [resized(one.detach().float(), target).flip(-1) for one in maps(scaled.flip(-1))]
            views = [torch.maximum(one, other) for one, other in zip(views, mirrored, strict=True)]
        rectified = [one.relu() for one in views]
        totals = [a + b for a, b in zip(totals, rectified, strict=True)] if totals else rectified
    return tuple(totals)


def _rescaled(images: torch.Tensor, scale: float) -> torch.Tensor:
    height, width = size_of(images)
    return images if scale == 1 else resized(images, (int(scale * height), int(scale * width)))
