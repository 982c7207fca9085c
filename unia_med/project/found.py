"""Finds images, labels, tables and viewers' files of segment names in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unia_med.data.io.image import has_palette, read_picture
from unia_med.data.io.itk import has_label_groups
from unia_med.data.io.label_file import LabelFile
from unia_med.data.io.label_names import LABEL_WORDS, split_labels, tokens
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.read_labels import read_label_file
from unia_med.data.io.suffixes import is_image, is_markup, is_mask, is_segmentation, label_stem, readable_suffix
from unia_med.data.io.volume import VolumeInfo
from unia_med.data.io.walk import UNREAD, LeftOut, find_volumes
from unia_med.errors import UserError
from unia_med.project.colours import colour_names, numbered_colours
from unia_med.project.programs import OTHER_SUFFIXES, program_of

_MOST_VALUES = 64  # distinct values of a label volume; an image has hundreds
_SHOWN = 3  # files in a message
_JPEG = "masks as JPEG, which changes their values: save them as PNG"
_RESULT_FOLDERS = {"runs", "masks_predicted"}
_TABLES = (".csv", ".tsv")
_TEXTS = (".json", ".txt", ".label", ".ctbl")
_DICOM = (".dcm", ".ima", "")


@dataclass
class Found:
    """Everything in a folder that matters.

    Attributes:
        images: header by path; of DICOM, the folder of a series stands for it.
        labels: what files of labels hold, by path.
        tables: CSV and TSV files.
        markups: files of 3D Slicer's points and boxes.
        texts: other small files that may name segments, JSON and text.
        unread: files that look like images and cannot be read, with the reason.
        others: annotations of programs whose files are not read.
        coloured: pictures among the labels that are in colours, which trainings do not read.
    """

    images: dict[Path, VolumeInfo] = field(default_factory=dict)
    labels: dict[Path, LabelFile] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    markups: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)
    unread: dict[Path, str] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    coloured: set[Path] = field(default_factory=set)


def words_of(path: Path, root: Path) -> list[str]:
    """Return the words in a file's name and folders that indicate labels."""
    folders = path.relative_to(root).parent.parts
    spoken = tokens(label_stem(path)) + [word for folder in folders for word in tokens(folder)]
    return [word for word in spoken if word in LABEL_WORDS]


def look(root: Path) -> Found:
    """Return what a folder holds; every file that may be one of labels is opened, images only by their headers.

    Args:
        root: the folder.

    Raises:
        UserError: no such folder, or nothing in it can be read.
    """
    if not root.is_dir():
        raise UserError("no such folder", where=root, remedy="Name the folder in which your images lie")
    found = Found()
    dicom: dict[Path, list[Path]] = {}
    left = LeftOut()
    for path in find_volumes(root, left, _wanted):
        folders = path.relative_to(root).parent.parts
        if not any(name.startswith(".") or name in _RESULT_FOLDERS for name in folders):
            _sort_in(path, root, found, dicom)
    _add_series(dicom, root, found)
    _number_colours(found, root)
    _leave_out_fractions(found, root)
    left.say(len(found.images), "image", root)
    if not found.images:
        seen = "".join(f"; {path}: {reason}" for path, reason in list(found.unread.items())[:_SHOWN])
        remedy = "Name the folder in which your images lie"
        remedy += ", or save them as NIfTI, NRRD, MetaImage or DICOM" if UNREAD in left.by_reason else ""
        raise UserError(
            f"holds no image{seen}", where=root, remedy=f"{remedy}, or save these as said" if seen else remedy
        )
    return found


def _wanted(path: Path) -> bool:
    """Return whether a file is looked at, by its suffix."""
    known = path.suffix.lower() in (*_TABLES, *_TEXTS, *_DICOM)
    return (
        known
        or path.name.lower().endswith(OTHER_SUFFIXES)
        or is_markup(path)
        or readable_suffix(path) is not None
        or is_segmentation(path)
    )


def _sort_in(path: Path, root: Path, found: Found, dicom: dict[Path, list[Path]]) -> None:
    suffix = path.suffix.lower()
    if path.name.lower().endswith(OTHER_SUFFIXES):
        found.others.append(path)
    elif suffix in _TABLES:
        (found.others if program_of(path) else found.tables).append(path)
    elif is_markup(path):
        found.markups.append(path)
    elif suffix in _TEXTS:
        small = path.stat().st_size < 1 << 20
        (found.texts if small and not program_of(path) else found.others).append(path)
    elif suffix in _DICOM:
        dicom.setdefault(path.parent, []).append(path)
    elif readable_suffix(path) or is_segmentation(path):
        try:
            _image_or_labels(path, root, found)
        except UserError as error:
            found.unread[path] = f"{error.what}. {error.remedy}" if error.remedy else error.what


def _image_or_labels(path: Path, root: Path, found: Found) -> None:
    if is_segmentation(path) or has_label_groups(path):
        found.labels[path] = read_label_file(path)
        return
    header, spoken = read_header(path), words_of(path, root)
    named_by_file = [word for word in tokens(label_stem(path)) if word in LABEL_WORDS]
    # JPEG changes values: never labels. A fourth axis is that of channels or time: never labels either.
    indices = bool(spoken) and is_image(path) and (has_palette(path) or _is_grey(path))
    flat = (len(header.shape) == 3 or indices) and path.suffix.lower() not in (".jpg", ".jpeg")
    if flat and (file := _as_labels(path, bool(spoken), bool(named_by_file))) is not None:
        found.labels[path] = file
    else:
        found.images[path] = header


def _is_grey(path: Path) -> bool:
    """Return whether a picture in colours is grey in truth: red, green and blue are equal, as paint programs write."""
    array = read_picture(path).array
    return array.ndim == 4 and bool((array == array[..., :1]).all())


def _as_labels(path: Path, patient: bool, named: bool) -> LabelFile | None:
    """Return the content of a file if it is one of labels: whole numbers, few of them, large areas of one value.

    Args:
        path: the file.
        patient: its path indicates labels, so that constant or finely divided ones are accepted too.
        named: its own name does, so that many values are believed.
    """
    try:
        file = read_label_file(path)
    except UserError:
        if is_image(path) and not named:  # such as an X-ray of 16 bits
            return None
        raise
    array = file.array
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        return None
    values, counts = np.unique(array, return_counts=True)
    if values[0] < 0 or len(values) > (_MOST_VALUES * 4 if named else _MOST_VALUES):
        return None
    if patient:
        return LabelFile(array.astype(np.int64), file.affine, path, file.names, file.cropped)
    smooth = counts.max() > 0.3 * array.size and 2 <= len(values) <= 32 and _changes(array) < 0.2
    return LabelFile(array.astype(np.int64), file.affine, path, file.names, file.cropped) if smooth else None


def _number_colours(found: Found, root: Path) -> None:
    """Take pictures in colours whose names or folders speak of labels out of the images, if there are others."""
    coloured = [
        path
        for path, header in found.images.items()
        if is_image(path) and len(header.shape) == 4 and words_of(path, root)
    ]
    if len(coloured) == len(found.images):
        return
    for path in coloured:
        del found.images[path]
    masks = [path for path in coloured if is_mask(path)]
    found.unread.update(dict.fromkeys(set(coloured) - set(masks), _JPEG))
    files, refused, _ = numbered_colours(masks, colour_names(found.texts))
    found.labels.update(files)
    found.coloured.update(files)
    found.unread.update(refused)


def _leave_out_fractions(found: Found, root: Path) -> None:
    """Take volumes that are named like labels and hold no class numbers out of the images, as trainings do."""
    _, named = split_labels((path for path in found.images if not path.is_dir()), root)
    for path in named if len(named) < len(found.images) else ():
        del found.images[path]
        found.unread[path] = _why_no_labels(path)


def _why_no_labels(path: Path) -> str:
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return _JPEG
    if path.parent.name.casefold() == "segmentationobject":
        return "single objects, left out: their classes are in SegmentationClass"
    try:
        array = np.asarray(read_volume(path).array)
    except UserError as error:
        return error.what
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        return "named like labels, but holds fractions: save class numbers (of probabilities, those above 0.5)"
    if array.min(initial=0) < 0:
        return "named like labels, but holds negative values: save 0 for background and 1, 2, ... for classes"
    return "named like labels, but holds more values than there are classes"


def _changes(array: np.ndarray) -> float:
    """Return the share of neighbouring pixels that differ: little in labels, much in images with noise."""
    return float(np.mean(array[1:] != array[:-1])) if len(array) > 1 else 0.0


def _add_series(dicom: Mapping[Path, list[Path]], root: Path, found: Found) -> None:
    """Add DICOM: folders of a series as images, SEG and RTSTRUCT objects as labels."""
    if not dicom:
        return
    from unia_med.data.io.dicom.scan import has_dicom, import_pydicom, is_dicom, quiet
    from unia_med.data.io.dicom.series import find_series

    for folder, files in dicom.items():
        if not has_dicom(folder):
            continue
        pydicom = import_pydicom(folder)
        objects = []
        for path in files:
            if is_dicom(path) and path.suffix.lower() == ".dcm":
                with quiet():
                    kind = str(pydicom.dcmread(path, specific_tags=["Modality"], force=True).get("Modality", ""))
                objects += [path] if kind in ("SEG", "RTSTRUCT") else []
        try:
            if len(objects) < len(files):
                series = find_series(folder)
                found.images[folder] = VolumeInfo(series.shape, series.affine, folder)
        except UserError as error:
            several = "; one folder is one series here: give each a folder of its own" if "series" in error.what else ""
            found.unread[folder] = f"{error.what}{several}"
        for path in objects:
            header = found.images.get(folder) or next(iter(found.images.values()), None)
            try:
                found.labels[path] = read_label_file(path, header)
            except UserError as error:
                found.unread[path] = error.what
