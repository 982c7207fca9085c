"""What brings volumes to the network's grid and probabilities back, in MONAI's transforms alone: the truth of tests."""

from __future__ import annotations

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
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
)
from torch import Tensor

from unia_med.bundle.meta import InPlaneGridd
from unia_med.config.schema import GridConfig
from unia_med.data.io.orientation import AXIS_CODES
from unia_med.data.io.volume import Volume

KEY = "image"


def image_chain(grid: GridConfig, load: bool = False) -> Compose:
    """From {"image": MetaTensor}, or with `load` a path, to (C, H, W, Z) on the network's grid."""
    loading = [LoadImaged(KEY, reader="NibabelReader"), EnsureChannelFirstd(KEY)] if load else []
    if grid.percentiles is None:
        scaling = ScaleIntensityRanged(KEY, a_min=0.0, a_max=255.0, b_min=0.0, b_max=1.0, clip=True)
    else:
        low, high = grid.percentiles
        scaling = ScaleIntensityRangePercentilesd(KEY, low, high, b_min=0.0, b_max=1.0, clip=True, channel_wise=True)
    return Compose([*loading, *_turned(grid), scaling, *_to_grid(grid, "bilinear", 0)])


def label_chain(grid: GridConfig, padding: int) -> Compose:
    """The same for labels, nearest voxel."""
    return Compose([*_turned(grid), *_to_grid(grid, "nearest", padding)])


def as_meta(volume: Volume) -> MetaTensor:
    """A volume as MONAI loads it."""
    array = np.moveaxis(volume.array, 3, 0) if "C" in volume.axes else volume.array[None]
    voxels = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return MetaTensor(voxels, affine=torch.from_numpy(np.array(volume.affine, dtype=np.float64)))


def restore(probabilities: Tensor, image: MetaTensor, chain: Compose) -> Tensor:
    """(K, X, Y, Z) on the native grid of (K, H, W, Z); outside the field of view is background."""
    item = {KEY: image, "pred": MetaTensor(probabilities.float(), affine=image.affine)}
    native = Invertd("pred", chain, orig_keys=KEY, nearest_interp=False, to_tensor=True)(item)["pred"].as_tensor()
    native = native.clamp(0, 1)
    native[0] += (1 - native.sum(0)).clamp_min(0)
    return native / native.sum(0, keepdim=True)


def _turned(grid: GridConfig) -> list:
    labels = (("L", "R"), ("P", "A"), ("I", "S"))
    stored = grid.slice_axis == "stored"
    return [] if stored else [Orientationd(KEY, axcodes=AXIS_CODES[grid.slice_axis], labels=labels)]


def _to_grid(grid: GridConfig, mode: str, padding: int) -> list:
    steps: list = [InPlaneGridd(KEY)]
    if grid.spacing_mm:
        steps.append(Spacingd(KEY, pixdim=(grid.spacing_mm, grid.spacing_mm, -1.0), mode=mode, padding_mode="border"))
    if grid.resize == "stretch":
        linear = mode == "bilinear"
        resizing, corners = ("trilinear", False) if linear else ("nearest-exact", None)
        steps.append(Resized(KEY, spatial_size=(*grid.size, -1), mode=resizing, align_corners=corners))
    return [*steps, ResizeWithPadOrCropd(KEY, spatial_size=(*grid.size, -1), mode="constant", value=padding)]
