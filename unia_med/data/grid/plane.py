"""The in-plane grid of a volume from its sizes and spacing alone: rounding of an oblique affine moves nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

_DIGITS = 5
"""Of a spacing in mm that count; a header in single precision keeps some 7 of each number of its affine."""


class PlaneGridd(MapTransform):
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


def plane_affine(affine: np.ndarray) -> np.ndarray:
    """Return the 4x4 matrix from voxel indices to mm along the axes of the volume itself.

    Args:
        affine: 4x4 matrix to millimetres.

    Example:
        >>> turned = np.array([[0.0, -1.5, 0, 7], [1.2, 0, 0, 9], [0, 0, 8, 3], [0, 0, 0, 1]])
        >>> plane_affine(turned).diagonal().tolist()
        [1.2, 1.5, 8.0, 1.0]
    """
    lengths = np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)
    # Micrographs have voxels of some thousandths of a mm; the digits are counted from the first that is not zero.
    digits = [max(_DIGITS, _DIGITS - int(np.floor(np.log10(length)))) for length in lengths]
    return np.diag([*(round(float(length), count) for length, count in zip(lengths, digits, strict=True)), 1.0])
