"""The network's grid in the plane of a volume's slices, from sizes and spacing alone: no rounding of affines counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from unia_med.config.schema import GridConfig

_DIGITS = 5
"""Of a spacing in mm that count; a header in single precision keeps some 7 of each number of its affine."""

_SAME = 1e-3
"""Spacings in mm, or their ratios, that differ by no more are the same (MONAI's tolerance): nothing is resampled."""


@dataclass(frozen=True)
class Axis:
    """The network's pixels along one axis of a slice: voxels are resampled, stretched, then cropped or padded.

    Attributes:
        stored: voxels.
        ratio: voxels per resampled pixel; exactly 1 where nothing is resampled.
        resampled: pixels after resampling; voxel 0 is pixel 0.
        full: pixels after stretching, before the crop.
        size: pixels of the network's grid.
    """

    stored: int
    ratio: float
    resampled: int
    full: int
    size: int

    @property
    def cut(self) -> int:
        """Pixels that the crop takes from the start; negative: pixels that are added."""
        return self.full // 2 - self.size // 2 if self.full > self.size else -((self.size - self.full) // 2)

    @property
    def step(self) -> float:
        """Pixels of the network's grid per voxel."""
        return self.full / (self.resampled * self.ratio)

    @property
    def start(self) -> float:
        """Position of voxel 0 in pixels of the network's grid."""
        stretch = self.resampled / self.full  # resampled pixels per stretched one, with the same rims
        return (1 / stretch - 1) / 2 - self.cut

    @property
    def kept(self) -> slice:
        """Pixels of `full` that the crop keeps."""
        first = max(0, self.cut)
        return slice(first, min(first + self.size, self.full))


@dataclass(frozen=True)
class Placement:
    """Where the network's grid lies in the slices of a volume.

    Attributes:
        rows: first axis of a slice.
        columns: second axis.
    """

    rows: Axis
    columns: Axis

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both."""
        return self.rows, self.columns

    @property
    def resamples(self) -> bool:
        """Whether voxels are interpolated to another spacing."""
        return any(axis.ratio != 1 or axis.resampled != axis.stored for axis in self.axes)


def place_plane(shape: tuple[int, ...], affine: np.ndarray, grid: GridConfig) -> Placement:
    """Return where the network's grid lies in a volume.

    The sizes are those of MONAI's `Spacingd`, `Resized` and `ResizeWithPadOrCropd` one after another.

    Args:
        shape: (X, Y, Z) of the volume, its third axis going from slice to slice.
        affine: 4x4 matrix to millimetres, of which the spacing counts.
        grid: reads `spacing_mm`, `resize` and `size`.
    """
    spacing = plane_affine(affine)
    ratios, resampled = np.ones(3), np.asarray(shape[:3])
    if grid.spacing_mm:
        ratios, resampled = _respaced(resampled, spacing, grid.spacing_mm)
    rows, columns = (
        Axis(
            shape[axis],
            float(ratios[axis]),
            int(resampled[axis]),
            int(grid.size[axis] if grid.resize == "stretch" else resampled[axis]),
            grid.size[axis],
        )
        for axis in (0, 1)
    )
    return Placement(rows, columns)


def _respaced(shape: np.ndarray, spacing: np.ndarray, wanted: float) -> tuple[np.ndarray, np.ndarray]:
    """Voxels per pixel and pixels, (3,) each: whole voxels are covered, from the centre of the first.

    The matrices are MONAI's, since half a pixel is decided by the last bit: 3 voxels of 1.5 mm are 3.5 pixels of 1.8.
    """
    own = spacing.diagonal()[:3]
    target = np.array([*(size if wanted - _SAME <= size <= wanted + _SAME else wanted for size in own[:2]), own[2]])
    zoom = np.linalg.cholesky(spacing[:3, :3] @ spacing[:3, :3]).T
    resized = np.eye(4)
    resized[:3, :3] = spacing[:3, :3] @ np.linalg.inv(zoom) @ np.diag(target)
    corners = np.linalg.solve(resized, spacing) @ np.array([*(shape - 1.0), 1.0])
    pixels = np.round(corners[:3] + 1.0).astype(int)
    ratios = np.linalg.solve(spacing, resized)
    same = np.allclose(spacing, resized, atol=_SAME) or np.allclose(ratios, np.eye(4), atol=_SAME)
    if same and (pixels == shape).all():
        return np.ones(3), shape
    return ratios.diagonal()[:3], pixels


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
