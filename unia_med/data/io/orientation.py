"""Turns volumes so that their slices lie along a named anatomical axis, and turns results back; voxels only move."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from unia_med.data.io.volume import Volume

if TYPE_CHECKING:
    from unia_med.config.data import SliceAxis

AXIS_CODES: dict[str, str] = {"axial": "RAS", "coronal": "RSA", "sagittal": "ASR"}
"""Directions in which the three axes of a turned volume run; the third goes from slice to slice.

Axial slices count from foot to head, coronal ones from back to front, sagittal ones from left to right.
"""


def orient(volume: Volume, slice_axis: SliceAxis, copy: bool = True) -> Volume:
    """Return a volume whose third axis is nearest to `slice_axis`; with "stored", the volume itself.

    Args:
        volume: (X, Y, Z) or (X, Y, Z, T), any orientation, oblique ones too: they are turned by whole axes only.
        slice_axis: see `GridConfig.slice_axis`.
        copy: voxels in the order of the turned axes; False shares those of the volume.
    """
    if slice_axis == "stored":
        return volume
    array = nib.orientations.apply_orientation(volume.array, _turn(volume.affine, slice_axis))
    array = np.ascontiguousarray(array) if copy else array
    moved = volume.affine @ nib.orientations.inv_ornt_aff(_turn(volume.affine, slice_axis), volume.shape[:3])
    return replace(volume, array=array, affine=moved)


def orient_array(array: np.ndarray, affine: np.ndarray, slice_axis: SliceAxis) -> np.ndarray:
    """Return an array in the geometry `affine` as `orient` turns it.

    Args:
        array: (X, Y, Z) or (X, Y, Z, T).
        affine: 4x4 of the untouched volume.
        slice_axis: see `GridConfig.slice_axis`.
    """
    if slice_axis == "stored":
        return array
    return np.ascontiguousarray(nib.orientations.apply_orientation(array, _turn(affine, slice_axis)))


def orient_back(array: np.ndarray, affine: np.ndarray, slice_axis: SliceAxis) -> np.ndarray:
    """Return an array that lies as `orient` left it in the stored axis order.

    Args:
        array: (X, Y, Z) or (X, Y, Z, T), turned.
        affine: 4x4 of the untouched volume.
        slice_axis: see `GridConfig.slice_axis`.
    """
    if slice_axis == "stored":
        return array
    stored = nib.orientations.io_orientation(affine)
    turned = nib.orientations.axcodes2ornt(AXIS_CODES[slice_axis])
    back = nib.orientations.ornt_transform(turned, stored)
    return np.ascontiguousarray(nib.orientations.apply_orientation(array, back))


def slice_count(shape: tuple[int, ...], affine: np.ndarray, slice_axis: SliceAxis) -> int:
    """Return how many slices a volume has along `slice_axis`.

    Example:
        >>> slice_count((4, 5, 6), np.diag([-1.0, -1, 1, 1]), "sagittal")
        4
    """
    if slice_axis == "stored":
        return shape[2]
    return shape[int(np.flatnonzero(_turn(affine, slice_axis)[:, 0] == 2)[0])]


def _turn(affine: np.ndarray, slice_axis: str) -> np.ndarray:
    stored = nib.orientations.io_orientation(affine)
    return nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt(AXIS_CODES[slice_axis]))
