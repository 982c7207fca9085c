"""From probabilities on the network's grid back to the volume's own grid, linearly and before any argmax.

MONAI's ``Invertd`` does the same on the whole volume. Resampling in plane is separable, so here it is two small matrix
products per slice: several times faster, and a slab of slices at a time, so that memory does not grow with the volume.
A test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unia_med.data.grid.plane import Axis, Placement
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


def plane_map(placement: Placement) -> PlaneMap:
    """Return the way back for an image on the network's grid.

    Args:
        placement: where the grid lies in the volume.
    """
    return PlaneMap(*(_axis_weights(axis) for axis in placement.axes))


def _axis_weights(axis: Axis) -> Tensor:
    """Return (stored, size) weights of linear interpolation along one axis.

    Interpolation stops at the rim of the resampled volume; beyond what the crop kept, the weights fall to zero.
    """
    offset = round(axis.start)  # pixels cut off (negative) or padded at the start
    position = torch.arange(axis.stored, dtype=torch.float64) * axis.step + axis.start - offset
    position = position.clamp(0, axis.full - 1)
    lower = position.floor().clamp(max=max(axis.full - 2, 0))
    weights = torch.zeros(axis.stored, axis.size, dtype=torch.float64)
    voxels = torch.arange(axis.stored)
    for pixel, weight in ((lower, 1 - (position - lower)), (lower + 1, position - lower)):
        column = pixel.long() + offset
        seen = (column >= 0) & (column < axis.size)
        weights[voxels[seen], column[seen]] += weight[seen]
    return weights.float()
