"""Volumes on their way to the network's grid and back, a slab of slices at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unia_med.data.grid.plane import Placement
from unia_med.data.io.volume import Volume
from unia_med.inference.reassemble import PlaneMap, plane_map
from unia_med.inference.stack import smooth_parts
from unia_med.inference.uncertainty import apply_temperature
from unia_med.labels import BACKGROUND
from unia_med.stopwatch import part

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
        some = slice(start, start + step)
        with part("back"):
            # 1 - U and U sum to 1 like probabilities, so that what was not seen comes back as certain.
            own = back(doubt[some]) if doubt.shape[1] else doubt[some]
            slab = Slab(first + start, back(probabilities[some]), own)
        yield slab


def slabs_of_parts(
    back: PlaneMap, parts: Iterable[tuple[Tensor, Tensor]], smoothing: float, temperature: float
) -> Iterator[Slab]:
    """Yield the native slices of a volume whose maps come part by part, smoothed along the stack, at a temperature.

    The temperature comes last, so that it changes no label.

    Args:
        back: the way to the native grid.
        parts: (z, K, H, W) probabilities and (z, 2 or 0, H, W) `doubt` of consecutive slices, see `brought_back`.
        smoothing: standard deviation in slices, see `smooth_parts`.
        temperature: see `apply_temperature`.
    """
    first = 0
    for probabilities, doubt in smooth_parts(parts, smoothing):
        yield from brought_back(back, apply_temperature(probabilities, temperature), doubt, first)
        first += len(probabilities)


def sliced(slices: Tensor) -> np.ndarray:
    """Return (X, Y, Z), Z going from slice to slice.

    Args:
        slices: (z, X, Y).
    """
    return slices.permute(1, 2, 0).contiguous().numpy()


def native_labels(labels: Tensor, placement: Placement) -> np.ndarray:
    """Return labels (X, Y, Z) uint8 on a volume's own grid.

    Args:
        labels: (Z, H, W) on the network's grid.
        placement: where that grid lies in the volume.
    """
    values = sorted(set(labels.unique().tolist()) | {BACKGROUND})  # background first: it takes what is not seen
    native = plane_map(placement)(torch.stack([(labels == value).float() for value in values], 1))
    return sliced(torch.tensor(values, dtype=torch.uint8)[native.max(1).indices])
