"""Gaussian sums over all pairs of pixels, by position and colour, in time that grows with the number of pixels alone.

Values are spread onto the corners of a coarse grid over positions and colours, blurred there one axis after another,
and read off at the pixels (bilateral grid: Chen, Paris and Durand 2007). Spreading and reading are linear, which widens
a Gaussian; so each axis is blurred by the matrix that comes closest to the Gaussian together with them, in the sense
of least squares, and not by the Gaussian itself.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_CHANNELS = 3
"""Axes of colour; the grid has a factor of cells for each."""

_CELLS_PER_SIGMA = {1: (3.0, 3.0), 2: (2.0, 2.0), 3: (1.5, 1.5)}
"""Of positions and of colours, by the number of channels: finer where there are fewer axes."""

_SAMPLES_PER_CELL = 8
_LEAST = 1e-5  # of the peak of a Gaussian


@torch.no_grad()
def gaussian_sums(image: Tensor, values: Tensor, spatial_sigma: float, colour_sigma: float) -> Tensor:
    """(K, n): sum over all pixels j of exp(-|p_i - p_j|^2 / 2 s^2 - |c_i - c_j|^2 / 2 t^2) values_j, i = j included.

    Args:
        image: (C, h, w) colours, C at most `MOST_CHANNELS`.
        values: (K, h, w).
        spatial_sigma: s, in pixels.
        colour_sigma: t, on the scale of the image.
    """
    per_position, per_colour = _CELLS_PER_SIGMA[len(image)]
    sizes = (torch.arange(size, device=image.device, dtype=image.dtype) for size in image.shape[-2:])
    places = torch.stack(torch.meshgrid(*sizes, indexing="ij")).flatten(1)
    axes = [_Axis(row / spatial_sigma, per_position) for row in places]
    axes += [_Axis(row / colour_sigma, per_colour) for row in _principal(image.flatten(1))]
    corners = _Corners(axes)
    return corners.read(_blurred(corners.spread(values.flatten(1)), axes)).T


def _principal(colours: Tensor) -> Tensor:
    """Colours (C, n) turned to their principal axes: distances stay, and few cells hold the colours of most images."""
    if len(colours) == 1:
        return colours
    centred = colours - colours.mean(1, keepdim=True)
    return torch.linalg.eigh(centred @ centred.T).eigenvectors.T @ centred


class _Axis:
    """One axis of the grid, and where the pixels lie on it.

    Args:
        coordinates: (n,) of the pixels, in sigmas.
        density: cells per sigma.
    """

    def __init__(self, coordinates: Tensor, density: float) -> None:
        self.density, position = density, (coordinates - coordinates.min()) * density
        self.cells = max(1, math.ceil(position.max().item())) + 1
        self.low = position.floor().clamp(0, self.cells - 2)
        self.shares = (1 - (position - self.low), position - self.low)

    def blur(self, like: Tensor) -> Tensor:
        """(cells, cells), on the device and in the precision of a tensor."""
        return _fitted_blur(self.cells, self.density).to(like)


@functools.lru_cache(maxsize=256)
def _fitted_blur(cells: int, density: float) -> Tensor:
    """M (cells, cells) for which A M A^T is nearest to the Gaussian at even samples, A being linear interpolation."""
    with torch.inference_mode(False):
        samples = _SAMPLES_PER_CELL * (cells - 1) + 1
        places = torch.arange(samples, dtype=torch.float64) / _SAMPLES_PER_CELL
        gaussian = (-0.5 * ((places[:, None] - places) / density).square()).exp()
        reading = (1 - (places[:, None] - torch.arange(cells, dtype=torch.float64)).abs()).clamp(min=0)
        inverse = torch.linalg.pinv(reading)
        # Products of smaller entries would be denormal numbers, with which a CPU takes a hundred times as long.
        return F.hardshrink(inverse @ gaussian @ inverse.T, _LEAST)


class _Corners:
    """Where the pixels of an image lie in the grid: corners of their cells, and the weight of each.

    Args:
        axes: D of them.
    """

    def __init__(self, axes: list[_Axis]) -> None:
        self._cells = math.prod(axis.cells for axis in axes)
        places, weights = axes[0].low.new_zeros(1, 1, dtype=torch.long), axes[0].low.new_ones(1, 1)
        for axis in axes:  # sides of the axes so far, times two sides
            sides = torch.stack((axis.low.long(), axis.low.long() + 1), 1)
            places = (places[:, :, None] * axis.cells + sides[:, None]).flatten(1)
            weights = (weights[:, :, None] * torch.stack(axis.shares, 1)[:, None]).flatten(1)
        self._places, self._weights = places, weights  # (n, 2^D)

    def spread(self, values: Tensor) -> Tensor:
        """(K, cells) sums of values (K, n)."""
        grid = values.new_zeros(len(values), self._cells)
        places = self._places.flatten()
        for row, own in zip(grid, values, strict=True):  # rows of numbers: sums of small vectors would take far longer
            row.index_add_(0, places, (self._weights * own[:, None]).flatten())
        return grid

    def read(self, grid: Tensor) -> Tensor:
        """(n, K) of a grid (cells, K), interpolated."""
        return F.embedding_bag(self._places, grid, per_sample_weights=self._weights, mode="sum")


def _blurred(grid: Tensor, axes: list[_Axis]) -> Tensor:
    """Return a grid (K, cells) blurred along each axis, as (cells, K)."""
    classes = len(grid)
    for axis in reversed(axes):
        # One large product; the blurred axis goes to the front, so that the next one comes last.
        grid = axis.blur(grid) @ grid.reshape(-1, axis.cells).T
    return grid.reshape(-1, classes)
