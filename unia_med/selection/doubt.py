"""Uncertainty of a model on each slice of a volume, and features of the volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

NEAR_MM = 5.0
"""Distance to the predicted structures up to which doubt counts: elsewhere a network is certain, and right."""

EMPTY_SHARE = 0.05
"""Share of the voxels, the most uncertain ones, that count where nothing at all is predicted."""

COARSE = 8
"""Side of the image and of the mask in a description, pixels."""

_IN_SLICE = ndimage.generate_binary_structure(2, 1)[:, :, None]


@dataclass(frozen=True)
class Look:
    """What a model makes of one case.

    Attributes:
        doubt: float64 (Z,), mean uncertainty of each slice in and near the structures, 0 certain to 1.
        image: float32 (COARSE * COARSE,), mean intensities of the volume, coarse.
        mask: float32 (T * COARSE * COARSE,), mean share of each class, coarse.
    """

    doubt: np.ndarray
    image: np.ndarray
    mask: np.ndarray


def look(
    array: np.ndarray, labels: np.ndarray, uncertainty: np.ndarray, spacing_mm: tuple[float, ...], classes: int
) -> Look:
    """Return what a prediction says of a case.

    Args:
        array: (X, Y, Z) or (X, Y, Z, C) intensities, slices along the third axis.
        labels: uint8 (X, Y, Z), predicted, 0 background.
        uncertainty: float32 (X, Y, Z) in [0, 1].
        spacing_mm: of the first two axes.
        classes: T.
    """
    plain = array if array.ndim == 3 else array.mean(3)
    low, high = np.percentile(plain, (1, 99))
    scaled = ((plain - low) / max(high - low, 1e-6)).clip(0, 1).mean(2)
    shares = np.stack([(labels == label).mean(2) for label in range(1, classes + 1)])
    return Look(slice_doubts(labels, uncertainty, spacing_mm), _coarse(scaled[None]), _coarse(shares))


def slice_doubts(labels: np.ndarray, uncertainty: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Mean uncertainty (Z,) of each slice in and near the structures of it and of its two neighbours.

    Where nothing is predicted in the whole volume, which is itself a reason to look, the most uncertain voxels count.

    Args:
        labels: uint8 (X, Y, Z), 0 background.
        uncertainty: (X, Y, Z) in [0, 1].
        spacing_mm: of the first two axes.
    """
    found = labels > 0
    if not found.any():
        count = max(1, int(EMPTY_SHARE * labels.shape[0] * labels.shape[1]))
        flat = uncertainty.reshape(-1, labels.shape[2])
        highest: np.ndarray = np.sort(flat, 0)[-count:].mean(0, dtype=np.float64)
        return highest
    beside = found.copy()
    beside[:, :, 1:] |= found[:, :, :-1]
    beside[:, :, :-1] |= found[:, :, 1:]
    near = ndimage.binary_dilation(beside, _IN_SLICE, iterations=max(1, round(NEAR_MM / min(spacing_mm[:2]))))
    voxels = near.sum((0, 1))
    doubt: np.ndarray = np.where(near, uncertainty, 0).sum((0, 1), dtype=np.float64) / np.maximum(voxels, 1)
    return doubt


def _coarse(planes: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(planes, np.float32))[None]
    pooled: np.ndarray = torch.nn.functional.adaptive_avg_pool2d(tensor, COARSE).flatten().numpy()
    return pooled
