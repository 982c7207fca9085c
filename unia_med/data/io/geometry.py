"""Whether a geometry can place voxels, and how far two of them lie apart."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from unia_med.errors import UserError

GRID_TOLERANCE_MM = 0.1
"""How far apart the worst corners of two volumes may lie that share a grid: rounding of a header, not a shift."""

PLAUSIBLE_MM = (0.01, 50.0)
"""Voxel sizes of medical images, from micrographs of tissue to thick localisers; others are a wrong unit, as a rule."""

_LOG = logging.getLogger(__name__)

# Below this, the volume of a voxel relative to the product of its edges means that two axes coincide.
_FLAT_VOXEL = 1e-4


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the distance between voxel centres along the three stored axes, in mm.

    Args:
        affine: 4x4 matrix from voxel indices to millimetres.
    """
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def corner_distance_mm(shape: Sequence[int], one: np.ndarray, other: np.ndarray) -> float:
    """Return how far apart, in mm, two affines put the same corner of a volume, at the worst corner.

    Args:
        shape: (X, Y, Z) of the volume.
        one: 4x4 affine.
        other: 4x4 affine.

    Example:
        >>> shifted = np.eye(4); shifted[0, 3] = 2.5
        >>> corner_distance_mm((4, 4, 4), np.eye(4), shifted)
        2.5
    """
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*((0, size - 1) for size in shape[:3]))])
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def grid_difference(
    shape: Sequence[int], affine: np.ndarray, other_shape: Sequence[int], other_affine: np.ndarray
) -> tuple[str, str] | None:
    """Return what the second of two volumes has and what the first has, or None where they share a grid.

    Args:
        shape: (X, Y, Z, ...) of the first.
        affine: its 4x4 affine.
        other_shape: of the second; only three axes count.
        other_affine: of the second.
    """
    if tuple(shape[:3]) != tuple(other_shape[:3]):
        return f"shape {tuple(other_shape)}", str(tuple(shape[:3]))
    apart = corner_distance_mm(shape, affine, other_affine)
    if apart > GRID_TOLERANCE_MM:
        return f"a corner {apart:.2f} mm away by its affine", f"at most {GRID_TOLERANCE_MM} mm"
    return None


def check_geometry(shape: tuple[int, ...], affine: np.ndarray, path: Path) -> None:
    """Refuse shapes that are no volume and affines that cannot place voxels.

    Args:
        shape: Of the voxels.
        affine: 4x4 matrix.
        path: Their file, for the message.
    """
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise UserError(
            f"array of {len(shape)} dimensions {shape}, "
            "expected 2, 3 (x, y, slice) or 4 (x, y, slice, time or channel), none empty",
            where=path,
            remedy="Split what has further dimensions into several files",
        )
    found = _no_geometry(affine)
    if found is not None:
        raise UserError(
            f"the affine has {found}, so millimetres cannot be known",
            where=path,
            remedy="Write the true spacing and directions into the header (sform), or export the scan again",
        )
    spacing = spacing_of(affine)
    if min(spacing) < PLAUSIBLE_MM[0] or max(spacing) > PLAUSIBLE_MM[1]:
        _say_implausible(str(path), " x ".join(f"{mm:.4g}" for mm in spacing))


@lru_cache(maxsize=10_000)  # a file is opened several times, and reported once
def _say_implausible(path: str, spacing: str) -> None:
    _LOG.warning("%s: voxels of %s mm are implausible; check the unit of space in its header", path, spacing)


def _no_geometry(affine: np.ndarray) -> str | None:
    if not np.isfinite(affine).all():
        return "NaN or infinite numbers"
    matrix = affine[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    if not lengths.all():
        return "an axis with a voxel size of 0 mm"
    if abs(np.linalg.det(matrix / lengths)) < _FLAT_VOXEL:
        return "axes that coincide (singular matrix)"
    return None
