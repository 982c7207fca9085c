"""Images of MONAI, which carry their geometry along: without it, and back on the grid of the file."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor


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
