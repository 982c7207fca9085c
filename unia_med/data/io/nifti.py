"""Reads volumes with their geometry checked, and writes results in the geometry of their source."""

from __future__ import annotations

import os
import tempfile
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from unia_med.data.volume import Volume
from unia_med.errors import UserError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
WRITTEN_TYPES = (np.dtype(np.uint8), np.dtype(np.float32))

# What nibabel, gzip and numpy raise between them on foreign, damaged or cut-off files.
_READ_ERRORS = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError, TypeError, OverflowError)
_COPY_AGAIN = "Copy the file again from its source, or leave it out"
# Below this, the volume of a voxel relative to the product of its edges means that two axes coincide.
_FLAT_VOXEL = 1e-4


@dataclass(frozen=True)
class VolumeInfo:
    """What the header says of a volume, known without decoding its voxels."""

    shape: tuple[int, ...]
    affine: np.ndarray
    path: Path


def volume_suffix(path: Path | str) -> str | None:
    """Returns the suffix by which a file is known as a volume, or None when it is none.

    Example:
        >>> volume_suffix("scan.NII.gz"), volume_suffix("notes.txt")
        ('.nii.gz', None)
    """
    name = Path(path).name.lower()
    return next((suffix for suffix in VOLUME_SUFFIXES if name.endswith(suffix)), None)


def volume_stem(path: Path | str) -> str:
    """Returns the file name without its volume suffix; `scan.1.nii.gz` gives `scan.1`."""
    name = Path(path).name
    suffix = volume_suffix(name)
    return name[: -len(suffix)] if suffix else name


def read_header(path: Path | str) -> VolumeInfo:
    """Returns shape and affine of a volume without decoding it, checked as by `read_volume`.

    Args:
        path: NIfTI file. Other formats have no cheap header here and are read whole.
    """
    path = _existing_file(path)
    if volume_suffix(path) in ITK_SUFFIXES:
        volume = read_volume(path)
        return VolumeInfo(volume.shape, volume.affine, path)
    image = _open_nifti(path)
    return VolumeInfo(tuple(image.shape), np.asarray(image.affine, dtype=np.float64), path)


def read_volume(path: Path | str) -> Volume:
    """Returns a volume in stored axis order with its geometry, all of it checked.

    Args:
        path: `.nii`, `.nii.gz`, or, with SimpleITK installed, `.nrrd`, `.nhdr`, `.mha`, `.mhd`.

    Raises:
        UserError: The file is missing, foreign, cut off, not 3D or 4D, complex or coloured, has voxels
            that are NaN or infinite, or an affine that cannot place its voxels.
    """
    path = _existing_file(path)
    if volume_suffix(path) in ITK_SUFFIXES:
        from unia_med.data.io.itk import read_itk  # SimpleITK is optional and slow to import

        volume = read_itk(path)
        _check_geometry(volume.shape, volume.affine, path)
    else:
        image = _open_nifti(path)
        volume = Volume(_nifti_voxels(image, path), np.asarray(image.affine, np.float64), image.header, path)
    _check_finite(volume.array, path)
    return volume


def write_like(array: np.ndarray, source: Volume, path: Path | str) -> None:
    """Writes an array as NIfTI in the geometry of `source`; the file appears whole or not at all.

    Affine, sform and qform with their codes, units and the frame spacing are those of the source. The source's
    display window, intensity scaling and header extensions are left out: they describe its intensities.

    Args:
        array: uint8 or float32, of the same shape as `source`.
        source: The volume the array was computed from.
        path: Destination, `.nii` or `.nii.gz`; its folder is made when missing.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.dtype not in WRITTEN_TYPES:
        raise TypeError(f"write_like takes uint8 or float32, not {array.dtype}")
    if array.shape != source.shape:
        raise ValueError(f"array of shape {array.shape} for a source of shape {source.shape}")
    suffix = volume_suffix(path)
    if suffix not in NIFTI_SUFFIXES:
        raise UserError("results are written as NIfTI", where=path, remedy="Use a name that ends in .nii.gz or .nii")
    header = _result_header(array, source)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    _save_whole(kind(array, source.affine, header), path, suffix)


def _existing_file(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise UserError("this is a folder, expected a volume file", where=path, remedy="Name a file inside it")
    if not path.exists():
        raise UserError("no such file", where=path, remedy="Check the path")
    if volume_suffix(path) is None:
        raise UserError(
            f"not known as a volume by its suffix {path.suffix!r}",
            where=path,
            remedy=f"Convert it to one of {', '.join(VOLUME_SUFFIXES)}",
        )
    return path


def _open_nifti(path: Path) -> Any:
    """Returns the nibabel image, header checked, voxels not yet decoded."""
    try:
        image = nib.load(path)
        shape, affine = tuple(image.shape), np.asarray(image.affine, dtype=np.float64)
    except _READ_ERRORS as error:
        raise UserError(f"cannot be read as NIfTI ({_first_line(error)})", where=path, remedy=_COPY_AGAIN) from error
    kind = image.get_data_dtype()
    if kind.names is not None or kind.kind == "c":
        found = "colour (RGB)" if kind.names is not None else "complex"
        raise UserError(
            f"{found} voxels, expected one real number per voxel",
            where=path,
            remedy="Convert it to a grey-value volume, e.g. the magnitude",
        )
    _check_geometry(shape, affine, path)
    return image


def _nifti_voxels(image: Any, path: Path) -> np.ndarray:
    """Returns the voxels: integers as stored, anything scaled or floating as float32."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a value past float32 becomes inf and is reported below
            array = np.asanyarray(image.dataobj)
            return array.astype(np.float32) if array.dtype.kind == "f" else np.array(array)
    except _READ_ERRORS as error:
        raise UserError(f"the voxels cannot be read ({_first_line(error)})", where=path, remedy=_COPY_AGAIN) from error


def _check_geometry(shape: tuple[int, ...], affine: np.ndarray, path: Path) -> None:
    if len(shape) not in (3, 4) or 0 in shape:
        raise UserError(
            f"array of {len(shape)} dimensions {shape}, expected 3 (x, y, slice) or 4 (x, y, slice, time), none empty",
            where=path,
            remedy="Save one slice as (x, y, 1), and split what has further dimensions into several files",
        )
    matrix = affine[:3, :3]
    if not np.isfinite(affine).all():
        found = "NaN or infinite numbers"
    elif not (lengths := np.linalg.norm(matrix, axis=0)).all():
        found = "an axis with a voxel size of 0 mm"
    elif abs(np.linalg.det(matrix / lengths)) < _FLAT_VOXEL:
        found = "axes that coincide (singular matrix)"
    else:
        return
    raise UserError(
        f"the affine has {found}, so millimetres cannot be known",
        where=path,
        remedy="Write the true spacing and directions into the header (sform), or export the scan again",
    )


def _check_finite(array: np.ndarray, path: Path) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise UserError(
        f"{int(bad.sum())} of {array.size} voxels are NaN or infinite, the first at {first}",
        where=path,
        remedy="Replace them, e.g. by 0 with numpy.nan_to_num, or export the scan again",
    )


def _result_header(array: np.ndarray, source: Volume) -> Any:
    """Returns a copy of the source's header, or a new one, for voxels of the array's type."""
    header = nib.Nifti1Header() if source.header is None else source.header.copy()
    header.extensions.clear()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_slope_inter(1, 0)
    header["cal_max"] = header["cal_min"] = 0
    if source.header is None:
        header.set_xyzt_units("mm")
        header.set_sform(source.affine, code=1)
        header.set_qform(source.affine, code=1)
    return header


def _save_whole(image: Any, path: Path, suffix: str) -> None:
    """Saves under a temporary name in the same folder, then renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing_", suffix=suffix)
    os.close(handle)
    try:
        nib.save(image, temporary)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files, results are ordinary ones
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
