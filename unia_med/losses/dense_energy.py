"""Dense energy: near pixels of similar intensity should be predicted alike (section 15).

After Tang et al. 2018 with the gate of Zhang et al. 2020. It is the one segmentation term that acts on ignored
pixels. The sum over all pairs is exact on a GPU, and on a grid of up to `EXACT_PIXELS`; on a larger one a CPU takes
that of a bilateral grid, whose cost grows with the pixels and not with their square (`unia-med bench` prints how far
it is from exact).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from unia_med.labels import IGNORE
from unia_med.losses.bilateral_grid import MOST_CHANNELS, gaussian_sums
from unia_med.tensors import full_precision, size_of

SPATIAL_FRACTION = 50 / 224  # published sigma of 50 px belongs to a 224 x 224 grid
COLOUR_SIGMA = 15.0  # on a 0..255 scale, for the distance between RGB triples
EXACT_PIXELS = 40 * 40  # a CPU sums fewer pair by pair as fast as by a grid
PAIR_MEAN_SCALE = 1e-7 * 224**4  # 252: the published 1e-7 in pair-mean form, the same for every grid
_FARTHEST = -80.0
"""Exponent of the farthest pairs. Their weight is lost in any sum; without a limit it would be a denormal number, with
which a CPU takes several times as long."""


@full_precision
def dense_energy(
    probabilities: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    active: torch.Tensor | None = None,
    valid: torch.Tensor | None = None,
    longest_side: int = 64,
    chunk: int = 512,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """E = -(scale / B) sum_k sum_i g_i S_ik (W S_k)_i; negative values are normal, lower is smoother.

    The gate g_i is 1 on ignored pixels and 1 - max_k S_ik elsewhere. The value is E; its gradient treats g and one of
    the two S as constants, -2 scale g_i (W S_k)_i / B, as published.

    Args:
        probabilities: (B, K, H, W), softmax output.
        images: (B, C, H, W) in [0, 1], one or three channels.
        labels: (B, H, W), 0..K-1 or `ignore_index`.
        active: (B, K), true for background and the classes an image may hold; None for all.
        valid: (B, 1, H, W) or (B, H, W), true inside the source image; None for everywhere.
        longest_side: longest side of the grid in pixels, at most half the image's. Up to `EXACT_PIXELS` cost grows
            with its 4th power, above with its square.
        chunk: pixels per block of rows of an exact W; smaller saves memory, larger saves launches.
        ignore_index: the label of pixels that say nothing.
    """
    size = grid_size(size_of(probabilities), longest_side)
    scores = F.adaptive_avg_pool2d(probabilities, size)
    gate = _gate(scores.detach(), _nearest(labels, size), ignore_index)
    weights = _channel_weights(scores, active, valid)
    smoothed = smoothed_scores(_nearest(images, size), (scores * weights).detach(), active, chunk)
    agreement = (gate.unsqueeze(1) * scores * weights).flatten(2) * smoothed
    scale = PAIR_MEAN_SCALE / (math.prod(size) ** 2 * probabilities.shape[0])
    energy = -scale * agreement.sum()
    return 2 * energy - energy.detach()


def grid_size(image_size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """Half the image's size (rows, columns), or less where the longest side asks for it.

    >>> grid_size((128, 96), 64), grid_size((448, 224), 64), grid_size((1, 4), 64), grid_size((4, 1), 64)
    ((64, 48), (64, 32), (1, 2), (2, 1))
    """
    factor = max(2.0, max(image_size) / longest_side)
    return max(1, round(image_size[0] / factor)), max(1, round(image_size[1] / factor))


def smoothed_scores(
    images: torch.Tensor,
    scores: torch.Tensor,
    active: torch.Tensor | None = None,
    chunk: int = 512,
    exact: bool | None = None,
) -> torch.Tensor:
    """(B, K, n): W S of scores (B, K, h, w), without a gradient.

    Args:
        images: (B, C, h, w) in [0, 1].
        scores: (B, K, h, w).
        active: as in `dense_energy`; the scores of other classes are 0.
        chunk: as in `dense_energy`.
        exact: sum over all pairs; None where there are few pixels, a GPU, or more channels than a grid can hold.
    """
    if exact is None:
        many = images[0, 0].numel() > EXACT_PIXELS and images.shape[1] <= MOST_CHANNELS
        exact = not many or images.device.type != "cpu"
    if exact:
        return _smooth(pair_features(images), scores.flatten(2), chunk)
    spatial_sigma, colour_sigma = _sigmas(images)
    result = torch.zeros_like(scores).flatten(2)
    for index, image in enumerate(images):  # one by one: a grid of colours is large
        some = slice(None) if active is None else active[index].nonzero().flatten()
        result[index, some] = gaussian_sums(image, scores[index, some], spatial_sigma, colour_sigma / 255)
    return result


def _sigmas(images: torch.Tensor) -> tuple[float, float]:
    """Return the standard deviations over positions, in pixels, and over intensities, of 255.

    One channel differs from itself by 1 / sqrt(3) of what three equal channels do, hence sigma / sqrt(3) (B1).
    """
    colour_sigma = COLOUR_SIGMA / math.sqrt(3) if images.shape[1] == 1 else COLOUR_SIGMA
    return SPATIAL_FRACTION * math.sqrt(images[0, 0].numel()), colour_sigma


def pair_features(images: torch.Tensor) -> torch.Tensor:
    """(B, n, C + 2) positions and intensities, each divided by its sigma, so W = exp(-|f_i - f_j|^2 / 2)."""
    batch, _, height, width = images.shape
    spatial_sigma, colour_sigma = _sigmas(images)
    rows = torch.arange(height, device=images.device, dtype=images.dtype) / spatial_sigma
    columns = torch.arange(width, device=images.device, dtype=images.dtype) / spatial_sigma
    positions = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(batch, -1, -1, -1)
    return torch.cat((positions, images * (255 / colour_sigma)), 1).flatten(2).transpose(1, 2)


@torch.no_grad()
def _smooth(features: torch.Tensor, scores: torch.Tensor, chunk: int) -> torch.Tensor:
    """(B, K, n): W S with W built `chunk` rows at a time; i = j is included."""
    features = features - features.mean(1, keepdim=True)  # smaller squares, less cancellation below
    norms, ones = -0.5 * features.square().sum(2, keepdim=True), torch.ones_like(features[..., :1])
    left = torch.cat((features, norms, ones), 2)
    right = torch.cat((features, ones, norms), 2).transpose(1, 2)
    blocks = [
        torch.bmm(scores, torch.bmm(block, right).clamp_(_FARTHEST, 0).exp_().transpose(1, 2))
        for block in left.split(chunk, 1)
    ]
    return torch.cat(blocks, 2)


def _nearest(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Labels (B, H, W) or images (B, C, H, W) picked on a grid of `size`."""
    rows, columns = (
        torch.arange(target, device=maps.device) * source // target
        for source, target in zip(maps.shape[-2:], size, strict=True)
    )
    return maps[..., rows.unsqueeze(1), columns]


def _gate(scores: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """(B, h, w): 1 where unlabelled, elsewhere what the most likely class leaves over."""
    unsure = (1 - scores.amax(1)).clamp(min=0)
    return torch.where(labels == ignore_index, torch.ones_like(unsure), unsure)


def _channel_weights(scores: torch.Tensor, active: torch.Tensor | None, valid: torch.Tensor | None) -> torch.Tensor:
    """(B, K or 1, h, w) zeros and ones: which classes of which pixels take part."""
    weights = torch.ones_like(scores[:, :1])
    if valid is not None:
        weights = weights * _nearest(valid.reshape(valid.shape[0], 1, *valid.shape[-2:]), size_of(scores))
    return weights if active is None else weights * active.to(scores.dtype)[:, :, None, None]
