"""Reads labels as viewers write them, with the names of their segments.

NIfTI (with the names that `predict` puts into its masks), NRRD, MetaImage, PNG and TIFF label maps, 3D Slicer's
`.seg.nrrd` (segment names, cropped extents, layers), and DICOM SEG and RTSTRUCT.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unia_med.data.io.image import read_image_header, read_mask
from unia_med.data.io.itk import has_label_groups, read_segments
from unia_med.data.io.label_file import LabelFile, by_class_values, check_placeable, onto_image
from unia_med.data.io.nifti_names import names_in
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.suffixes import is_image, is_segmentation
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError

_ROUNDING = 1e-3
_SPLIT = "Split it into 3D label volumes, one per image"


def read_label_file(path: Path, image: VolumeInfo | None = None) -> LabelFile:
    """Return the labels of a file on its own grid; of an RTSTRUCT, whose contours have none, on the image's.

    Args:
        path: ends in one of `LABEL_SUFFIXES`.
        image: header of the image; needed for an RTSTRUCT alone.

    Raises:
        UserError: the file cannot be read, or holds no labels.
    """
    if path.suffix.lower() == ".dcm":
        from unia_med.data.io.dicom.label_objects import read_dicom_labels  # pydicom is optional

        return read_dicom_labels(path, image)
    if is_segmentation(path) or has_label_groups(path):
        array, affine, names = read_segments(path)
        return LabelFile(array, affine, path, names, cropped=is_segmentation(path))
    if is_image(path):
        volume = read_mask(path)  # keeps the indices of a palette, which are the labels
    else:
        volume = read_volume(path)
    return LabelFile(_whole_numbers(volume.array, path), volume.affine, path, names_in(path))


def read_mask_on(
    path: Path, image: VolumeInfo, classes: Sequence[str] = (), values: Sequence[int] | None = None
) -> np.ndarray:
    """Return the values of a dense mask on the grid of its image, (X, Y, Z), 0 where the file does not reach.

    Args:
        path: any file that `read_label_file` reads.
        image: header of the image, or of a prediction on its grid.
        classes: names by which segments of a viewer's file are recognised; none: values count.
        values: value of each class; None: 1, 2, 3, ...
    """
    file = read_label_file(path, image)
    array = by_class_values(file, classes, values or range(1, len(classes) + 1)) if classes else file.array
    return onto_image(array, file, image)


def check_label_header(path: Path, image: VolumeInfo) -> None:
    """Refuse a label file that cannot be brought to the grid of its image, from headers where that is possible.

    Args:
        path: the file.
        image: header of its image.

    Raises:
        UserError: it cannot be read, is not 3D, has no geometry, or does not overlap the image.
    """
    if path.suffix.lower() == ".dcm" or is_segmentation(path) or has_label_groups(path):
        file = read_label_file(path, image)
        info = VolumeInfo(tuple(file.array.shape), file.affine, path)
    else:
        info = read_image_header(path, channels=1) if is_image(path) else read_header(path)
    if len(info.shape) != 3 and info.shape[3:] != (1,):
        raise UserError(f"shape {info.shape}, expected 3D labels", where=path, remedy=_SPLIT)
    check_placeable(info, image)


def _whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise UserError(f"shape {array.shape}, expected 3D labels", where=path, remedy=_SPLIT)
    return whole_numbers(array)


def whole_numbers(array: np.ndarray) -> np.ndarray:
    """Return labels that rounding in the file changed, such as 0.9999999, as whole numbers.

    Args:
        array: of any shape; integers, and numbers that are not all within 0.001 of whole ones, stay as they are.
    """
    if array.dtype.kind != "f":
        return array
    nearest_whole = np.rint(array)
    return nearest_whole if np.abs(array - nearest_whole).max(initial=0) <= _ROUNDING else array
