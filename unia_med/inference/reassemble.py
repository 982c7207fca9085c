"""From probabilities on the network's grid back to the volume's own grid, linearly and before any argmax.

``unia_med.data.grid.transforms.restore`` does the same with MONAI's ``Invertd`` on the whole volume. Resampling in
plane is separable, so here it is two small matrix products per slice: several times faster, and a slab of slices at a
time, so that memory does not grow with the volume. A test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from unia_med.data.grid.plane import plane_affine
from unia_med.labels import BACKGROUND


@dataclass(frozen=True)
class PlaneMap:
    """Linear resampling of slices from the network's grid to the native one.

    Attributes:
        rows: (X, H) weights of the network's rows for each native row.
        columns: (Y, W) weights of its columns.
    """

    rows: Tensor
    columns: Tensor

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Native probabilities (Z, K, X, Y) of (Z, K, H, W); what the network did not see is background."""
        rows, columns = self.rows.to(probabilities), self.columns.to(probabilities)
        native = rows @ probabilities @ columns.T
        seen = torch.outer(rows.sum(1), columns.sum(1))
        native[:, BACKGROUND] += 1 - seen
        return native.clamp_(0, 1)


def plane_map(image: MetaTensor, affine: Tensor, shape: tuple[int, ...]) -> PlaneMap:
    """Return the way back for a preprocessed image.

    Args:
        image: (1, H, W, Z), what ``preprocess`` made of the volume; it remembers what was done to it.
        affine: 4x4 affine of the native volume, of which the spacing counts.
        shape: (X, Y, Z) of the native volume.
    """
    plane = torch.from_numpy(plane_affine(affine.numpy()))
    step = torch.linalg.inv(image.affine.double()) @ plane
    full = _size_before_crop(image)
    rows, columns = (
        _axis_weights(
            shape[axis], int(image.shape[1 + axis]), full[axis], float(step[axis, axis]), float(step[axis, 3])
        )
        for axis in (0, 1)
    )
    return PlaneMap(rows, columns)


def _size_before_crop(image: MetaTensor) -> tuple[int, ...]:
    """(H, W, Z) of the resampled volume before the last step cropped or padded it."""
    done = image.applied_operations
    return tuple(done[-1]["orig_size"]) if done else tuple(image.shape[1:])


def _axis_weights(native: int, size: int, full: int, step: float, start: float) -> Tensor:
    """(native, size) weights of linear interpolation along one axis.

    Args:
        native: voxels of the volume along the axis.
        size: pixels of the network's grid.
        full: pixels of the resampled volume before cropping; interpolation stops at its rim, and beyond the crop
            the weights fall to zero.
        step: pixels per voxel.
        start: position of voxel 0 in pixels of the network's grid.
    """
    offset = round(start)  # pixels cut off (negative) or padded at the start
    position = (torch.arange(native, dtype=torch.float64) * step + start - offset).clamp(0, full - 1)
    lower = position.floor().clamp(max=max(full - 2, 0))
    weights = torch.zeros(native, size, dtype=torch.float64)
    voxels = torch.arange(native)
    for pixel, weight in ((lower, 1 - (position - lower)), (lower + 1, position - lower)):
        column = pixel.long() + offset
        seen = (column >= 0) & (column < size)
        weights[voxels[seen], column[seen]] += weight[seen]
    return weights.float()
