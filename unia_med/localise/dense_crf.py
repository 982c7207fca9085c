"""Dense conditional random field in plain PyTorch: labels follow the colours of the image.

Mean field of a fully connected Potts model (Kraehenbuehl and Koltun 2011): every pixel is joined to every other by a
Gaussian over positions (smoothness) and by one over positions and colours (appearance). Both are symmetrically
normalised, K_ij / sqrt(n_i n_j) with n_i = sum_j K_ij, as in the authors' program, which weights of 1 and 4 refer to;
as there, a pixel also sends a message to itself.

The first Gaussian is narrow and is a separable convolution, cut off at five standard deviations. The second is computed
exactly, tile by tile, from every `stride`-th pixel in each direction to all pixels: exact at stride 1, and at larger
ones its sums are taken over a regular sample. No compiled extension and no permutohedral lattice is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_REACH = 5  # standard deviations; beyond them a Gaussian is below 4e-6 of its peak
_PAIRS_AT_ONCE = 16_000_000  # 64 MB in float32
_LEAST = 1e-8  # keeps the logarithm of a probability finite


class CrfSettings(NamedTuple):
    """Strength and reach of the two Gaussians.

    Attributes:
        iterations: Of the mean field; 0 returns the probabilities as they are.
        smoothness_weight: Of the Gaussian over positions.
        smoothness_px: Its standard deviation, pixels.
        appearance_weight: Of the Gaussian over positions and colours.
        appearance_px: Its standard deviation over positions, pixels.
        appearance_colour: Its standard deviation over colours, of 255.
        stride: Distance of the pixels that send messages of the second Gaussian; larger is faster and less exact.
    """

    iterations: int = 10
    smoothness_weight: float = 1.0
    smoothness_px: float = 1.0
    appearance_weight: float = 4.0
    appearance_px: float = 121.0
    appearance_colour: float = 5.0
    stride: int = 8


def dense_crf(image: Tensor, probabilities: Tensor, settings: CrfSettings = CrfSettings()) -> Tensor:
    """Return refined probabilities (K, H, W), summing to 1 over K.

    Args:
        image: (C, H, W) in [0, 1].
        probabilities: (K, H, W), summing to 1 over K, on the same device.
        settings: See `CrfSettings`.
    """
    if image.shape[-2:] != probabilities.shape[-2:]:
        raise ValueError(f"image {tuple(image.shape)} and probabilities {tuple(probabilities.shape)} differ in size")
    unary = probabilities.float().clamp_min(_LEAST).log()
    smooth = _smoothness(image, settings.smoothness_px)
    appear = _appearance(image, settings)
    belief = probabilities.float()
    for _ in range(settings.iterations):
        energy = unary
        if settings.smoothness_weight:
            energy = energy + settings.smoothness_weight * smooth(belief)
        if settings.appearance_weight:
            energy = energy + settings.appearance_weight * appear(belief)
        belief = energy.softmax(0)
    return belief


def _smoothness(image: Tensor, sigma_px: float) -> Callable[[Tensor], Tensor]:
    """Return the normalised Gaussian over positions, from maps (K, H, W) to maps (K, H, W)."""
    reach = math.ceil(_REACH * sigma_px)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    kernel = (-0.5 * (offsets / sigma_px) ** 2).exp()

    def blur(maps: Tensor) -> Tensor:
        planes = F.conv2d(maps[:, None], kernel.view(1, 1, -1, 1), padding=(reach, 0))
        return F.conv2d(planes, kernel.view(1, 1, 1, -1), padding=(0, reach))[:, 0]

    scale = blur(torch.ones_like(image[:1], dtype=torch.float32)).rsqrt()
    return lambda maps: scale * blur(scale * maps)


def _appearance(image: Tensor, settings: CrfSettings) -> Callable[[Tensor], Tensor]:
    """Return the normalised Gaussian over positions and colours, from maps (K, H, W) to maps (K, H, W)."""
    features = _features(image, settings)
    stride, start = settings.stride, (settings.stride - 1) // 2
    start = min(start, image.shape[-2] - 1, image.shape[-1] - 1)
    targets = features.flatten(1).T.contiguous()
    sources = features[:, start::stride, start::stride].flatten(1).T.contiguous()

    def send(values: Tensor) -> Tensor:
        """Sum, at all pixels (N, K), the values (M, K) of the senders; each stands for the same number of pixels."""
        rows = max(1, _PAIRS_AT_ONCE // len(sources))
        squares = sources.square().sum(1)
        parts = []
        for part in targets.split(rows):
            # |a - b|^2 by one matrix product; the position of the origin is that of the image's centre, for accuracy.
            distance = part.square().sum(1, keepdim=True) + squares - 2 * part @ sources.T
            parts.append((-0.5 * distance.clamp_min(0)).exp_() @ values)
        return torch.cat(parts) * (len(targets) / len(sources))

    # A sampled sum can miss a pixel whose colour is rare; itself it always sees.
    scale = send(torch.ones_like(sources[:, :1])).clamp_min(1.0).rsqrt()
    scale_map = scale.T.view(1, *image.shape[-2:])
    near = scale_map[:, start::stride, start::stride].flatten(1).T

    def filtered(maps: Tensor) -> Tensor:
        values = maps[:, start::stride, start::stride].flatten(1).T * near
        return (send(values) * scale).T.reshape(maps.shape)

    return filtered


def _features(image: Tensor, settings: CrfSettings) -> Tensor:
    """(2 + C, H, W): positions and colours, each divided by its standard deviation and centred."""
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=image.device, dtype=torch.float32) - (height - 1) / 2
    columns = torch.arange(width, device=image.device, dtype=torch.float32) - (width - 1) / 2
    positions = torch.stack(torch.meshgrid(rows, columns, indexing="ij")) / settings.appearance_px
    colours = (image.float() - 0.5) * (255 / settings.appearance_colour)
    return torch.cat((positions, colours))
