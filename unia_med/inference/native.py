"""Volumes on their way to the network's grid and back, a slab of slices at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from unia_med.data.grid.plane import Placement
from unia_med.data.io.volume import Volume
from unia_med.inference.reassemble import PlaneMap

_NATIVE = 1 << 23
"""Numbers of native probabilities in memory at once, at least those of a slice."""


class Prepared(NamedTuple):
    """A volume on its way: on the network's grid, and what is needed to go back.

    Attributes:
        stored: its geometry, as stored; without voxels, so that memory need not hold them any longer.
        frame: turned so that its third axis goes from slice to slice; without voxels unless a later step looks at them.
        slices: (Z, C, H, W) on the network's grid.
        placement: where that grid lies in the volume.
    """

    stored: Volume
    frame: Volume
    slices: Tensor
    placement: Placement


class Slab(NamedTuple):
    """Native slices (z, K, X, Y) from number `first` on; `doubt` (z, 2, X, Y) is 1 - U and U, or (z, 0, ...)."""

    first: int
    probabilities: Tensor
    doubt: Tensor


def brought_back(back: PlaneMap, probabilities: Tensor, doubt: Tensor, first: int = 0) -> Iterator[Slab]:
    """Yield slices on the native grid, few at a time where they are large.

    Args:
        back: the way there.
        probabilities: (z, K, H, W) on the network's grid.
        doubt: (z, 2, H, W) 1 - U and U, or (z, 0, H, W).
        first: number of the first slice.
    """
    step = max(1, _NATIVE // (len(back.rows) * len(back.columns) * probabilities.shape[1]))
    for start in range(0, len(probabilities), step):
        part = slice(start, start + step)
        # 1 - U and U sum to 1 like probabilities, so that what was not seen comes back as certain.
        own = back(doubt[part]) if doubt.shape[1] else doubt[part]
        yield Slab(first + start, back(probabilities[part]), own)


def sliced(slices: Tensor) -> np.ndarray:
    """Return (X, Y, Z), Z going from slice to slice.

    Args:
        slices: (z, X, Y).
    """
    return slices.permute(1, 2, 0).contiguous().numpy()
