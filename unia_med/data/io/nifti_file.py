"""Opens NIfTI files as leniently as other programs do, and converts lengths to millimetres.

nibabel's checks are stricter than those of the reference library (nifti1_io.c of nifti_clib) that FSL, ITK-SNAP and
3D Slicer build on; what that library repairs in silence is repaired here, too.
"""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from unia_med.data.io.packed import GZIP, CheckedGzip
from unia_med.data.io.suffixes import PAIR_SUFFIXES
from unia_med.errors import UserError

READ_ERRORS = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError, TypeError, OverflowError)
"""What nibabel, gzip and numpy raise between them on foreign, damaged or cut-off files."""

COPY_AGAIN = "Copy the file again from its source, or leave it out"

_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # codes of NIFTI_UNITS_METER, _MM and _MICRON; 0, unknown, is taken for mm
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_MOST_DEFLATED = 1032
"""Bytes that one byte of a deflate stream can stand for at most (RFC 1951: 258 bytes in two bits)."""

_BINARY = 1  # of datatype

_SIZES_DIFFER = 0.05
"""Share by which voxel sizes of sform and pixdim may differ; shears and rounding make some difference."""

_LOG = logging.getLogger(__name__)
_QUIET = logging.Logger("checks of nibabel", logging.CRITICAL + 1)  # its repairs are not for the user's eyes


@dataclass(frozen=True)
class NiftiFile:
    """A file whose header is read and whose voxels are decoded when they are asked for.

    Attributes:
        voxels: what nibabel has of them; `numpy.asarray(voxels[index])` decodes a part.
        header: as in the file, in its own units, repaired where nibabel could not use it.
        affine: 4x4 float64 matrix from voxel indices to RAS millimetres.
        path: the file.
    """

    voxels: Any
    header: Any
    affine: np.ndarray
    path: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the voxels, without axes of length 1 after the third."""
        return tuple(self.voxels.shape)


def open_nifti(path: Path, keep_open: bool = False) -> NiftiFile:
    """Return a NIfTI file, header checked, voxels not yet decoded.

    Args:
        path: The file, compressed or not, whatever its suffix says; of a pair, either file.
        keep_open: Keep its handle, so that frames read in order need no second decompression.

    Raises:
        UserError: It is no NIfTI file, cut off, in colour or complex.
    """
    try:
        head, voxels = _pair(path)
        header = _header(_first_bytes(head), single=head == voxels, path=path)
        if header is None:
            return _analyze(path)
        dtype = _voxel_type(header, path)
        shape = trimmed(header.get_data_shape())
        offset = int(header.get_data_offset())
        end = offset + math.prod(shape) * dtype.itemsize
        check_size(end, voxels, shape)
        slope, intercept = header.get_slope_inter()
        _note_sizes(header, path)
        spec = (shape, dtype, offset, 1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
        stored = ArrayProxy(_readable(voxels, end), spec, keep_file_open=keep_open)
        return NiftiFile(stored, header, in_mm(header.get_best_affine(), header), path)
    except READ_ERRORS as error:
        raise unreadable(error, path, "NIfTI") from error


def in_mm(affine: np.ndarray, header: Any | None) -> np.ndarray:
    """Return an affine of a header's unit of space in millimetres.

    Args:
        affine: 4x4 matrix from voxel indices to that unit.
        header: NIfTI header; None, and a header without a unit, mean mm.
    """
    return _scaled(affine, _unit_mm(header))


def in_header_units(affine: np.ndarray, header: Any | None) -> np.ndarray:
    """Return an affine of millimetres in the unit of space that a header names.

    Args:
        affine: 4x4 matrix from voxel indices to mm.
        header: as in `in_mm`.
    """
    return _scaled(affine, 1 / _unit_mm(header))


def time_step_s(header: Any | None) -> float | None:
    """Return the time from frame to frame in seconds; None where the header has no unit or no time.

    Args:
        header: NIfTI header of a cine; None, of a volume made in memory.
    """
    scale = None if header is None else _SECONDS.get(int(header["xyzt_units"]) & 0x38)
    if header is None or scale is None:
        return None
    step = float(header["pixdim"][4]) * scale
    return step if np.isfinite(step) and step > 0 else None


def trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of length 1 after the third.

    Example:
        >>> trimmed((5, 6, 1, 1)), trimmed((5, 6, 4, 1, 1)), trimmed((5, 6, 4, 2))
        ((5, 6, 1), (5, 6, 4), (5, 6, 4, 2))
    """
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return tuple(int(size) for size in shape)


def unreadable(error: BaseException, path: Path, kind: str) -> UserError:
    """Return the message for a file whose bytes do not make a volume.

    Args:
        error: What a library said.
        path: The file.
        kind: Its format.
    """
    return UserError(f"cannot be read as {kind} ({first_line(error)})", where=path, remedy=COPY_AGAIN)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _note_sizes(header: Any, path: Path) -> None:
    """Say where the two voxel sizes of a header differ; programs do not agree on which of them counts."""
    if header["sform_code"] <= 0:
        return
    stated = np.asarray(header["pixdim"][1:4], np.float64)
    placed = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
    usable = np.isfinite(stated) & (stated > 0) & np.isfinite(placed) & (placed > 0) & (header["dim"][1:4] > 1)
    if (np.abs(placed - stated) > _SIZES_DIFFER * np.maximum(placed, stated))[usable].any():
        _say_sizes(path, *(" x ".join(f"{size:.4g}" for size in sizes) for sizes in (placed, stated)))


@lru_cache(maxsize=10_000)  # a file is opened several times, and reported once
def _say_sizes(path: Path, placed: str, stated: str) -> None:
    _LOG.warning("%s: voxels of %s by its sform, which is used, but of %s by its pixdim", path, placed, stated)


@lru_cache(maxsize=10_000)
def _say_unstated(path: Path) -> None:
    _LOG.warning("%s: its header states no voxel size along an axis (pixdim 0), which is taken for 1", path)


def _unit_mm(header: Any | None) -> float:
    if header is None or "xyzt_units" not in header:
        return 1.0
    return _MM.get(int(header["xyzt_units"]) & 0x07, 1.0)


def _scaled(affine: np.ndarray, factor: float) -> np.ndarray:
    matrix = np.array(affine, dtype=np.float64)
    if factor != 1:
        matrix[:3] *= factor
    return matrix


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the files of the header and of the voxels: one, or an .hdr and its .img."""
    name = path.name
    suffix = next((known for known in PAIR_SUFFIXES if name.lower().endswith(known)), None)
    if suffix is None:
        return path, path
    stem, written = name[: -len(suffix)], name[-len(suffix) :]
    upper = written[1:4].isupper()
    files = [path.with_name(f"{stem}.{part.upper() if upper else part}{written[4:]}") for part in ("hdr", "img")]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file.name}, which belongs to it, is not there")
    return files[0], files[1]


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            file.seek(0)
            return file.read(540)
    with gzip.open(path) as unpacked:
        return unpacked.read(540)


def _readable(path: Path, end: int) -> Any:
    """Return the path where nibabel can read it by itself, else the file opened as what it is, whatever its suffix."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    if compressed:
        return CheckedGzip(path, end)
    return path.open("rb") if path.name.lower().endswith(".gz") else str(path)


def _header(raw: bytes, single: bool, path: Path) -> Any | None:
    """Return the header with its faults repaired; None of an Analyze file, which has NIfTI's size and no mark."""
    sizes = {int.from_bytes(raw[:4], order) for order in ("little", "big")}
    if not sizes & {348, 540} or len(raw) < min(sizes & {348, 540}):
        raise ValueError(f"no NIfTI header at its start, {len(raw)} bytes")
    kind, size = (nib.Nifti2Header, 540) if 540 in sizes else (nib.Nifti1Header, 348)
    mark = raw[4:8] if size == 540 else raw[344:348]
    if mark[:1] != b"n" or mark[1:2] not in b"+i" or mark[2:3] not in b"12":
        if single or size == 540:
            raise ValueError("no NIfTI mark in its header")
        return None
    header = kind(raw[:size], check=False)
    _repair(header, single)
    axes = min(3, int(header["dim"][0]))
    if header["sform_code"] <= 0 and not header["pixdim"][1 : axes + 1].all():  # nibabel makes 1 of it
        _say_unstated(path)
    header.check_fix(logger=_QUIET, error_level=101)
    return header


def _repair(header: Any, single: bool) -> None:
    """Repair, as nifti_clib does, what nibabel refuses."""
    sizes = header["dim"]
    if 3 < sizes[0] < 8:  # axes that some programs count and leave empty
        sizes[4:] = np.maximum(sizes[4:], 1)
    if header["sform_code"] > 0 and not _places(header.get_sform()) and header["qform_code"] > 0:
        header["sform_code"] = 0
    if not np.isfinite(header["scl_inter"]):
        header["scl_inter"] = 0
    parts = [float(header[name]) for name in ("quatern_b", "quatern_c", "quatern_d")]
    length = math.hypot(*parts)
    if length > 1:
        for name, part in zip(("quatern_b", "quatern_c", "quatern_d"), parts, strict=True):
            header[name] = part / length
    if single:
        least = header.single_vox_offset
        header["magic"] = header.single_magic
        if not header["vox_offset"] >= least:  # NaN, too
            header["vox_offset"] = least


def _places(affine: np.ndarray) -> bool:
    """Return whether an affine can place voxels: finite, and none of its axes without length."""
    return bool(np.isfinite(affine).all() and np.linalg.norm(affine[:3, :3], axis=0).all())


def _analyze(path: Path) -> NiftiFile:
    image: Any = nib.load(path)
    _check_real(image.get_data_dtype(), path)
    return NiftiFile(image.dataobj, None, np.asarray(image.affine, np.float64), path)


def _voxel_type(header: Any, path: Path) -> np.dtype:
    try:
        dtype: np.dtype = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype("V0")
    if dtype.kind == "V" and dtype.names is None and int(header["datatype"]) != _BINARY:
        what = f"voxels of an unknown type (datatype {int(header['datatype'])})"
        raise UserError(what, where=path, remedy=COPY_AGAIN)
    _check_real(dtype, path)
    return dtype


def _check_real(dtype: np.dtype, path: Path) -> None:
    if dtype.kind in "iuf":
        return
    found = "colour (RGB)" if dtype.names is not None else "complex" if dtype.kind == "c" else "single-bit"
    remedy = "Convert it to a grey-value volume, e.g. the magnitude"
    raise UserError(f"{found} voxels, expected one real number per voxel", where=path, remedy=remedy)


def check_size(claimed: int, path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a header that claims more voxels than the file can hold, before memory is asked for.

    Args:
        claimed: bytes of header and voxels.
        path: the file with the voxels, gzipped or not.
        shape: for the message.

    Raises:
        ValueError: it does.
    """
    there = path.stat().st_size
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    most = there * _MOST_DEFLATED if compressed else there
    if claimed > most:
        what = f"its header claims {' x '.join(map(str, shape))} voxels, {claimed} bytes, the file has {there}"
        raise ValueError(f"{what}{' compressed ones' if compressed else ''}: cut off, or no such volume")
