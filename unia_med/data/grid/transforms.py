"""Brings volumes to the network's grid: intensities scaled, slices resampled, stretched, cropped or padded.

Training and prediction call this; a bundle has the same chain in MONAI's transforms, and a test keeps the two equal
voxel by voxel. The functions are here because importing MONAI takes longer than segmenting a volume.

Unless `grid.slice_axis` names a body axis, nothing is reoriented: short-axis stacks are oblique, and a reorientation
could swap the through-plane axis, so slices are cut along the third stored axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unia_med.data.grid.percentiles import Range, percentiles_of
from unia_med.data.grid.plane import Axis, Placement, place_plane
from unia_med.data.io.orientation import orient
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.labels import IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import GridConfig

_SLAB = 16
"""Slices of a large volume that are brought to the grid at once."""

_SMALL = 1 << 24
"""Voxels of a volume that is not worth cutting."""


class Placed(NamedTuple):
    """An image on the network's grid.

    Attributes:
        slices: (Z, C, H, W) float32 in [0, 1].
        placement: where their pixels lie in the volume, turned so that its third axis counts slices.
    """

    slices: Tensor
    placement: Placement


def place_image(volume: Volume, grid: GridConfig) -> Placed:
    """Return a volume on the network's grid; a large one goes slab by slab, so that memory grows with the result alone.

    Args:
        volume: (X, Y, Z), or (X, Y, Z, C) of several channels; of a cine, one frame: `volume.frame(t)`.
        grid: `slice_axis`, `spacing_mm` in plane (None keeps the stored pixels), `resize`, `size` (H, W), `percentiles`
            of each channel of the volume that become 0 and 1. They are of the volume, since those of each slice would
            inflate empty slices. None: intensities are divided by 255.
    """
    turned = orient(volume, grid.slice_axis, copy=False)
    placement = place_plane(turned.shape[:3], turned.affine, grid)
    ranges = intensity_ranges(turned, grid.percentiles)
    step = max(1, turned.slices) if turned.array.size <= _SMALL else _SLAB
    slabs = (turned.array[:, :, first : first + step] for first in range(0, turned.slices, step))
    parts = [_placed_slab(replace(turned, array=slab), ranges, placement, grid) for slab in slabs]
    return Placed(parts[0] if len(parts) == 1 else torch.cat(parts), placement)


def _placed_slab(volume: Volume, ranges: Sequence[Range], placement: Placement, grid: GridConfig) -> Tensor:
    voxels = scaled(as_tensor(volume), ranges)
    if placement.resamples:
        voxels = _resampled(voxels, placement)
    if grid.resize == "stretch":
        voxels = _stretched(voxels, grid.size)
    return to_slices(_cropped(voxels, placement))


def as_tensor(volume: Volume) -> Tensor:
    """Return the voxels of a volume as float32 (C, X, Y, Z).

    Args:
        volume: (X, Y, Z), or (X, Y, Z, C) of several channels; of a cine, one frame: `volume.frame(t)`.
    """
    if "T" in volume.axes:
        raise ValueError(f"{volume!r} has an axis of time; give one frame")
    array = np.moveaxis(volume.array, 3, 0) if "C" in volume.axes else volume.array[None]
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def to_slices(image: Tensor) -> Tensor:
    """Return (Z, C, H, W) slices of a volume (C, H, W, Z)."""
    return image.permute(3, 0, 1, 2).contiguous()


def from_slices(slices: Tensor) -> Tensor:
    """Return a volume (C, H, W, Z) of slices (Z, C, H, W)."""
    return slices.permute(1, 2, 3, 0).contiguous()


def intensity_ranges(volume: Volume, percentiles: tuple[float, float] | None) -> list[Range]:
    """Return the intensities of each channel that become 0 and 1.

    Args:
        volume: as in `as_tensor`.
        percentiles: of each channel; None: 0 and 255.
    """
    channels = np.moveaxis(volume.array, 3, 0) if "C" in volume.axes else volume.array[None]
    if percentiles is None:
        return [(torch.tensor(0.0), torch.tensor(255.0))] * len(channels)
    return [percentiles_of(channel, percentiles) for channel in channels]


def scaled(voxels: Tensor, ranges: Sequence[Range]) -> Tensor:
    """Return intensities (C, X, Y, Z) in [0, 1], float32; a channel of one value becomes 0.

    Args:
        voxels: float32 (C, X, Y, Z).
        ranges: of each channel, see `intensity_ranges`.
    """
    pairs = zip(voxels, ranges, strict=True)
    return torch.stack([_scaled_channel(channel, low, high) for channel, (low, high) in pairs])


def _scaled_channel(channel: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return channel - low if high == low else channel.sub(low).div_(high - low).clamp_(0.0, 1.0)


def load_label_slices(path: Path | str, grid: GridConfig, values: Mapping[int, int]) -> np.ndarray:
    """Return uint8 weak labels (Z, H, W) on the network's grid, nearest neighbour, IGNORE where nothing is said.

    Args:
        path: Label volume on the image's native grid.
        grid: As in `place_image`.
        values: Label of each value in the file; values not named (ACDC scribbles: 4) become IGNORE.
    """
    volume = read_volume(path)
    if volume.array.ndim != 3:
        raise UserError(
            f"labels of shape {volume.shape}, expected 3D", where=path, remedy="Give one label volume per frame"
        )
    labels = np.full(volume.shape, IGNORE, np.uint8)
    for value, label in values.items():
        labels[volume.array == value] = label
    return place_labels(Volume(labels, volume.affine, path=volume.path), grid)


def place_labels(labels: Volume, grid: GridConfig) -> np.ndarray:
    """Return uint8 labels (Z, H, W) on the network's grid, nearest neighbour, IGNORE beyond the volume.

    Args:
        labels: (X, Y, Z) on the image's native grid.
        grid: As in `place_image`.
    """
    native = orient(labels, grid.slice_axis)
    placement = place_plane(native.shape, native.affine, grid)
    rows, columns = (_nearest(axis) for axis in placement.axes)
    nearest = torch.from_numpy(np.ascontiguousarray(native.array[rows][:, columns]).astype(np.uint8))
    padded = _padded(nearest[None], placement, IGNORE)
    return to_slices(padded)[:, 0].numpy()


def _nearest(axis: Axis) -> np.ndarray:
    """Voxel nearest to each pixel that the crop keeps."""
    moved = axis.ratio != 1
    resampled = _positions(axis).round().long().numpy() if moved else np.arange(axis.resampled)
    if axis.full != axis.resampled:
        stretched = (np.arange(axis.full, dtype=np.float32) + np.float32(0.5)) * np.float32(axis.resampled / axis.full)
        resampled = resampled[np.minimum(stretched.astype(int), axis.resampled - 1)]
    return resampled[axis.kept]


def _positions(axis: Axis) -> Tensor:
    """Positions (resampled,) of the resampled pixels in voxels, float64, to the last bit those of torch's sampling.

    The bit counts: every other pixel of 1 mm lies half-way between voxels of 1.5 mm, and a label is of one of them.
    """
    from_unit = torch.from_numpy(np.linalg.inv(_to_unit(axis.resampled).numpy()))
    zoom = torch.diag(torch.tensor([axis.ratio, 1.0], dtype=torch.float64))
    theta = torch.zeros(1, 2, 3, dtype=torch.float64)
    theta[0, 1, 1:] = (_to_unit(axis.stored) @ zoom @ from_unit)[0]
    places = torch.nn.functional.affine_grid(theta, [1, 1, axis.resampled, 1], align_corners=False)[0, :, 0, 1]
    return (((places + 1) * axis.stored - 1) / 2).clamp(0, axis.stored - 1)


def _to_unit(count: int) -> Tensor:
    """Matrix (2, 2) from voxels to [-1, 1], which are the rims of the first and last."""
    return torch.tensor([[2 / count, 1 / count - 1], [0, 1]], dtype=torch.float64)


def _resampled(voxels: Tensor, placement: Placement) -> Tensor:
    """(C, X, Y, Z) at the spacing of the grid, linearly in double precision; beyond the rim, the rim is repeated.

    Only what the crop keeps is computed where nothing is stretched in between.
    """
    found = voxels.double()
    for number, axis in enumerate(placement.axes, start=1):
        positions = _positions(axis)
        positions = positions[axis.kept] if axis.full == axis.resampled else positions
        lower = positions.floor()
        upper = (lower + 1).clamp(max=axis.stored - 1)
        first, second = (found.index_select(number, place.long()) for place in (lower, upper))
        weight = (positions - lower).view(-1, *(1,) * (3 - number))
        found = first.lerp_(second, weight)
    return found.float()


def _stretched(voxels: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W, Z) of (C, X, Y, Z), blurred along the axes on which it shrinks, as photographs of many pixels need.

    The standard deviation is half the excess of the factor over 1, in stored pixels, as in scikit-image and MONAI; the
    rim is repeated outwards, where MONAI's own anti-aliasing pads with 0 and leaves a dark rim.
    """
    for axis, side in enumerate(size, start=1):
        sigma = (voxels.shape[axis] / side - 1) / 2
        voxels = _blurred(voxels, axis, sigma) if sigma > 0 else voxels
    if tuple(voxels.shape[1:3]) == tuple(size):
        return voxels
    shape = (*size, voxels.shape[3])
    return torch.nn.functional.interpolate(voxels[None], size=shape, mode="trilinear", align_corners=False)[0]


def _blurred(volume: Tensor, axis: int, sigma: float) -> Tensor:
    reach = math.ceil(4 * sigma)
    kernel = (-0.5 * (torch.arange(-reach, reach + 1, dtype=volume.dtype) / sigma) ** 2).exp()
    last = volume.movedim(axis, -1)
    lines = torch.nn.functional.pad(last.reshape(-1, 1, last.shape[-1]), (reach, reach), mode="replicate")
    blurred = torch.nn.functional.conv1d(lines, (kernel / kernel.sum()).view(1, 1, -1))
    return blurred.reshape(last.shape).movedim(-1, axis).contiguous()


def _cropped(voxels: Tensor, placement: Placement) -> Tensor:
    """(C, H, W, Z) cut and padded to the network's size, from the whole or from what the crop keeps of it."""
    for number, axis in enumerate(placement.axes, start=1):
        if voxels.shape[number] == axis.full:
            kept = axis.kept
            voxels = voxels.narrow(number, kept.start, kept.stop - kept.start)
    return _padded(voxels, placement, 0)


def _padded(voxels: Tensor, placement: Placement, value: int) -> Tensor:
    (top, bottom), (left, right) = (_margins(axis) for axis in placement.axes)
    if not any((top, bottom, left, right)):
        return voxels
    return torch.nn.functional.pad(voxels, (0, 0, left, right, top, bottom), value=value)


def _margins(axis: Axis) -> tuple[int, int]:
    before = max(0, -axis.cut)
    return before, axis.size - (axis.kept.stop - axis.kept.start) - before
