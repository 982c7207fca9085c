"""Reads volumes with their geometry checked, and writes results in the geometry of their source."""

from __future__ import annotations

import os
import tempfile
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from unia_med.data.io.volume import Volume, VolumeInfo
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


def volume_suffix(path: Path | str) -> str | None:
    """Return the suffix by which a file is known as a volume, or None when it is none.

    Example:
        >>> volume_suffix("scan.NII.gz"), volume_suffix("notes.txt")
        ('.nii.gz', None)
    """
    name = Path(path).name.lower()
    return next((suffix for suffix in VOLUME_SUFFIXES if name.endswith(suffix)), None)


def volume_stem(path: Path | str) -> str:
    """Return the file name without its volume suffix; `scan.1.nii.gz` gives `scan.1`."""
    name = Path(path).name
    suffix = volume_suffix(name)
    return name[: -len(suffix)] if suffix else name


def read_header(path: Path | str) -> VolumeInfo:
    """Return shape and affine of a volume without decoding it, checked as by `read_volume`.

    Args:
        path: As in `read_volume`.
    """
    path = _existing_file(path)
    if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
        from unia_med.data.io.image import read_image_header  # it needs `VolumeInfo` from here

        return read_image_header(path, channels=1)
    if volume_suffix(path) in ITK_SUFFIXES:
        from unia_med.data.io.itk import read_itk_header  # SimpleITK is optional and slow to import

        shape, affine = read_itk_header(path)
    else:
        image = open_nifti(path)
        shape, affine = tuple(image.shape), np.asarray(image.affine, dtype=np.float64)
    shape = _at_least_3d(shape)
    check_geometry(shape, affine, path)
    return VolumeInfo(shape, affine, path)


def read_volume(path: Path | str) -> Volume:
    """Return a volume in stored axis order with its geometry, all of it checked; a 2D image is one slice (X, Y, 1).

    Args:
        path: `.nii`, `.nii.gz`, or, with SimpleITK installed, `.nrrd`, `.nhdr`, `.mha`, `.mhd`; or a `.png` of labels,
            see `data.io.image.read_mask`.

    Raises:
        UserError: The file is missing, foreign, cut off, not 2D to 4D, complex or coloured, has voxels
            that are NaN or infinite, or an affine that cannot place its voxels.
    """
    path = _existing_file(path)
    if path.suffix.lower() == ".png":
        from unia_med.data.io.image import read_mask  # it needs `VolumeInfo` from here

        return read_mask(path)
    if volume_suffix(path) in ITK_SUFFIXES:
        from unia_med.data.io.itk import read_itk  # SimpleITK is optional and slow to import

        volume = read_itk(path)
    else:
        image = open_nifti(path)
        volume = Volume(stored_voxels(image.dataobj, path), np.asarray(image.affine, np.float64), image.header, path)
    volume = replace(volume, array=volume.array.reshape(_at_least_3d(volume.shape)))
    check_geometry(volume.shape, volume.affine, path)
    check_finite(volume.array, path)
    return volume


def write_like(array: np.ndarray, source: Volume, path: Path | str) -> None:
    """Write an array as NIfTI in the geometry of `source`; the file appears whole or not at all.

    Affine, sform and qform with their codes, units and the frame spacing are those of the source. The source's
    display window, intensity scaling and header extensions are left out: they describe its intensities.

    Args:
        array: uint8 or float32, of the same shape as `source`, or of its first three axes where the fourth are
            channels. What came from a 2D file becomes one.
        source: The volume the array was computed from.
        path: Destination, `.nii` or `.nii.gz`; its folder is made when missing.
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
    if source.header is not None and len(source.header.get_data_shape()) == 2:
        array = array[:, :, 0]
    header = result_header(array.dtype, array.shape, source)
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


def open_nifti(path: Path, keep_open: bool = False) -> Any:
    """Return the nibabel image, header checked, voxels not yet decoded.

    Args:
        path: The file.
        keep_open: Keep its handle, so that frames read in order need no second decompression.
    """
    try:
        image = nib.load(path, keep_file_open=keep_open)
        np.asarray(image.affine, dtype=np.float64)
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
    return image


def _at_least_3d(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1) if len(shape) == 2 else shape


def stored_voxels(stored: Any, path: Path, part: Any = ...) -> np.ndarray:
    """Return the voxels: integers as stored, anything scaled or floating as float32.

    Args:
        stored: What nibabel has of the voxels in the file.
        path: The file, for messages.
        part: Index of the voxels that are wanted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a value past float32 becomes inf and is reported below
            array = np.asanyarray(stored[part])
            return array.astype(np.float32) if array.dtype.kind == "f" else np.array(array)
    except _READ_ERRORS as error:
        raise UserError(f"the voxels cannot be read ({_first_line(error)})", where=path, remedy=_COPY_AGAIN) from error


def check_geometry(shape: tuple[int, ...], affine: np.ndarray, path: Path) -> None:
    """Refuse shapes that are no volume and affines that cannot place voxels.

    Args:
        shape: Of the voxels.
        affine: 4x4 matrix.
        path: Their file, for the message.
    """
    if len(shape) not in (3, 4) or 0 in shape:
        raise UserError(
            f"array of {len(shape)} dimensions {shape}, "
            "expected 2, 3 (x, y, slice) or 4 (x, y, slice, time or channel), none empty",
            where=path,
            remedy="Split what has further dimensions into several files",
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


def check_finite(array: np.ndarray, path: Path) -> None:
    """Refuse voxels that are NaN or infinite.

    Args:
        array: Voxels.
        path: Their file, for the message.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
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
    header.set_slope_inter(1, 0)
    header["cal_max"] = header["cal_min"] = 0
    if source.header is None:
        header.set_xyzt_units("mm")
        header.set_sform(source.affine, code=1)
        header.set_qform(source.affine, code=1)
    return header


def _save_whole(image: Any, path: Path, suffix: str) -> None:
    """Save under a temporary name in the same folder, then renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing_", suffix=suffix)
    os.close(handle)
    try:
        nib.save(image, temporary)
        os.chmod(temporary, 0o666 & ~umask())  # mkstemp makes private files, results are ordinary ones
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def umask() -> int:
    """Return the process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
