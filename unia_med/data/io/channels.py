"""Images of several channels: the fourth axis of one file, or one file per channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.io.geometry import grid_difference
from unia_med.data.io.image import read_image, read_image_header
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.suffixes import is_image, volume_stem
from unia_med.data.io.volume import Volume, VolumeInfo
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.config.data import DataConfig


@dataclass(frozen=True)
class ChannelFiles:
    """How the channels of an image are stored.

    Args:
        channels: C. With 1, an image is a 3D (or 2D) volume.
        endings: Endings of the files of one image, first channel first; empty when one file holds them all.
        as_bytes: Pictures are read with 8 bits a pixel, whatever they have: their intensities are divided by 255.

    Example:
        >>> ChannelFiles(2, ("_0000", "_0001")).files(Path("a/x_0000.nii.gz"))
        (PosixPath('a/x_0000.nii.gz'), PosixPath('a/x_0001.nii.gz'))
    """

    channels: int = 1
    endings: tuple[str, ...] = ()
    as_bytes: bool = False

    @classmethod
    def of(cls, data: DataConfig) -> ChannelFiles:
        """Return the channel layout of the data part of a config."""
        return cls(data.channels, tuple(data.volumes.channel_endings), data.grid.percentiles is None)

    def name(self, path: Path) -> str | None:
        """Return the file name of an image without suffix and channel ending; None for a file of a later channel."""
        stem = volume_stem(path)
        if not self.endings:
            return stem
        return stem.removesuffix(self.endings[0]) if stem.endswith(self.endings[0]) else None

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the files of an image, given its first."""
        if not self.endings:
            return (path,)
        name, suffix = self.name(path), path.name[len(volume_stem(path)) :]
        if name is None:
            what = f"the name does not end in {self.endings[0]!r}, the first of data.volumes.channel_endings"
            raise UserError(what, where=path, remedy="Name the file of the first channel")
        return tuple(path.with_name(f"{name}{ending}{suffix}") for ending in self.endings)

    def header(self, path: Path) -> VolumeInfo:
        """Return the header of an image, (X, Y, Z) or (X, Y, Z, C), checked as by `read`."""
        infos = [self._header(file) for file in self.files(path)]
        for other in infos[1:]:
            _same_grid(infos[0], other)
        shape = (*infos[0].shape, len(infos)) if len(infos) > 1 else infos[0].shape
        self._check(shape, path)
        return replace(infos[0], shape=shape)

    def read(self, path: Path) -> Volume:
        """Return an image (X, Y, Z), or (X, Y, Z, C) of several channels.

        Args:
            path: Its file, or that of its first channel; a picture becomes one slice (H, W, 1), or (H, W, 1, C).

        Raises:
            UserError: A file cannot be used, or the number of channels or their grids do not fit.
        """
        volumes = [self._volume(file) for file in self.files(path)]
        for other in volumes[1:]:
            _same_grid(volumes[0], other)
        first = volumes[0]
        if len(volumes) > 1:
            stacked = np.stack([volume.array for volume in volumes], axis=3)
            first = replace(first, array=stacked, axes="XYZC" if stacked.ndim == 4 else "")
        self._check(first.shape, path)
        return first.with_channels()

    @property
    def _per_file(self) -> int:
        """Number of channels of one file."""
        return 1 if self.endings else self.channels

    def _header(self, path: Path) -> VolumeInfo:
        return read_image_header(path, self._per_file) if is_image(path) else read_header(path)

    def _volume(self, path: Path) -> Volume:
        if not is_image(path):
            return read_volume(path)
        if self.as_bytes:
            return read_image(path, self._per_file)
        return _with_channels(read_volume(path), self._per_file)

    def _check(self, shape: tuple[int, ...], path: Path) -> None:
        if self.channels == 1 and len(shape) != 3:
            remedy = "Split the cine into frames, or set data.channels if the fourth axis are channels"
            raise UserError(f"shape {shape}, expected 3D", where=path, remedy=remedy)
        if self.channels > 1 and (len(shape) != 4 or shape[3] != self.channels):
            what = f"shape {shape}, expected a fourth axis of {self.channels} channels"
            raise UserError(what, where=path, remedy="Correct data.channels, or set data.volumes.channel_endings")


def _same_grid(one: VolumeInfo | Volume, other: VolumeInfo | Volume) -> None:
    difference = grid_difference(one.shape, one.affine, other.shape, other.affine)
    if difference:
        what = f"{difference[0]}, expected {difference[1]} as in the first channel"
        raise UserError(what, where=other.path, remedy="Bring all channels of an image to one grid")


def _with_channels(picture: Volume, channels: int) -> Volume:
    """Return a picture with so many channels, 1 or 3: grey is repeated, colours that are all grey become one."""
    array = picture.array
    if array.ndim == 3:
        return (
            picture if channels == 1 else replace(picture, array=np.repeat(array[..., None], channels, 3), axes="XYZC")
        )
    if channels != 1:
        return picture
    if (array != array[..., :1]).any():
        remedy = "Set data.channels=3 to learn from colours, or save the picture in grey"
        raise UserError("a picture of 3 colours, expected 1 channel (data.channels)", where=picture.path, remedy=remedy)
    return replace(picture, array=np.ascontiguousarray(array[..., 0]), axes="XYZ")
