"""Images of MONAI, which carry their geometry along: on a plain grid, without it, and back on the grid of the file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from unia_med.data.grid.percentiles import percentiles_of
from unia_med.data.grid.plane import Axis, Placement, plane_affine
from unia_med.data.grid.transforms import scaled


class PercentileScaled(MapTransform):
    """Intensities in [0, 1], as MONAI's `ScaleIntensityRangePercentilesd` makes them, without sorting the voxels.

    Args:
        keys: images (C, X, Y, Z).
        lower: percentile of each channel that becomes 0.
        upper: percentile of each channel that becomes 1.
        allow_missing_keys: see MONAI.
    """

    def __init__(self, keys: KeysCollection, lower: float, upper: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.percentiles = (lower, upper)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its images scaled.

        Args:
            data: item with the images.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            image: MetaTensor = item[key]
            channels = plain_tensor(image).float().cpu()
            voxels = scaled(channels, [percentiles_of(one.numpy(), self.percentiles) for one in channels])
            item[key] = MetaTensor(voxels, meta=image.meta, applied_operations=image.applied_operations)
        return item


class InPlaneGridd(MapTransform):
    """Give a volume an affine that holds its spacing alone: axes at right angles, no origin, no directions.

    MONAI's `Spacingd` finds the origin of its grid by comparing corners in mm, where rounding of an oblique affine can
    decide; then it starts at another corner, up to half a pixel away. Slices stay where they are, sheared stacks, too.

    Args:
        keys: volumes (C, X, Y, Z), whose third axis goes from slice to slice.
        allow_missing_keys: see MONAI.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its volumes on their plane grid.

        Args:
            data: item with the volumes.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            image: MetaTensor = item[key]
            affine = torch.from_numpy(plane_affine(image.affine.numpy()))
            meta = {name: value for name, value in image.meta.items() if name != "affine"}
            item[key] = MetaTensor(image.as_tensor(), affine, meta, applied_operations=image.applied_operations)
        return item


def placement_of(image: MetaTensor, affine: np.ndarray, shape: tuple[int, ...]) -> Placement:
    """Return where an image on the network's grid lies in its volume.

    Args:
        image: (C, H, W, Z), after MONAI's resampling and cropping, which it remembers.
        affine: 4x4 of the volume, turned so that its third axis counts slices.
        shape: (X, Y, Z) of that volume.
    """
    step = np.linalg.inv(image.affine.double().numpy()) @ plane_affine(affine)
    done = image.applied_operations
    full = [int(side) for side in (done[-1]["orig_size"] if done else image.shape[1:])]
    rows, columns = (
        Axis(shape[axis], 1 / float(step[axis, axis]), full[axis], full[axis], int(image.shape[1 + axis]))
        for axis in (0, 1)
    )
    return Placement(rows, columns)


def plain_tensor(tensor: Tensor) -> Tensor:
    """Return the voxels alone.

    Args:
        tensor: Any, a `MetaTensor` too.
    """
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def native_affine(image: MetaTensor) -> Tensor:
    """Return the affine (4, 4) float64 of an image's file.

    Args:
        image: As loaded by MONAI, at any step of the preprocessing.
    """
    return torch.as_tensor(np.asarray(image.meta["original_affine"]), dtype=torch.float64)


def on_native_grid(tensor: Tensor, image: MetaTensor) -> MetaTensor:
    """Return a result on the image's own grid, with the image's file name and affine.

    Args:
        tensor: The result.
        image: The image it belongs to.
    """
    meta = {key: value for key, value in image.meta.items() if key != "affine"}
    return MetaTensor(tensor, affine=native_affine(image), meta=meta)
