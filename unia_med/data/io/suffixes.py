"""Suffixes of image files, and file names without them."""

from __future__ import annotations

from pathlib import Path

NIFTI_SUFFIXES = (".nii.gz", ".nii")
PAIR_SUFFIXES = (".hdr.gz", ".hdr", ".img.gz", ".img")
"""A NIfTI or Analyze header, and the voxels that belong to it; either names the pair."""
MGH_SUFFIXES = (".mgz", ".mgh")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES + MGH_SUFFIXES + PAIR_SUFFIXES
"""Files with a geometry in millimetres."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
"""Photographs, X-rays and masks in pixels."""

MASK_IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
"""Pictures that keep label values as they are."""

SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr")
"""Files of 3D Slicer's segment editor, which are never images."""

MARKUP_SUFFIXES = (".mrk.json", ".fcsv")
"""Files of 3D Slicer's points and boxes in mm."""

LABEL_SUFFIXES = (*SEGMENTATION_SUFFIXES, *VOLUME_SUFFIXES, *MASK_IMAGE_SUFFIXES, ".dcm")
"""Files that can hold labels, in the order in which they are looked for; `.dcm` is a DICOM SEG or RTSTRUCT."""

UNREAD_SUFFIXES = (
    *(f".nii.{ending}" for ending in ("bz2", "xz", "zst", "zip", "7z")),
    *(".mnc", ".minc", ".mif", ".mif.gz", ".mih", ".par", ".rec", ".vtk", ".vti", ".vhd", ".ima", ".dcm", ".gipl"),
    *(".bmp", ".gif", ".webp", ".jp2", ".npy", ".npz", ".mat", ".h5", ".hdf5"),
    *(".dcm.gz", ".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"),
)
"""Files that may hold images in formats that are not read here; a search says that it passed over them."""


def volume_suffix(path: Path | str) -> str | None:
    """Return the suffix that marks a file as a volume, or None.

    Example:
        >>> volume_suffix("scan.NII.gz"), volume_suffix("notes.txt")
        ('.nii.gz', None)
    """
    return _suffix(path, VOLUME_SUFFIXES)


def readable_suffix(path: Path | str) -> str | None:
    """Return the suffix by which `read_volume` chooses a reader for a volume or picture, or None.

    Example:
        >>> readable_suffix("X.PNG"), readable_suffix("scan.nii"), readable_suffix("notes.txt")
        ('.png', '.nii', None)
    """
    return _suffix(path, VOLUME_SUFFIXES + IMAGE_SUFFIXES)


def volume_stem(path: Path | str) -> str:
    """Return the file name without the suffix of a volume or picture.

    Example:
        >>> volume_stem("a/scan.1.nii.gz"), volume_stem("X.PNG"), volume_stem("case 3")
        ('scan.1', 'X', 'case 3')
    """
    name = Path(path).name
    return name[: len(name) - len(readable_suffix(name) or "")]


def label_suffix(path: Path | str) -> str | None:
    """Return the ending by which a file can hold labels, or None.

    Example:
        >>> label_suffix("a/Tumor.SEG.nrrd"), label_suffix("x.nii.gz"), label_suffix("x.txt")
        ('.seg.nrrd', '.nii.gz', None)
    """
    return _suffix(path, LABEL_SUFFIXES)


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
    return _suffix(path, SEGMENTATION_SUFFIXES) is not None


def is_markup(path: Path | str) -> bool:
    """Return whether a file is one of 3D Slicer's markups by its name."""
    return _suffix(path, MARKUP_SUFFIXES) is not None


def is_image(path: Path | str) -> bool:
    """Return whether a file is a photograph (or a mask of one) by its suffix.

    Example:
        >>> is_image("a/b.JPG"), is_image("b.nii.gz")
        (True, False)
    """
    return _suffix(path, IMAGE_SUFFIXES) is not None


def is_mask(path: Path | str) -> bool:
    """Return whether a file can hold label values: a volume, a PNG or a TIFF; JPEG changes them.

    Example:
        >>> is_mask("b_gt.nii.gz"), is_mask("b.png"), is_mask("b.jpg")
        (True, True, False)
    """
    return _suffix(path, VOLUME_SUFFIXES + MASK_IMAGE_SUFFIXES) is not None


def _suffix(path: Path | str, known: tuple[str, ...]) -> str | None:
    name = Path(path).name.lower()
    return next((suffix for suffix in known if name.endswith(suffix)), None)
