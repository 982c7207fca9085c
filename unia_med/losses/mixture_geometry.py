"""Distances, means and interpolation behind `gaussian_mixture`: no Gaussians here, only arithmetic on tensors.

B images, J Gaussians, K classes, N = h * w grid cells, E channels; `owner` (J,) is the class of each Gaussian.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.tensors import promoted, resized, size_of

FAR_BELOW = -1e8  # the log density of a Gaussian that does not exist; finite, so that gradients stay finite
_CHANNELS_AT_ONCE = 32  # bounds the memory of the distance's backward pass on a GPU


def normalise_features(features: Tensor, valid: Tensor | None = None) -> Tensor:
    """Features (B, E, h, w) float32 with mean 0 and variance 1 per image and channel, so that distances have a scale.

    Args:
        features: of any precision.
        valid: (B, 1, H, W), 1 inside the source image; padding is left out of the statistics. None for everywhere.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = promoted(features)
        inside = torch.ones_like(features[:, :1])
        if valid is not None:
            inside = F.adaptive_avg_pool2d(valid.to(features.dtype), size_of(features))
        count = inside.sum((2, 3), keepdim=True).clamp(min=1e-6)
        centred = features - (features * inside).sum((2, 3), keepdim=True) / count
        variance = (centred.square() * inside).sum((2, 3), keepdim=True) / count
        return centred * torch.rsqrt(variance + 1e-5)


def labelled_masks(labels: Tensor, classes: int) -> Tensor:
    """(B, K, H, W) bool: where each class is labelled, from labels (B, H, W)."""
    return labels.unsqueeze(1) == torch.arange(classes, device=labels.device).view(1, -1, 1, 1)


def interpolation_matrix(source: int, target: int, like: Tensor) -> Tensor:
    """(target, source): the bilinear enlargement of one axis, as `F.interpolate` without aligned corners does it.

    Args:
        source: length before.
        target: length after.
        like: gives type and device.
    """
    basis = torch.eye(source, dtype=like.dtype, device=like.device).unsqueeze(0)
    return F.interpolate(basis, size=target, mode="linear", align_corners=False)[0].T


def pull_down(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, C, h, w): the transposed enlargement of maps (B, C, H, W); sums over the image stay what they were.

    For any features f on the grid, sum of maps * enlarged(f) over pixels = sum of pull_down(maps) * f over cells.
    """
    rows = interpolation_matrix(grid[0], maps.shape[-2], maps)
    columns = interpolation_matrix(grid[1], maps.shape[-1], maps)
    return rows.T @ maps @ columns


def with_position(features: Tensor, weight: float) -> Tensor:
    """Features (B, E, h, w) with two channels of place, so that the mean distance grows by weight * |offset|.

    Args:
        features: on any grid.
        weight: contribution of an offset of half an image side along one axis, times 2; 0 adds nothing.
    """
    if weight == 0:
        return features
    height, width = features.shape[-2:]
    scale = weight * (features.shape[1] + 2) / 2
    rows = (2 * torch.arange(height, device=features.device, dtype=features.dtype) + 1) / height - 1
    columns = (2 * torch.arange(width, device=features.device, dtype=features.dtype) + 1) / width - 1
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij")) * scale
    return torch.cat((features, place.expand(len(features), -1, -1, -1)), 1)


def with_intensity(features: Tensor, images: Tensor, weight: float) -> Tensor:
    """Features (B, E, h, w) with the image's channels, so that the mean distance grows by weight * |difference|.

    Args:
        features: on any grid.
        images: (B, C, H, W) in [0, 1]; averaged over each cell.
        weight: contribution of a difference of 1 in all channels; 0 adds nothing.
    """
    if weight == 0:
        return features
    channels = images.shape[1]
    scale = weight * (features.shape[1] + channels) / channels
    return torch.cat((features, scale * F.adaptive_avg_pool2d(images.to(features.dtype), size_of(features))), 1)


def distances(cells: Tensor, centres: Tensor) -> Tensor:
    """(B, J, N): mean absolute difference over channels, without a (B, J, E, N) tensor of differences.

    Args:
        cells: (B, N, E).
        centres: (B, J, E).
    """
    parts = zip(cells.split(_CHANNELS_AT_ONCE, 2), centres.split(_CHANNELS_AT_ONCE, 2), strict=True)
    sums = [torch.cdist(b.contiguous(), a.contiguous(), p=1) for a, b in parts]
    return functools.reduce(torch.add, sums) / cells.shape[2]


def squared_distances(cells: Tensor, centres: Tensor) -> Tensor:
    """(B, J, N): squared Euclidean distances of cells (B, N, E) to centres (B, J, E)."""
    products = centres @ cells.transpose(1, 2)
    return (cells.square().sum(2).unsqueeze(1) + centres.square().sum(2, keepdim=True) - 2 * products).clamp(min=0)


def weighted_means(cells: Tensor, weights: Tensor) -> Tensor:
    """(B, J, E): means of cells (B, N, E) under weights (B, J, N); 0, with a gradient path, where all weights are 0."""
    return weights @ cells / weights.sum(2, keepdim=True).clamp(min=1e-6)


def per_class_sum(values: Tensor, owner: Tensor, classes: int) -> Tensor:
    """(B, K, N): values (B, J, N) added up over the Gaussians of each class."""
    membership = (owner == torch.arange(classes, device=owner.device).unsqueeze(1)).to(values.dtype)
    return membership @ values


def per_class_max(values: Tensor, owner: Tensor, classes: int) -> Tensor:
    """(B, K, N): the highest of values (B, J, N) over the Gaussians of each class."""
    if len(owner) == classes:
        return values
    index = owner.view(1, -1, 1).expand_as(values)
    empty = values.new_full((values.shape[0], classes, values.shape[2]), -torch.inf)
    return empty.scatter_reduce(1, index, values, "amax")


def nearest_in_class(far: Tensor, owner: Tensor, classes: int) -> Tensor:
    """(B, J, N) zeros and ones: 1 for the nearest Gaussian of each class, from distances (B, J, N)."""
    return (far <= -per_class_max(-far, owner, classes)[:, owner]).to(far.dtype)


def log_joint(far: Tensor, variance: Tensor, prior: Tensor, exists: Tensor) -> Tensor:
    """(B, J, N): log prior - log sigma - d^2 / (2 sigma^2); far below for Gaussians that do not exist."""
    constant = prior.clamp(min=1e-12).log() - 0.5 * variance.log()
    joint = constant.unsqueeze(2) - far.square() / (2 * variance.unsqueeze(2))
    return joint.masked_fill(~exists.unsqueeze(2), FAR_BELOW)


def class_log_sum(joint: Tensor, owner: Tensor, classes: int) -> Tensor:
    """(B, K, N): log of the sum of exp(joint) over the Gaussians of each class."""
    highest = per_class_max(joint.detach(), owner, classes)
    return per_class_sum((joint - highest[:, owner]).exp(), owner, classes).log() + highest


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W): maps (B, C, h, w) enlarged bilinearly to `size`, without aligned corners."""
    return resized(maps, size)
