"""The one way to read an image file: a table from its suffix to its reader, and the checks that all readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from unia_med.data.io import image, itk, mgh, nifti
from unia_med.data.io.geometry import check_geometry
from unia_med.data.io.suffixes import (
    IMAGE_SUFFIXES,
    ITK_SUFFIXES,
    MGH_SUFFIXES,
    NIFTI_SUFFIXES,
    PAIR_SUFFIXES,
    VOLUME_SUFFIXES,
    readable_suffix,
)
from unia_med.data.io.volume import Volume, VolumeInfo
from unia_med.errors import UserError, memory_checked
from unia_med.files import at_home

if TYPE_CHECKING:
    from unia_med.data.io.dicom.series import DicomSeries


class Reader(NamedTuple):
    """How files of one format are read.

    Attributes:
        volume: everything; of at least two axes, its geometry not yet checked.
        header: shape and RAS affine in mm, no voxel decoded.
    """

    volume: Callable[[Path], Volume]
    header: Callable[[Path], tuple[tuple[int, ...], np.ndarray]]


READERS: dict[str, Reader] = {
    **dict.fromkeys(NIFTI_SUFFIXES, Reader(nifti.read_nifti, nifti.read_nifti_header)),
    **dict.fromkeys(PAIR_SUFFIXES, Reader(nifti.read_nifti, nifti.read_nifti_header)),
    **dict.fromkeys(MGH_SUFFIXES, Reader(mgh.read_mgh, mgh.read_mgh_header)),
    **dict.fromkeys(ITK_SUFFIXES, Reader(itk.read_itk, itk.read_itk_header)),
    **dict.fromkeys(IMAGE_SUFFIXES, Reader(image.read_picture, image.read_picture_header)),
}
"""Reader by suffix; a new format is one module and one line."""


def read_header(path: Path | str) -> VolumeInfo:
    """Return shape and affine of an image without decoding it, checked as by `read_volume`.

    Args:
        path: As in `read_volume`.
    """
    path = at_home(path)
    if (series := _series(path)) is not None:
        return VolumeInfo(series.shape, series.affine, path)
    path = _existing_file(path)
    shape, affine = _reader(path).header(path)
    shape = _at_least_3d(shape)
    check_geometry(shape, affine, path)
    return VolumeInfo(shape, affine, path)


def read_volume(path: Path | str) -> Volume:
    """Return an image in stored axis order with its geometry, all of it checked; a 2D image is one slice (X, Y, 1).

    Args:
        path: `.nii`, `.nii.gz`, a pair of `.hdr` and `.img`, `.mgz`; with SimpleITK installed `.nrrd`, `.nhdr`,
            `.mha`, `.mhd`; or a picture, `.png`, `.jpg`, `.tif`, whose rows are X and whose pixels count as 1 mm; its
            colours are channels; or the folder of a DICOM series.

    Raises:
        UserError: The file is missing, foreign, cut off, not 2D to 4D, complex, has voxels
            that are NaN or infinite, or an affine that cannot place its voxels.
    """
    path = at_home(path)
    if (series := _series(path)) is not None:
        return _whole(series)
    path = _existing_file(path)
    volume = _reader(path).volume(path)
    if volume.array.ndim == 2:
        volume = replace(volume, array=volume.array[:, :, None])
    check_geometry(volume.shape, volume.affine, path)
    nifti.check_finite(volume.array, path)
    return volume


def _series(path: Path) -> DicomSeries | None:
    """Return the DICOM series of a folder; None for a file, or a folder without one."""
    if not path.is_dir():
        return None
    from unia_med.data.io.dicom.scan import has_dicom  # pydicom is optional
    from unia_med.data.io.dicom.series import find_series

    return find_series(path) if has_dicom(path) else None


def _whole(series: DicomSeries) -> Volume:
    """Return all frames of a series as one volume."""
    with memory_checked(series.path):
        if series.frames == 1:
            return series.frame(0)
        array = np.stack([series.frame(index).array for index in range(series.frames)], axis=3)
    return Volume(array, series.affine, series.header, series.path)


def _reader(path: Path) -> Reader:
    return READERS[readable_suffix(path) or ""]


def _existing_file(path: Path) -> Path:
    if path.is_dir():
        raise UserError("this is a folder, expected a volume file", where=path, remedy="Name a file inside it")
    if not path.exists():
        raise UserError("no such file", where=path, remedy="Check the path")
    if readable_suffix(path) is None:
        raise UserError(
            f"not known as a volume by its suffix {path.suffix!r}",
            where=path,
            remedy=f"Convert it to one of {', '.join(VOLUME_SUFFIXES)}",
        )
    return path


def _at_least_3d(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1) if len(shape) == 2 else shape
