"""Brings a prediction and its true labels to one grid; nothing that is drawn gets lost on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from unia_med.data.io.geometry import grid_difference
from unia_med.data.io.label_file import check_placeable
from unia_med.data.io.regrid import nearest_on_grid, share_inside, voxel_map
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError
from unia_med.evaluation.pairs import Labels
from unia_med.labels import BACKGROUND, IGNORE


def on_one_grid(prediction: Labels, truth: Labels) -> tuple[np.ndarray, np.ndarray, Labels]:
    """Return predicted and true classes on one grid, and that grid: the prediction's, which is its image's.

    True labels on another grid are brought there, nearest in mm. Where they reach beyond the prediction the grid grows,
    so that what is drawn there counts as missed. A picture and a volume of one slice are compared pixel by pixel.

    Args:
        prediction: Classes 0..T, with where they lie.
        truth: Classes 0..T and IGNORE, with where they lie.

    Raises:
        UserError: The two do not overlap, or one of them has no geometry by which it could be placed.
    """
    array = prediction.array
    if truth.affine is None or prediction.affine is None:
        array, true = _without_slices(array), _without_slices(truth.array)
        if array.shape != true.shape:
            remedy = "Prediction and label must have the same size in pixels"
            raise UserError(f"the prediction has shape {array.shape}, the label {true.shape}", remedy=remedy)
        return array, true, Labels(true, None, truth.path)
    if grid_difference(array.shape, prediction.affine, truth.array.shape, truth.affine) is None:
        if array.shape != truth.array.shape:
            remedy = "Both must have the same number of frames"
            raise UserError(f"the prediction has shape {array.shape}, the label {truth.array.shape}", remedy=remedy)
        return array, truth.array, truth
    if array.ndim != 3 or truth.array.ndim != 3:
        remedy = "Bring the prediction to the grid of its image and label, by nearest neighbour"
        raise UserError(f"the prediction has shape {array.shape}, the label {truth.array.shape}", remedy=remedy)
    grid = _grown(prediction, truth)
    assert grid.affine is not None
    true = nearest_on_grid(truth.array, _affine(truth), grid.array.shape, grid.affine)
    return grid.array, true, grid


def _without_slices(array: np.ndarray) -> np.ndarray:
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _grown(prediction: Labels, truth: Labels) -> Labels:
    """Return the prediction on its own grid, with background added where the truth reaches beyond it."""
    here, there = (_info(labels) for labels in (prediction, truth))
    check_placeable(there, here)
    drawn = (truth.array != BACKGROUND) & (truth.array != IGNORE)
    if share_inside(drawn, there.affine, here.shape, here.affine) == 0:
        raise UserError("the label does not overlap the prediction in mm", remedy="Give the label of this case")
    corners = np.argwhere(drawn)
    matrix = voxel_map(here.affine, there.affine)
    points = corners @ matrix[:3, :3].T + matrix[:3, 3] if len(corners) else np.zeros((1, 3))
    # Half a source voxel on each side: the centre of a target voxel may lie anywhere in it.
    reach = np.abs(matrix[:3, :3]).sum(1) / 2
    before = np.maximum(0, np.ceil(-(points.min(0) - reach) - 1e-6)).astype(int)
    after = np.maximum(0, np.ceil(points.max(0) + reach - np.array(here.shape[:3]) + 1 - 1e-6)).astype(int)
    if not before.any() and not after.any():
        return prediction
    affine = here.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    padded = np.pad(prediction.array, list(zip(before, after, strict=True)))
    return replace(prediction, array=padded, affine=affine)


def _info(labels: Labels) -> VolumeInfo:
    return VolumeInfo(tuple(labels.array.shape), _affine(labels), labels.path or Path("a mask"))


def _affine(labels: Labels) -> np.ndarray:
    return np.eye(4) if labels.affine is None else labels.affine
