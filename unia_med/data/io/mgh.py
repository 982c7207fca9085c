"""FreeSurfer's MGH volumes, brought into NIfTI's conventions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from unia_med.data.io.nifti import new_header, stored_voxels
from unia_med.data.io.nifti_file import READ_ERRORS, check_size, unreadable
from unia_med.data.io.packed import GZIP, unpacked_size
from unia_med.data.io.volume import Volume


def read_mgh(path: Path) -> Volume:
    """Return a volume in stored axis order with an RAS affine in mm; geometry and voxels are not yet checked.

    Args:
        path: `.mgz` or `.mgh`.
    """
    image = _opened(path)
    affine = np.asarray(image.affine, np.float64)
    array = stored_voxels(image.dataobj, path)
    _check_packed(path)
    zooms = [float(zoom) for zoom in image.header.get_zooms()]
    if array.ndim == 4:
        zooms[3] /= 1000  # the repetition time is in ms
    return Volume(array, affine, new_header(array.shape, affine, zooms), path)


def read_mgh_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and RAS affine of a file without decoding its voxels.

    Args:
        path: `.mgz` or `.mgh`.
    """
    image = _opened(path)
    return tuple(int(size) for size in image.shape), np.asarray(image.affine, np.float64)


def _check_packed(path: Path) -> None:
    """Refuse a compressed file whose checksum does not fit; nibabel stops before it."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    try:
        if compressed:
            unpacked_size(path)
    except READ_ERRORS as error:
        raise unreadable(error, path, "MGH") from error


def _opened(path: Path) -> Any:
    try:
        image = nib.freesurfer.MGHImage.from_filename(path)
        shape = tuple(int(size) for size in image.shape)
        check_size(math.prod(shape) * image.get_data_dtype().itemsize, path, shape)
        return image
    except (*READ_ERRORS, nib.freesurfer.mghformat.MGHError) as error:
        raise unreadable(error, path, "MGH") from error
