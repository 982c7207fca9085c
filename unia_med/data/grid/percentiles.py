"""Percentiles of intensities, to the last bit those that MONAI takes, and without a copy of a large volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

Range = tuple[Tensor, Tensor]
"""Intensities that become 0 and 1, float32."""

_MANY = 1_000_000
"""Voxels from which MONAI takes NumPy's percentile in place of torch's; the two differ in the last bit."""

_SMALL = 1 << 24
"""Voxels of which a copy is made."""

_SLAB = 1 << 22
"""Voxels of a larger volume that are looked at at once."""

_SIGN, _LOW, _BINS = np.uint32(1 << 31), np.uint32(0xFFFF), 1 << 16


def percentiles_of(channel: np.ndarray, percentiles: tuple[float, float]) -> Range:
    """Return two percentiles of the voxels of a volume as float32.

    Args:
        channel: (X, Y, Z), any real type, nothing in it NaN.
        percentiles: in [0, 100].
    """
    if channel.size > _SMALL:
        return _of_large(channel, percentiles)
    values = np.array(channel, np.float32, order="K").ravel(order="K")
    if values.size > _MANY:
        found = torch.from_numpy(np.percentile(values, percentiles, overwrite_input=True)).float()
        return found[0], found[1]
    ranks = torch.tensor(np.array(percentiles) / 100.0, dtype=torch.float32) * (values.size - 1)
    below, above = ranks.long(), ranks.ceil().long()
    # A tenth of the time of torch.quantile: nothing is sorted.
    values.partition(sorted({*below.tolist(), *above.tolist()}))
    ordered = torch.from_numpy(values)
    found = ordered[below].lerp(ordered[above], ranks - below)
    return found[0], found[1]


def _of_large(channel: np.ndarray, percentiles: tuple[float, float]) -> Range:
    """Return what `numpy.percentile` does of the voxels as float32."""
    ranks = (channel.size - 1) * np.true_divide(percentiles, 100)
    below = np.floor(ranks).astype(np.int64)
    above = np.minimum(below + 1, channel.size - 1)
    ordered = _ordered(channel, [*below, *above])
    low, high = ordered[:2], ordered[2:]
    share, step = ranks - below, high - low
    found = torch.from_numpy(np.where(share < 0.5, low + step * share, high - step * (1 - share))).float()
    return found[0], found[1]


def _ordered(channel: np.ndarray, ranks: Sequence[int]) -> np.ndarray:
    """Return the voxels (R,) float32 of these ranks: the upper half of their bits is counted first, then the lower."""
    upper = np.zeros(_BINS, np.int64)
    for keys in _keys(channel):
        upper += np.bincount(keys >> 16, minlength=_BINS)
    ends = np.cumsum(upper)
    bins = np.searchsorted(ends, ranks, side="right")
    lower = {int(number): np.zeros(_BINS, np.int64) for number in bins}
    for keys in _keys(channel):
        halves = keys >> 16
        for number, counts in lower.items():
            counts += np.bincount(keys[halves == number] & _LOW, minlength=_BINS)
    found = [
        (int(number) << 16) + int(np.searchsorted(np.cumsum(lower[int(number)]), left, side="right"))
        for number, left in zip(bins, ranks - (ends - upper)[bins], strict=True)
    ]
    keys = np.array(found, np.uint32)
    return np.where(keys >= _SIGN, keys ^ _SIGN, ~keys).astype(np.uint32).view(np.float32)


def _keys(channel: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the voxels as whole numbers (N,) uint32 of the same order, some slices at a time."""
    step = max(1, _SLAB // max(1, channel[..., :1].size))
    for first in range(0, channel.shape[-1], step):
        values = channel[..., first : first + step].astype(np.float32).ravel(order="K")
        values += np.float32(0)  # -0 becomes 0
        bits = values.view(np.uint32)
        yield bits ^ np.where(bits >= _SIGN, ~np.uint32(0), _SIGN)
