"""Volumes read and results written one time frame at a time, so that memory does not grow with a cine's length."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import nibabel as nib
import numpy as np

from unia_med.data.io.geometry import check_geometry
from unia_med.data.io.nifti import check_finite, has_time_step, result_header, stored_shape, stored_voxels
from unia_med.data.io.nifti_file import NiftiFile, in_header_units, open_nifti
from unia_med.data.io.nifti_names import add_names
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.suffixes import ITK_SUFFIXES, MGH_SUFFIXES, NIFTI_SUFFIXES, volume_suffix
from unia_med.data.io.volume import Volume, VolumeInfo
from unia_med.files import replacing
from unia_med.stopwatch import part

_LOG = logging.getLogger(__name__)

_COMPRESSION = 1
"""gzip level, nibabel's own: masks hardly shrink with more, and it is several times slower."""


class FrameSource(Protocol):
    """A volume or cine whose frames are read when they are asked for; a `Volume` is one too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z), or (X, Y, Z, T)."""

    @property
    def affine(self) -> np.ndarray:
        """4x4 matrix from voxel indices to RAS millimetres."""

    @property
    def header(self) -> Any | None:
        """NIfTI header with units and time spacing; None for a default one."""

    @property
    def path(self) -> Path | None:
        """Where it comes from, for messages."""

    @property
    def frames(self) -> int:
        """Number of time frames; 1 for a 3D volume."""

    def frame(self, index: int) -> Volume:
        """One frame as a 3D volume.

        Args:
            index: 0 to `frames - 1`.
        """


@dataclass(frozen=True)
class NiftiFrames:
    """A NIfTI file whose frames are decoded one by one, when they are asked for; of a 3D file there is one.

    Attributes:
        file: the file, its voxels not decoded.
    """

    file: NiftiFile

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z), or (X, Y, Z, T)."""
        return self.file.shape

    @property
    def affine(self) -> np.ndarray:
        """4x4 matrix from voxel indices to RAS millimetres."""
        return self.file.affine

    @property
    def header(self) -> Any:
        """Header of the file."""
        return self.file.header

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def frames(self) -> int:
        """Number of time frames."""
        return self.shape[3] if len(self.shape) == 4 else 1

    def frame(self, index: int) -> Volume:
        """One frame, its voxels checked; the same numbers as in `read_volume`.

        Args:
            index: 0 to `frames - 1`; in rising order a compressed file is decoded once.
        """
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of a volume with {self.frames}")
        part = (..., index) if len(self.shape) == 4 else ...
        array = stored_voxels(self.file.voxels, self.path, part)
        check_finite(array, self.path)
        return Volume(array, self.affine, None, self.path)


@dataclass(frozen=True)
class WholeFile:
    """A 3D file of a format that is decoded whole: when its frame is asked for, and nothing is kept of it.

    Attributes:
        info: what its header says.
    """

    info: VolumeInfo
    frames = 1
    header = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z)."""
        return self.info.shape

    @property
    def affine(self) -> np.ndarray:
        """4x4 matrix from voxel indices to RAS millimetres."""
        return self.info.affine

    @property
    def path(self) -> Path:
        """The file."""
        return self.info.path

    def frame(self, index: int) -> Volume:
        """Return the volume; the same numbers as in `read_volume`.

        Args:
            index: 0.
        """
        if index:
            raise IndexError(f"frame {index} of a volume with 1")
        return replace(read_volume(self.path), header=None)


def open_volume(path: Path | str) -> FrameSource:
    """Return a volume file ready to be read frame by frame, its geometry checked.

    A cine of a format that can only be read whole comes as a `Volume`.

    Args:
        path: NIfTI, NRRD or MetaImage file.

    Raises:
        UserError: as `read_volume`.
    """
    path = Path(path)
    if path.is_file() and volume_suffix(path) in (*ITK_SUFFIXES, *MGH_SUFFIXES):
        info = read_header(path)
        if len(info.shape) == 3 and info.shape[2] > 1:  # a slice may be of a 2D file, which its results remember
            return WholeFile(info)
    if path.is_dir() or not path.exists() or volume_suffix(path) not in NIFTI_SUFFIXES:
        volume = read_volume(path)
        note_time_step(volume.shape, volume.header, path)
        return volume
    file = open_nifti(path, keep_open=True)
    if len(file.shape) == 2:
        return read_volume(path)
    check_geometry(file.shape, file.affine, path)
    note_time_step(file.shape, file.header, path)
    return NiftiFrames(file)


def note_time_step(shape: tuple[int, ...], header: Any | None, path: Path) -> None:
    """Say where the frames of a cine have no distance in time; results keep that, and nothing else depends on it.

    Args:
        shape: of the volume; one of three dimensions has no time.
        header: NIfTI header, or None for a volume made in memory.
        path: the file, for the message.
    """
    if len(shape) >= 4 and header is not None and not has_time_step(header):
        what = "read as frames over time, without a time from frame to frame (pixdim[4]) in its header"
        _LOG.warning("%s: %s", path, what)


def iterate_frames(source: FrameSource) -> Iterator[Volume]:
    """Return the frames in order, one in memory at a time.

    Args:
        source: a volume or cine.
    """
    return (_read_frame(source, index) for index in range(source.frames))


def _read_frame(source: FrameSource, index: int) -> Volume:
    with part("read"):
        return source.frame(index)


class FrameWriter(AbstractContextManager["FrameWriter"]):
    """Write a result as NIfTI in the geometry of its source, frame by frame; the file appears whole or not at all.

    NIfTI stores time as the slowest axis, so the file of a cine is its header followed by one frame after another.

    Args:
        source: what the result is computed from.
        dtype: uint8 or float32.
        path: destination, ending in .nii.gz.
        names: of the label values, which the header then carries.

    Example:
        >>> import tempfile
        >>> cine = Volume(np.zeros((8, 6, 3, 2)), np.diag([1.5, 1.5, 10.0, 1.0]))
        >>> file = Path(tempfile.mkdtemp()) / "cine_seg.nii.gz"
        >>> with FrameWriter(cine, np.uint8, file) as writer:
        ...     for frame in iterate_frames(cine):
        ...         writer.write(np.ones(frame.shape, np.uint8))
        >>> nib.load(file).shape
        (8, 6, 3, 2)
    """

    def __init__(
        self, source: FrameSource, dtype: type, path: Path | str, names: Mapping[int, str] | None = None
    ) -> None:
        self.path, self.shape, self.dtype = Path(path), tuple(source.shape), np.dtype(dtype)
        self._left = source.frames
        shape = self.shape if source.header is None else stored_shape(self.shape, source.header)
        header = result_header(self.dtype, shape, source)
        add_names(header, names or {})
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        # The image of one voxel that is broadcast costs no memory, and lets nibabel settle affine, codes and offset.
        image = kind(
            np.broadcast_to(np.zeros(1, self.dtype), shape), in_header_units(source.affine, source.header), header
        )
        image.update_header()
        self._header = image.header

    def __enter__(self) -> FrameWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path, ".nii.gz"))
            raw = stack.enter_context(temporary.open("wb"))
            # No time stamp and no name: the same result gives the same bytes.
            self._file = stack.enter_context(gzip.GzipFile("", "wb", _COMPRESSION, raw, mtime=0))
            self._write_header()
            stack.push(self._check_complete)
            self._open = stack.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append the next frame.

        Args:
            frame: (X, Y, Z), of the writer's type.
        """
        if frame.shape != self.shape[:3] or frame.dtype != self.dtype or not self._left:
            raise ValueError(f"frame {frame.dtype}{frame.shape} for {self.dtype}{self.shape}, {self._left} frames left")
        kind = self._header.get_data_dtype()  # the source may be big-endian
        for number in range(frame.shape[2]):  # slice by slice, so that no second copy of the frame is made
            self._file.write(frame[:, :, number].astype(kind, copy=False).tobytes(order="F"))
        self._left -= 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def _write_header(self) -> None:
        extensions = self._header.extensions
        marked = len(self._header.binaryblock) + 4  # 4 bytes say whether extensions follow
        self._header["vox_offset"] = marked + extensions.get_sizeondisk()
        self._header["magic"] = self._header.single_magic
        self._header["scl_slope"], self._header["scl_inter"] = 1, 0
        self._file.write(self._header.binaryblock + bytes([bool(extensions), 0, 0, 0]))
        extensions.write_to(self._file, self._header.endianness != nib.volumeutils.native_code)

    def _check_complete(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and self._left:
            raise ValueError(f"{self._left} frames were not written")
