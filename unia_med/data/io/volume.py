"""One object that carries a volume's voxels and its geometry from reading to writing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Volume:
    """Voxels in stored axis order with the geometry of the file they came from.

    Args:
        array: Voxels (X, Y, Z) or, for a cine, (X, Y, Z, T). A slice is `array[:, :, z]`.
        affine: 4x4 float64 matrix from voxel indices to RAS millimetres.
        header: Header of the source file as nibabel holds it; None when the volume was made in memory.
        path: Source file, for messages; None when made in memory.

    Example:
        >>> cine = Volume(np.zeros((8, 6, 3, 5)), np.diag([1.5, 1.5, 10.0, 1.0]))
        >>> cine.frames, cine.frame(2).array.shape, cine.spacing_mm
        (5, (8, 6, 3), (1.5, 1.5, 10.0))
    """

    array: np.ndarray
    affine: np.ndarray
    header: Any | None = None
    path: Path | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, (X, Y, Z) or (X, Y, Z, T)."""
        return tuple(self.array.shape)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along the three stored axes, in mm."""
        # The columns of the affine, not the header's pixdim: the two may differ and the affine places the voxels.
        x, y, z = np.linalg.norm(np.asarray(self.affine, dtype=np.float64)[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def slices(self) -> int:
        """Number of slices along the third stored axis."""
        return int(self.array.shape[2])

    @property
    def frames(self) -> int:
        """Number of time frames; 1 for a 3D volume."""
        return int(self.array.shape[3]) if self.array.ndim == 4 else 1

    def frame(self, index: int) -> Volume:
        """Return one frame as a 3D volume that shares memory with this one.

        Args:
            index: Frame, 0 to `frames - 1`. Negative indices are refused, because a cine's
                last frame is rarely what a negative frame number was meant to be.
        """
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of a volume with {self.frames}")
        return self if self.array.ndim == 3 else replace(self, array=self.array[..., index])


@dataclass(frozen=True)
class VolumeInfo:
    """What the header says of a volume, known without decoding its voxels."""

    shape: tuple[int, ...]
    affine: np.ndarray
    path: Path
