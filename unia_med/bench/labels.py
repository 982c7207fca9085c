"""Benchmarks of pseudo labels and of what is learned from pairs of tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.bench.timing import Form
from unia_med.labels import IGNORE
from unia_med.localise.affinity_refine import SINKHORN_ROUNDS, normalise_affinity, radius_mask
from unia_med.localise.pixel_refine import (
    BANDWIDTH,
    DEVIATION_GUARD,
    DILATIONS,
    DIRECTIONS,
    ITERATIONS,
    POSITION_WEIGHT,
    combine_high_low,
    pixel_kernel,
    position_weights,
    refine_labels,
)
from unia_med.losses.affinity import DENOMINATOR_GUARD, contrastive, infonce_all, pair_labels

_TEMPERATURE = 0.5


def pixel_refine(device: torch.device) -> tuple[Form, Form]:
    """Return PAR labels of a batch, and with the public form: slice by slice, the kernel again for each threshold."""
    images = F.avg_pool2d(torch.rand(4, 1, 130, 130, device=device), 3, stride=1)
    cam = F.avg_pool2d(torch.rand(4, 3, 136, 136, device=device), 9, stride=1)
    tags = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 1]], dtype=torch.int8, device=device)

    def used() -> Tensor:
        return refine_labels(pixel_kernel(images), cam, tags, high=0.7, low=0.25)

    @torch.no_grad()
    def plain() -> Tensor:
        pairs = zip(images.split(1), cam.split(1), tags, strict=True)
        return torch.cat([_refined(image, maps, present) for image, maps, present in pairs])

    return used, plain


def _refined(image: Tensor, maps: Tensor, present: Tensor) -> Tensor:
    """Refined labels of one slice, (1, H, W) [8, A12]."""
    classes = (present == 1).nonzero().flatten()
    keys = torch.cat((classes.new_zeros(1), classes + 1))
    labels = []
    for background in (0.7, 0.25):
        stacked = torch.cat((torch.full_like(maps[:, :1], background), maps[:, classes]), 1)
        scores = F.interpolate(stacked, scale_factor=0.5, mode="bilinear", align_corners=False).softmax(1)
        weights = _public_kernel(F.interpolate(image, scale_factor=0.5, mode="bilinear", align_corners=False))
        for _ in range(ITERATIONS):
            scores = (_public_neighbours(scores) * weights).sum(2)
        full = F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)
        labels.append(keys[full.argmax(1)])
    high, low = labels
    return combine_high_low(high, low)


def _public_kernel(image: Tensor) -> Tensor:
    """(1, 1, J, h, w) weights of the neighbours."""
    neighbours = _public_neighbours(image)
    deviation = neighbours.std(2, keepdim=True)
    distances = (neighbours - image.unsqueeze(2)).abs() / (BANDWIDTH * (deviation + DEVIATION_GUARD))
    similarity = (-distances.square()).mean(1, keepdim=True).softmax(2)
    return similarity + POSITION_WEIGHT * position_weights(DILATIONS, image.device).view(1, 1, -1, 1, 1)


def _public_neighbours(maps: Tensor) -> Tensor:
    """(B, C, J, h, w) neighbours by convolution with kernels that hold a single one."""
    batch, channels, height, width = maps.shape
    kernels = torch.zeros(len(DIRECTIONS), 1, 3, 3, device=maps.device)
    for index, (row, column) in enumerate(DIRECTIONS):
        kernels[index, 0, row + 1, column + 1] = 1
    planes = maps.reshape(-1, 1, height, width)
    found = [F.conv2d(F.pad(planes, [d] * 4, mode="replicate"), kernels, dilation=d) for d in DILATIONS]
    return torch.cat([one.view(batch, channels, -1, height, width) for one in found], 2)


def radius_neighbours(device: torch.device) -> tuple[Form, Form]:
    """Return the mask of near tokens, and by a double loop."""
    side, radius = 16, 7

    def plain() -> Tensor:
        mask = torch.zeros(side * side, side * side, dtype=torch.bool)
        for i in range(side * side):
            for j in range(side * side):
                rows, columns = abs(i // side - j // side), abs(i % side - j % side)
                mask[i, j] = rows <= radius and columns <= radius
        return mask.to(device)

    return lambda: radius_mask(side, side, radius, device), plain


def affinity_pairs(device: torch.device) -> tuple[Form, Form]:
    """Return the gradient of the published affinity loss, the pairs included, and in the public form."""
    affinity, labels = _affinity(device), _token_labels(device)
    near = radius_mask(28, 28, 7, device)

    def plain(given: Tensor) -> Tensor:
        pairs = _public_pairs(labels, near)
        weights = (given / _TEMPERATURE).exp()
        positive = (pairs == 1).float()
        costs = -(weights / (weights.sum(2, keepdim=True) + DENOMINATOR_GUARD)).log()
        return (costs * positive).sum() / (positive.sum() + 1) / (2 * len(given))

    return (
        _gradient(affinity, lambda given: infonce_all(given, *pair_labels(labels, near))),
        _gradient(affinity, plain),
    )


def affinity_loss(device: torch.device) -> tuple[Form, Form]:
    """Return the gradient of the contrastive loss, and by autograd through its formula [12]."""
    affinity, labels = _affinity(device), _token_labels(device)
    positive, negative = pair_labels(labels, radius_mask(28, 28, 7, device))
    others = positive & ~torch.eye(784, dtype=torch.bool, device=device)

    def plain(given: Tensor) -> Tensor:
        scaled = given / _TEMPERATURE
        against = scaled.masked_fill(~negative, -1e4).logsumexp(2, keepdim=True)
        anchors = (F.softplus(against - scaled) * others).sum(2) / others.sum(2).clamp(min=1)
        known = others.any(2) & negative.any(2)
        return (anchors * known).sum() / known.sum().clamp(min=1)

    return _gradient(affinity, lambda given: contrastive(given, positive, negative)), _gradient(affinity, plain)


def _affinity(device: torch.device) -> Tensor:
    return torch.rand(4, 784, 784, device=device)


def _token_labels(device: torch.device) -> Tensor:
    """(4, 28, 28) blocks of four classes, a third of them unlabelled."""
    blocks = torch.randint(0, 4, (4, 7, 7)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    return blocks.masked_fill(torch.rand(blocks.shape) < 0.3, IGNORE).to(device)


def _gradient(affinity: Tensor, loss: Callable[[Tensor], Tensor]) -> Form:
    """Return the gradient of a loss, in numbers that are not all small."""

    def form() -> Tensor:
        given = affinity.clone().requires_grad_()
        (slope,) = torch.autograd.grad(given.numel() ** 0.75 * loss(given), given)
        return slope

    return form


def _public_pairs(labels: Tensor, near: Tensor) -> Tensor:
    """(B, N, N) int64: 1 one class, 0 two, `IGNORE` elsewhere; image by image as in the public code."""
    rows = labels.flatten(1).unsqueeze(1).repeat(1, near.shape[0], 1)
    pairs = (rows == rows.transpose(1, 2)).long()
    for pair, flat in zip(pairs, labels.flatten(1), strict=True):
        pair[~near] = IGNORE
        pair[:, flat == IGNORE] = IGNORE
        pair[flat == IGNORE] = IGNORE
    return pairs


def sinkhorn(device: torch.device) -> tuple[Form, Form]:
    """Return a scaled affinity, and with the matrix rescaled each time."""
    affinity = torch.rand(4, 784, 784, device=device)
    affinity = (affinity + affinity.transpose(1, 2)) / 2
    near = radius_mask(28, 28, 7, device)

    def plain() -> Tensor:
        matrix = (affinity * near) ** 2
        for _ in range(SINKHORN_ROUNDS):
            matrix = matrix / matrix.sum(1, keepdim=True)
            matrix = matrix / matrix.sum(2, keepdim=True)
        return (matrix + matrix.transpose(1, 2)) / 2

    return lambda: normalise_affinity(affinity, near), plain
