"""Brings volumes to the network's grid, and probabilities back, with MONAI transforms only.

The same chain serves training, prediction and an exported bundle. Unless `grid.slice_axis` names a body axis, nothing
is reoriented: short-axis stacks are oblique, and a reorientation could swap the through-plane axis, so slices are cut
along the third stored axis.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    ScaleIntensityRange,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
    Transform,
)
from torch import Tensor

from unia_med.data.grid.plane import PlaneGridd
from unia_med.data.io.orientation import AXIS_CODES, orient
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.labels import IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import GridConfig

KEY = "image"
_SLAB = 16
"""Slices that `in_slabs` brings to the grid at once."""
_SMALL = 1 << 24
"""Voxels of a volume that is not worth cutting."""
_DIRECTIONS = (("L", "R"), ("P", "A"), ("I", "S"))  # named, since MONAI's default is about to change


def preprocess(grid: GridConfig, load: bool = True) -> Compose:
    """Return the chain from an image to float32 (C, H, W, Z) in [0, 1] on the network's grid.

    Args:
        grid: `slice_axis`, `spacing_mm` in plane (None keeps the stored pixels), `resize`, `size` (H, W), `percentiles`
            of each channel of the volume that become 0 and 1. They are of the volume, since those of each slice would
            inflate empty slices. None: intensities are divided by 255.
        load: True takes {"image": path}, as a bundle does; False takes {"image": `as_tensor(volume)`}, for volumes
            that were read and checked by `read_volume` and for the frames of a cine.
    """
    loading = [LoadImaged(KEY, reader="NibabelReader"), EnsureChannelFirstd(KEY)] if load else []
    return Compose([*loading, *_turned(grid), scaling(grid), *_to_grid(grid, "bilinear", padding=0)])


def as_tensor(volume: Volume) -> MetaTensor:
    """Return a volume as float32 (C, X, Y, Z) that carries its affine.

    Args:
        volume: (X, Y, Z), or (X, Y, Z, C) of several channels; of a cine, one frame: `volume.frame(t)`.
    """
    if "T" in volume.axes:
        raise ValueError(f"{volume!r} has an axis of time; give one frame")
    array = np.moveaxis(volume.array, 3, 0) if "C" in volume.axes else volume.array[None]
    voxels = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return MetaTensor(voxels, affine=torch.from_numpy(np.array(volume.affine, dtype=np.float64)))


def in_slabs(volume: Volume, grid: GridConfig) -> MetaTensor:
    """Return what `preprocess(grid, load=False)` makes of a volume, slab by slab: memory grows with the result alone.

    Args:
        volume: as in `as_tensor`, turned by `orient`.
        grid: as in `preprocess`.
    """
    if volume.slices <= _SLAB or volume.array.size <= _SMALL:
        return cast(MetaTensor, preprocess(grid, load=False)({KEY: as_tensor(volume)})[KEY])
    chain = Compose([_known_scaling(volume, grid), *_to_grid(grid, "bilinear", padding=0)])
    parts: list[MetaTensor] = []
    for start in range(0, volume.slices, _SLAB):
        slab = replace(volume, array=volume.array[:, :, start : start + _SLAB])
        parts.append(chain({KEY: as_tensor(slab)})[KEY])
    whole = torch.cat([part.as_tensor() for part in parts], dim=-1)
    meta = {name: value for name, value in parts[0].meta.items() if name != "affine"}
    return MetaTensor(whole, parts[0].affine, meta, applied_operations=parts[0].applied_operations)


def to_slices(image: Tensor) -> Tensor:
    """Return (Z, C, H, W) slices of a volume (C, H, W, Z), as a plain tensor."""
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    return plain.permute(3, 0, 1, 2).contiguous()


def from_slices(slices: Tensor) -> Tensor:
    """Return a volume (C, H, W, Z) of slices (Z, C, H, W)."""
    return slices.permute(1, 2, 3, 0).contiguous()


def restore(probabilities: Tensor, image: MetaTensor, chain: Compose) -> Tensor:
    """Return probabilities (K, X, Y, Z) on the native grid of the image, summing to 1.

    Resampled linearly, before any argmax. Native voxels outside the network's field of view are background.

    Args:
        probabilities: (K, H, W, Z) on the network's grid.
        image: What `chain` made of the image; it remembers what was done to it.
        chain: The chain itself.
    """
    item: dict[Hashable, MetaTensor] = {KEY: image, "pred": MetaTensor(probabilities.float(), affine=image.affine)}
    native = Invertd("pred", chain, orig_keys=KEY, nearest_interp=False, to_tensor=True)(item)["pred"].as_tensor()
    native = native.clamp(0, 1)
    total = native.sum(0)
    # Cropped-away voxels come back as zeros, which linear weights mix in at the rim; background takes the rest.
    native[0] += (1 - total).clamp_min(0)
    return native / native.sum(0, keepdim=True)


def load_label_slices(path: Path | str, grid: GridConfig, values: Mapping[int, int]) -> np.ndarray:
    """Return uint8 weak labels (Z, H, W) on the network's grid, nearest neighbour, IGNORE where nothing is said.

    Args:
        path: Label volume on the image's native grid.
        grid: As in `preprocess`.
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
        grid: As in `preprocess`.
    """
    native = orient(labels, grid.slice_axis)
    placed = label_grid(grid)({KEY: as_tensor(native)})[KEY]
    return to_slices(placed)[:, 0].numpy().astype(np.uint8)


def label_grid(grid: GridConfig) -> Compose:
    """Return the chain that brings labels (1, X, Y, Z), turned by `orient`, to the network's grid; nearest voxel."""
    return Compose(_to_grid(grid, "nearest", padding=IGNORE))


class SmoothBeforeShrinking(Transform):
    """Blurs a volume along the axes on which it is about to shrink, as photographs of many pixels need.

    The standard deviation is half the excess of the factor over 1, in stored pixels, as in scikit-image and MONAI;
    the rim is repeated outwards.

    Args:
        size: (H, W) to which it will shrink.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, item: dict[str, MetaTensor]) -> dict[str, MetaTensor]:
        """Return the item with its image (C, X, Y, Z) blurred; geometry and history stay."""
        image = item[KEY]
        smooth = image.as_tensor()
        for axis, size in enumerate(self.size, start=1):
            sigma = (image.shape[axis] / size - 1) / 2
            smooth = _blurred(smooth, axis, sigma) if sigma > 0 else smooth
        return {**item, KEY: MetaTensor(smooth, meta=image.meta, applied_operations=image.applied_operations)}


def _blurred(volume: Tensor, axis: int, sigma: float) -> Tensor:
    reach = math.ceil(4 * sigma)
    kernel = (-0.5 * (torch.arange(-reach, reach + 1, dtype=volume.dtype) / sigma) ** 2).exp()
    last = volume.movedim(axis, -1)
    lines = torch.nn.functional.pad(last.reshape(-1, 1, last.shape[-1]), (reach, reach), mode="replicate")
    blurred = torch.nn.functional.conv1d(lines, (kernel / kernel.sum()).view(1, 1, -1))
    return blurred.reshape(last.shape).movedim(-1, axis).contiguous()


def _turned(grid: GridConfig) -> list[Orientationd]:
    if grid.slice_axis == "stored":
        return []
    return [Orientationd(KEY, axcodes=AXIS_CODES[grid.slice_axis], labels=_DIRECTIONS)]


def scaling(grid: GridConfig) -> ScaleIntensityRangePercentilesd | ScaleIntensityRanged:
    """Return the transform that brings the intensities of {"image": (C, X, Y, Z)} to [0, 1].

    Args:
        grid: reads `percentiles`, see `preprocess`.
    """
    if grid.percentiles is None:
        return ScaleIntensityRanged(KEY, a_min=0.0, a_max=255.0, b_min=0.0, b_max=1.0, clip=True)
    low, high = grid.percentiles
    return ScaleIntensityRangePercentilesd(
        KEY, lower=low, upper=high, b_min=0.0, b_max=1.0, clip=True, channel_wise=True
    )


class _KnownScaling(Transform):
    """Scales each channel from its own two intensities to [0, 1], as `scaling` does with those that it finds."""

    def __init__(self, ranges: Sequence[Tensor]) -> None:
        # Tensors of single precision, as MONAI's percentiles are, so that the same numbers come out.
        self.steps = [ScaleIntensityRange(cast(float, r[0]), cast(float, r[1]), 0.0, 1.0, clip=True) for r in ranges]

    def __call__(self, item: dict[str, MetaTensor]) -> dict[str, MetaTensor]:
        image = item[KEY]
        for channel, step in enumerate(self.steps):
            image[channel] = cast(Tensor, step(image[channel]))
        return item


def _known_scaling(volume: Volume, grid: GridConfig) -> Transform:
    """Return `scaling` with the percentiles of the whole volume, for parts of it."""
    if grid.percentiles is None:
        return scaling(grid)
    channels = np.moveaxis(volume.array, 3, 0) if "C" in volume.axes else volume.array[None]
    ranges = []
    for channel in channels:
        values = np.array(channel, np.float32, order="K").ravel(order="K")
        ranges.append(torch.from_numpy(np.percentile(values, grid.percentiles, overwrite_input=True)).float())
    return _KnownScaling(ranges)


def _to_grid(grid: GridConfig, mode: str, padding: int) -> list[Transform]:
    spacing = grid.spacing_mm
    # -1 keeps the distance between slices. Beyond the rim, by half a pixel at most, the rim is repeated.
    resample: list[Transform] = [PlaneGridd(KEY)]
    if spacing:
        resample.append(Spacingd(KEY, pixdim=(spacing, spacing, -1.0), mode=mode, padding_mode="border"))
    if grid.resize == "stretch":
        linear = mode == "bilinear"
        # MONAI's own anti-aliasing pads with 0 and leaves a dark rim; its `nearest` would be half a pixel off.
        resample += [SmoothBeforeShrinking(grid.size)] if linear else []
        mode, corners = ("trilinear", False) if linear else ("nearest-exact", None)
        resample.append(Resized(KEY, spatial_size=(*grid.size, -1), mode=mode, align_corners=corners))
    crop = ResizeWithPadOrCropd(KEY, spatial_size=(*grid.size, -1), mode="constant", value=padding)
    return [*resample, crop]
