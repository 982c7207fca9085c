"""Distances between the surfaces of two binary masks, in the unit of their spacing: mm, or pixels of a picture.

The surface of a mask is its voxels that touch a voxel outside it through a face; the outside of the array counts
as outside. This is MONAI's ``get_mask_edges``, so numbers agree with ``monai.metrics``. In a one-slice volume every
voxel touches the outside through the slice, hence all of them are surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

HausdorffKind = Literal["max", "pooled"]


class SurfaceDistances(NamedTuple):
    """Distance from each surface voxel of one mask to the nearest surface voxel of the other, both ways."""

    to_label: np.ndarray
    to_prediction: np.ndarray


def surface(mask: np.ndarray) -> np.ndarray:
    """Bool mask of the voxels of ``mask`` with a face towards its outside.

    >>> surface(np.array([0, 1, 1, 1, 0], bool)).astype(int)
    array([0, 1, 0, 1, 0])
    """
    mask = np.asarray(mask, dtype=bool)
    return mask & ~ndimage.binary_erosion(mask)


def surface_distances(prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances | None:
    """Both directed sets of surface distances, or None when either mask is empty.

    Args:
        prediction: bool mask, shape (X, Y, Z).
        label: bool mask of the same shape.
        spacing: voxel size along each array axis, in the order of the axes. There is no default: a distance
            without a spacing is no distance.
    """
    prediction, label = np.asarray(prediction, dtype=bool), np.asarray(label, dtype=bool)
    if prediction.shape != label.shape:
        raise ValueError(f"masks differ in shape: prediction {prediction.shape}, label {label.shape}")
    if len(spacing) != prediction.ndim:
        raise ValueError(f"spacing has {len(spacing)} numbers for {prediction.ndim} axes")
    if not prediction.any() or not label.any():
        return None
    box = _bounding_box(prediction | label)
    # Outside the box both masks are empty, so the array's end there and the true outside look the same to the erosion.
    prediction_surface, label_surface = surface(prediction[box]), surface(label[box])
    return SurfaceDistances(
        to_label=_distance_to(label_surface, spacing)[prediction_surface],
        to_prediction=_distance_to(prediction_surface, spacing)[label_surface],
    )


def hausdorff95(distances: SurfaceDistances, kind: HausdorffKind = "max") -> float:
    """Return the 95 % Hausdorff distance, in the unit of the spacing.

    Args:
        distances: from ``surface_distances``.
        kind: ``max`` is the larger of the two directed 95th percentiles (MONAI's definition); ``pooled`` is the 95th
            percentile of both directions together (medpy's, in most scribble papers). ``pooled`` forgives a false
            blob that is small beside the structure.
    """
    if kind == "max":
        return float(max(np.percentile(directed, 95) for directed in distances))
    if kind == "pooled":
        return float(np.percentile(np.concatenate(distances), 95))
    raise ValueError(f"unknown kind of HD95 {kind!r}: 'max' or 'pooled'")


def average_surface_distance(distances: SurfaceDistances) -> float:
    """Return the average symmetric surface distance: the mean over the surface voxels of both masks together.

    ``(sum d(P, L) + sum d(L, P)) / (|P| + |L|)`` as in Heimann et al. 2009; MONAI's
    ``compute_average_surface_distance(symmetric=True)``. medpy's ``assd`` averages the two directed means instead.
    """
    return float(np.concatenate(distances).mean())


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    return ndimage.find_objects(mask.view(np.uint8))[0]


def _distance_to(surface_mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    return ndimage.distance_transform_edt(~surface_mask, sampling=[float(size) for size in spacing])
