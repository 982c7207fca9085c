"""NIfTI files: reading them, and writing results in the geometry of their source."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np

from unia_med.data.io.nifti_file import COPY_AGAIN, READ_ERRORS, first_line, in_header_units, open_nifti, trimmed
from unia_med.data.io.nifti_names import add_names
from unia_med.data.io.suffixes import NIFTI_SUFFIXES, volume_suffix
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError, memory_checked
from unia_med.files import replacing

_SLAB = 1 << 23
"""Voxels that are decoded at once."""

WRITTEN_TYPES = (np.dtype(np.uint8), np.dtype(np.float32))


def read_nifti(path: Path, single: bool = False) -> Volume:
    """Return a volume in stored axis order; geometry and voxels are not yet checked.

    Args:
        path: `.nii`, `.nii.gz`, or a file of a pair.
        single: as float32 whatever is stored, the last axis the fastest in memory, as torch has it.
    """
    file = open_nifti(path, keep_open=True)
    return Volume(stored_voxels(file.voxels, path, single=single), file.affine, file.header, path)


def read_nifti_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and RAS affine of a file without decoding its voxels.

    Args:
        path: `.nii`, `.nii.gz`, or a file of a pair.
    """
    file = open_nifti(path)
    return file.shape, file.affine


def write_like(array: np.ndarray, source: Volume, path: Path | str, names: Mapping[int, str] | None = None) -> None:
    """Write an array as NIfTI in the geometry of `source`; the file appears whole or not at all.

    Affine, sform and qform with their codes, units and the frame spacing are those of the source. The source's
    display window, intensity scaling and header extensions are left out: they describe its intensities.

    Args:
        array: uint8 or float32, of the same shape as `source`, or of its first three axes where the fourth are
            channels. What came from a 2D file becomes one.
        source: The volume the array was computed from.
        path: Destination, `.nii` or `.nii.gz`; its folder is made when missing.
        names: Of the label values, which the header then carries; see `nifti_names`.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.dtype not in WRITTEN_TYPES:
        raise TypeError(f"write_like takes uint8 or float32, not {array.dtype}")
    if array.shape not in (source.shape, source.shape[:3]):
        raise ValueError(f"array of shape {array.shape} for a source of shape {source.shape}")
    suffix = volume_suffix(path)
    if suffix not in NIFTI_SUFFIXES:
        raise UserError("results are written as NIfTI", where=path, remedy="Use a name that ends in .nii.gz or .nii")
    if source.header is not None and array.shape == source.shape:
        array = as_stored(array, source.header)
    header = result_header(array.dtype, array.shape, source)
    add_names(header, names or {})
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    with replacing(path, suffix) as temporary:
        nib.save(kind(array, in_header_units(source.affine, source.header), header), temporary)


def as_stored(array: np.ndarray, header: Any) -> np.ndarray:
    """Return a result in the shape of its source's file, which may have two axes, or axes of length 1 at the end.

    Args:
        array: of the shape that the source was read with.
        header: of the source.
    """
    shape = stored_shape(array.shape, header)
    return array if shape == array.shape else array.reshape(shape)


def stored_shape(shape: tuple[int, ...], header: Any) -> tuple[int, ...]:
    """Return the shape that voxels have in their source's file, see `as_stored`.

    Args:
        shape: with which the source was read.
        header: of the source.
    """
    stored = tuple(int(size) for size in header.get_data_shape())
    return stored if trimmed((*stored, 1, 1)[: max(3, len(stored))]) == tuple(shape) else tuple(shape)


def stored_voxels(stored: Any, path: Path, part: Any = ..., single: bool = False) -> np.ndarray:
    """Return the voxels: integers as stored, anything scaled or floating as float32.

    Args:
        stored: What nibabel has of the voxels in the file.
        path: The file, for messages.
        part: Index of the voxels that are wanted.
        single: As in `read_nifti`; of all voxels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a value past float32 becomes inf and is reported below
            with memory_checked(path):
                return _in_slabs(stored, single) if part is ... else _decoded(stored, part)
    except READ_ERRORS as error:
        raise UserError(f"the voxels cannot be read ({first_line(error)})", where=path, remedy=COPY_AGAIN) from error


def _decoded(stored: Any, part: Any) -> np.ndarray:
    array = np.asanyarray(stored[part])
    return array.astype(np.float32) if array.dtype.kind == "f" else np.array(array)


def _in_slabs(stored: Any, single: bool) -> np.ndarray:
    """Return all voxels; of a large file decoded slab by slab, since scaling is done in double precision."""
    shape = tuple(stored.shape)
    thickness = max(1, _SLAB // max(1, math.prod(shape[:-1])))
    if len(shape) < 2 or shape[-1] <= thickness:
        return np.ascontiguousarray(_decoded(stored, ...), np.float32) if single else _decoded(stored, ...)
    whole: np.ndarray | None = None
    for start in range(0, shape[-1], thickness):
        part = (..., slice(start, start + thickness))
        slab = _decoded(stored, part)
        if whole is None:
            whole = np.empty(shape, np.float32) if single else np.empty(shape, slab.dtype, order="F")
        whole[part] = slab
    return cast(np.ndarray, whole)


def check_finite(array: np.ndarray, path: Path) -> None:
    """Refuse voxels that are NaN or infinite.

    Args:
        array: Voxels.
        path: Their file, for the message.
    """
    if array.dtype.kind != "f" or all(np.isfinite(array[..., z]).all() for z in range(array.shape[-1])):
        return  # slice by slice: no copy of a large volume
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise UserError(
        f"{int(bad.sum())} of {array.size} voxels are NaN or infinite, the first at {first}",
        where=path,
        remedy="Replace them, e.g. by 0 with numpy.nan_to_num, or export the scan again",
    )


def result_header(dtype: np.dtype, shape: tuple[int, ...], source: Any) -> Any:
    """Return a copy of the source's header, or a new one, for a result on the same grid.

    Args:
        dtype: Type of the result's voxels.
        shape: Shape of the result: the source's, or its first axes.
        source: A `Volume`, or anything with its `shape`, `affine` and `header`.
    """
    header = nib.Nifti1Header() if source.header is None else source.header.copy()
    header.extensions.clear()
    header.set_data_dtype(dtype)
    if len(shape) < len(source.shape):  # channels have no spacing that a result could keep
        header.set_data_shape(source.shape[:3])
        header["pixdim"][4:] = 0
    header.set_data_shape(shape)
    if len(shape) > 3 and not has_time_step(header):
        header["pixdim"][4] = 0  # NaN would make other programs refuse the result
    header.set_slope_inter(1, 0)
    header["cal_max"] = header["cal_min"] = 0
    if source.header is None:
        header.set_xyzt_units("mm")
        header.set_sform(source.affine, code=1)
        header.set_qform(source.affine, code=1)
    return header


def has_time_step(header: Any) -> bool:
    """Return whether a NIfTI header says how far frames are apart in time.

    Args:
        header: of a file with four axes.
    """
    step = float(header["pixdim"][4])
    return bool(np.isfinite(step)) and step > 0


def new_header(shape: tuple[int, ...], affine: np.ndarray, zooms: Sequence[float] | None = None) -> nib.Nifti1Header:
    """Return a NIfTI header for voxels that came from elsewhere: in mm and seconds, both forms set to the affine.

    Args:
        shape: Of the voxels, of two to four axes.
        affine: 4x4 matrix from voxel indices to RAS millimetres.
        zooms: Voxel sizes in mm and, of a cine, the time step in seconds; None takes them from the affine.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    if zooms is not None:
        header.set_zooms(zooms)
    header.set_xyzt_units("mm", "sec" if len(shape) == 4 else "unknown")
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    return header
