"""Label volumes as viewers write them, with the names of their segments, on the grid of the image they belong to.

NIfTI, NRRD, MetaImage and PNG label maps, 3D Slicer's `.seg.nrrd` (segment names, cropped extents, layers), and DICOM
SEG and RTSTRUCT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unia_med.data.io.nifti import VOLUME_SUFFIXES, read_header, read_volume
from unia_med.data.io.regrid import nearest_on_grid, share_inside
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError

SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr")
"""Files of 3D Slicer's segment editor: never an image."""

LABEL_SUFFIXES = (*SEGMENTATION_SUFFIXES, *VOLUME_SUFFIXES, ".png", ".tif", ".tiff", ".dcm")
"""Endings of files that can hold labels, in the order in which they are looked for."""

_NO_OVERLAP = "Export the labels with the geometry of their image, or name the right image"
_SAME_MM = 0.1  # rounding of a header, not another grid


@dataclass(frozen=True)
class LabelFile:
    """Labels as stored, before anything is made of their values.

    Attributes:
        array: integers (X, Y, Z); 0 is what every viewer writes where nothing is drawn.
        affine: 4x4, voxel indices to RAS mm.
        path: the file.
        names: segment name by value, where the file knows.
        cropped: the file holds only the box around what is drawn, so that what lies outside is 0 as well.
    """

    array: np.ndarray
    affine: np.ndarray
    path: Path
    names: Mapping[int, str] = field(default_factory=dict)
    cropped: bool = False


def label_suffix(path: Path | str) -> str | None:
    """Return the ending by which a file can hold labels, or None.

    Example:
        >>> label_suffix("a/Tumor.SEG.nrrd"), label_suffix("x.nii.gz"), label_suffix("x.txt")
        ('.seg.nrrd', '.nii.gz', None)
    """
    name = Path(path).name.lower()
    return next((suffix for suffix in LABEL_SUFFIXES if name.endswith(suffix)), None)


def label_stem(path: Path | str) -> str:
    """Return the name of a label file without its ending.

    Example:
        >>> label_stem("a/Tumor.seg.nrrd"), label_stem("x_gt.nii.gz")
        ('Tumor', 'x_gt')
    """
    name = Path(path).name
    return name[: len(name) - len(label_suffix(name) or "")]


def is_segmentation(path: Path | str) -> bool:
    """Return whether a file is a viewer's segmentation by its name, so that it is no image."""
    return Path(path).name.lower().endswith(SEGMENTATION_SUFFIXES)


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
    if is_segmentation(path):
        from unia_med.data.io.itk import read_segments  # SimpleITK is slow to import

        return LabelFile(*read_segments(path), cropped=True)
    volume = read_volume(path)
    return LabelFile(_whole_numbers(volume.array, path), volume.affine, path)


def same_grid(file: LabelFile, image: VolumeInfo) -> bool:
    """Return whether labels lie on the voxels of their image already."""
    shape = tuple(image.shape[:3])
    if tuple(file.array.shape) != shape:
        return False
    corners = np.array([[x, y, z, 1.0] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1) for z in (0, shape[2] - 1)])
    return bool(np.abs((corners @ (file.affine - image.affine).T)[:, :3]).max() <= _SAME_MM)


def onto_image(
    labels: np.ndarray, file: LabelFile, image: VolumeInfo, outside: int = 0, nothing: int | None = None
) -> np.ndarray:
    """Return labels on the grid of their image, (X, Y, Z): untouched where they lie on it, else nearest in mm.

    Args:
        labels: what was made of `file.array`, of its shape.
        file: where they come from.
        image: header of the image.
        outside: value where the file says nothing because it does not reach there.
        nothing: of strokes and points, see `nearest_on_grid`.

    Raises:
        UserError: nothing that is drawn lies inside the image, or the file has no geometry to place it by.
    """
    if same_grid(file, image):
        return labels
    _check_geometry_known(file, image)
    if share_inside(file.array != 0, file.affine, image.shape, image.affine) == 0:
        what = f"the labels (shape {file.array.shape}) do not overlap the image {image.path.name} in the scanner's mm"
        raise UserError(what, where=file.path, remedy=_NO_OVERLAP)
    return nearest_on_grid(labels, file.affine, image.shape, image.affine, outside, nothing)


def by_class_values(file: LabelFile, classes: Sequence[str], values: Sequence[int]) -> np.ndarray:
    """Return `file.array` with segments that are named like classes holding the values of those classes.

    Names win over values: viewers number segments in the order in which they were made. Case, spaces, hyphens and
    underscores do not count. A segment of another name keeps a value that is no class's. Where the file names nothing,
    or nothing that is a class, its values count.

    Args:
        file: labels with names.
        classes: names of the T classes.
        values: value of each class.

    Example:
        >>> file = LabelFile(np.array([[[1, 2, 3]]]), np.eye(4), Path("x"), {1: "Skull", 2: "grey matter", 3: "CSF"})
        >>> by_class_values(file, ["csf", "Grey_Matter"], [1, 2]).tolist()
        [[[3, 2, 1]]]
    """
    wanted = {_plain(name): value for name, value in zip(classes, values, strict=True)}
    named = {stored: wanted[_plain(name)] for stored, name in file.names.items() if _plain(name) in wanted}
    if not named:
        return file.array
    array, taken = file.array.copy(), set(values)
    free = iter(v for v in range(1, 1 << 15) if v not in taken)
    for stored in np.unique(file.array[file.array != 0]).tolist():
        array[file.array == stored] = named[stored] if stored in named else next(free)
    return array


def read_mask_on(
    path: Path, image: VolumeInfo, classes: Sequence[str] = (), values: Sequence[int] | None = None
) -> np.ndarray:
    """Return the values of a dense mask on the grid of its image, (X, Y, Z), 0 where the file does not reach.

    Args:
        path: any file that `read_label_file` reads.
        image: header of the image, or of a prediction on its grid.
        classes: names by which segments of a viewer's file are told; none: values count.
        values: value of each class; None: 1, 2, 3, ...
    """
    file = read_label_file(path, image)
    array = by_class_values(file, classes, values or range(1, len(classes) + 1)) if classes else file.array
    return onto_image(array, file, image)


def label_header(path: Path, image: VolumeInfo) -> VolumeInfo:
    """Return shape and affine of a label file, decoding only what has no cheap header.

    Args:
        path: the file.
        image: header of its image.
    """
    if path.suffix.lower() == ".dcm" or is_segmentation(path):
        file = read_label_file(path, image)
        return VolumeInfo(tuple(file.array.shape), file.affine, path)
    return read_header(path)


def _check_geometry_known(file: LabelFile, image: VolumeInfo) -> None:
    """Refuse labels whose header lost its geometry: placing them by it would shift them without a word."""
    unplaced = np.allclose(np.abs(file.affine), np.eye(4))
    if unplaced and not np.allclose(np.abs(image.affine), np.eye(4)):
        what = f"shape {file.array.shape} without a geometry (1 mm voxels at the origin), {image.path.name} has one"
        raise UserError(what, where=file.path, remedy="Export the labels with the header of their image")


def _whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise UserError(f"shape {array.shape}, expected 3D labels", where=path, remedy="Split it into 3D label volumes")
    return array


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()
