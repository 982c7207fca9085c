"""One object that carries a volume's voxels and its geometry from reading to writing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.data.io.geometry import spacing_of

AXES = ("XYZ", "XYZT", "XYZC", "XYZCT", "XYZTC")
"""What the axes of a volume may be: space, T time, C channels. XY is a slice on its way to become (X, Y, 1)."""

_BY_DIMENSIONS = {2: "XY", 3: "XYZ", 4: "XYZT"}


@dataclass(frozen=True, repr=False, eq=False)
class Volume:
    """Voxels in stored axis order with the geometry of the file they came from.

    Args:
        array: Voxels, axes as `axes` says. A slice is `array[:, :, z]`.
        affine: 4x4 float64 matrix from voxel indices to RAS millimetres.
        header: Header of the source file as nibabel holds it; None when the volume was made in memory.
        path: Source file, for messages; None when made in memory.
        axes: One of `AXES`. Left empty, three dimensions are space and a fourth is time, as NIfTI has it.

    Example:
        >>> cine = Volume(np.zeros((8, 6, 3, 5)), np.diag([1.5, 1.5, 10.0, 1.0]))
        >>> cine.axes, cine.frames, cine.frame(2).array.shape, cine.spacing_mm
        ('XYZT', 5, (8, 6, 3), (1.5, 1.5, 10.0))
        >>> cine.frame(2)
        Volume(8 x 6 x 3 voxels of 1.5 x 1.5 x 10 mm, float64)
        >>> cine.with_channels()
        Volume(8 x 6 x 3 voxels of 1.5 x 1.5 x 10 mm, 5 channels, float64)
    """

    array: np.ndarray
    affine: np.ndarray
    header: Any | None = None
    path: Path | None = None
    axes: str = ""

    def __post_init__(self) -> None:
        """Name the axes if they have no names, and make sure that their number is that of the array."""
        if self.axes in ("", "XY"):
            object.__setattr__(self, "axes", _BY_DIMENSIONS.get(self.array.ndim, ""))
        elif self.axes not in AXES or len(self.axes) != self.array.ndim:
            raise ValueError(f"axes {self.axes!r} for an array of shape {self.array.shape}")

    def __repr__(self) -> str:
        """Return shape, spacing, frames, channels, type and path."""
        space = " x ".join(str(size) for size in self.shape[:3])
        parts = [f"{space} voxels of {' x '.join(f'{mm:.4g}' for mm in self.spacing_mm)} mm"]
        parts += [f"{self.frames} frames"] if "T" in self.axes else []
        parts += [f"{self.channels} channels"] if "C" in self.axes else []
        parts += [str(self.array.dtype)] + ([str(self.path)] if self.path else [])
        return f"Volume({', '.join(parts)})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the voxels, so that numpy takes a volume for its array."""
        return np.array(self.array, dtype) if copy else np.asarray(self.array, dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, in the order of `axes`."""
        return tuple(self.array.shape)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along the three stored axes, in mm."""
        # The columns of the affine, not the header's pixdim: the two may differ and the affine places the voxels.
        return spacing_of(self.affine)

    @property
    def slices(self) -> int:
        """Number of slices along the third stored axis."""
        return int(self.array.shape[2])

    @property
    def frames(self) -> int:
        """Number of time frames; 1 where there is no axis of time."""
        return self._length("T")

    @property
    def channels(self) -> int:
        """Number of channels; 1 where there is no axis of channels."""
        return self._length("C")

    def frame(self, index: int) -> Volume:
        """Return one frame, without an axis of time, that shares memory with this volume.

        Args:
            index: Frame, 0 to `frames - 1`. Negative indices are refused, because a cine's
                last frame is rarely what a negative frame number was meant to be.
        """
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of a volume with {self.frames}")
        return self._taken("T", index)

    def channel(self, index: int) -> Volume:
        """Return one channel, without an axis of channels, that shares memory with this volume.

        Args:
            index: Channel, 0 to `channels - 1`.
        """
        if not 0 <= index < self.channels:
            raise IndexError(f"channel {index} of a volume with {self.channels}")
        return self._taken("C", index)

    def with_channels(self) -> Volume:
        """Return the volume with its fourth axis read as channels; one of three axes, or with channels, stays."""
        return replace(self, axes="XYZC") if self.axes == "XYZT" else self

    def _length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    def _taken(self, axis: str, index: int) -> Volume:
        if axis not in self.axes:
            return self
        place = self.axes.index(axis)
        return replace(
            self,
            array=self.array[(slice(None),) * place + (index,)],
            axes=self.axes.replace(axis, ""),
        )


def without_voxels(volume: Volume) -> Volume:
    """Return a volume of the same shape and geometry that is 0 everywhere and takes no memory.

    Args:
        volume: whose voxels are not needed any longer.
    """
    return replace(volume, array=np.broadcast_to(np.zeros(1, volume.array.dtype), volume.shape))


def stacked(slices: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return slices as one array, without holding them all a second time.

    Args:
        slices: (X, Y) each, decoded when they are asked for; where types differ, the array has one that holds all.
        shape: (X, Y, Z) of the array.
    """
    array = np.empty(shape, np.uint8, order="F")
    for number, image in enumerate(slices):
        if number == 0:
            array = np.empty(shape, image.dtype, order="F")
        elif np.result_type(array, image) != array.dtype:
            array = array.astype(np.result_type(array, image))
        array[..., number] = image
    return array


@dataclass(frozen=True, eq=False)
class VolumeInfo:
    """What the header says of a volume, known without decoding its voxels."""

    shape: tuple[int, ...]
    affine: np.ndarray
    path: Path
