"""Finds the files behind a path given to `predict`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unia_med.data.io.label_names import NAMED, split_labels
from unia_med.data.io.suffixes import IMAGE_SUFFIXES, VOLUME_SUFFIXES, readable_suffix, volume_stem, volume_suffix
from unia_med.data.io.walk import LeftOut, find_volumes
from unia_med.errors import UserError
from unia_med.files import at_home
from unia_med.names import number_of, safe_name

if TYPE_CHECKING:
    from unia_med.data.io.dicom.kind import StackKind
    from unia_med.data.io.dicom.series import DicomSeries

Image = TypeVar("Image")
_LOG = logging.getLogger(__name__)

_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_IN_OUTPUT = "in the output folder"
_CINE = "a cine whose frames lie next to it"

_FRAME = re.compile(r"_frame\d+$")
_VOLUMES = f"NIfTI, NRRD or MetaImage ({', '.join(VOLUME_SUFFIXES)}), or the folder of a DICOM series"
_PICTURES = f"pictures ({', '.join(IMAGE_SUFFIXES)}), {_VOLUMES}"


def find_images(path: Path, output: Path | None, pictures: bool = False) -> dict[str, Path]:
    """Images to predict, by name.

    A file is taken whatever its name. In a folder, and below it, labels and results (see `label_names`), hidden files
    and the output folder are left out, and so is a cine `X_4d` next to its own frames `X_frameNN`, as in ACDC. Where
    files in several sub-folders have one name, all are called by their path inside the folder.

    Args:
        path: image file or folder.
        output: where results will be written.
        pictures: JPEG, PNG and TIFF files are images, too.

    Raises:
        UserError: there is no image, or two would be written under one name.
    """
    if path.is_file():
        if not _readable(path, pictures):
            raise _foreign(path, pictures)
        return {volume_stem(path): path}
    if not path.is_dir():
        raise UserError("no such file or folder", where=path, remedy="Check --input")
    left = LeftOut()
    images = _without_cines(_images(path, output, pictures, left), left)
    if not images:
        known = _PICTURES if pictures else _VOLUMES
        raise UserError(_what_instead(left, pictures), where=path, remedy=f"Give images as {known}")
    left.say(len(images), "image", path)
    stems = [volume_stem(file) for file in images]
    if len(set(stems)) == len(stems):
        return by_name(zip(stems, images, strict=True))
    return by_name((file.relative_to(path).with_name(volume_stem(file)).as_posix(), file) for file in images)


def find_inputs(
    path: Path,
    output: Path | None,
    series: str | None = None,
    pictures: bool = False,
    kind: StackKind | None = None,
) -> dict[str, Path | DicomSeries | UserError]:
    """Return what to predict, by name: volumes, and a DICOM series of each study; or what is wrong with a study.

    Args:
        path: image file or folder; a DICOM file where it holds all frames.
        output: where results will be written.
        series: number or UID of a DICOM series, or numbers such as "40-51,60"; nothing else is taken then.
        pictures: see `find_images`.
        kind: what is expected of a stack of slices; of several series, the one that fits is taken.

    Raises:
        UserError: there is nothing, or several series and none is named.
    """
    from unia_med.data.io.dicom.scan import has_dicom, holds_frames, is_dicom
    from unia_med.data.io.dicom.series import find_studies

    if path.is_file() and (series is not None or (readable_suffix(path) is None and is_dicom(path))):
        if is_dicom(path) and holds_frames(path):
            return dict(find_studies(path, series, kind))
        raise UserError("is a single file", where=path, remedy="Give the folder of the DICOM series as --input")
    if not path.is_dir() or (series is None and not has_dicom(path)):
        return dict(find_images(path, output, pictures))
    if series is not None or not _images(path, output, pictures, LeftOut()):
        return dict(find_studies(path, series, kind))
    found: dict[str, Path | DicomSeries | UserError] = dict(find_images(path, output, pictures))
    try:
        return {**find_studies(path, None, kind), **found}
    except UserError as error:
        if "none of them an image" not in error.what:  # results lie there, too
            _LOG.warning("the DICOM files next to the volumes are left out: %s", error)
        return found


def by_name(images: Iterable[tuple[str, Image]]) -> dict[str, Image]:
    """Return the images as a mapping, after making sure that no two results would have one name.

    Args:
        images: name and file, or DICOM series.
    """
    named: dict[str, Image] = {}
    for given, path in images:
        name = safe_name(given)
        if name in named:
            raise UserError(
                f"both {named[name]} and this would have results of the name {name}",
                where=str(path),
                remedy="Rename one, or predict their folders separately",
            )
        named[name] = path
    return named


def result_suffix(path: Path | None) -> str:
    """Return the suffix of results: PNG of a picture, NIfTI of everything else.

    Args:
        path: of the image; None for one in memory.
    """
    return ".png" if path is not None and readable_suffix(path) and not volume_suffix(path) else ".nii.gz"


def _images(folder: Path, output: Path | None, pictures: bool, left: LeftOut) -> list[Path]:
    files, results = [], None if output is None else output.resolve()
    if results is not None and folder.resolve().is_relative_to(results):
        results = None  # where images are read from the output folder, names alone distinguish them
    for file in find_volumes(folder, left, readable_suffix if pictures else volume_suffix):
        if results is not None and file.resolve().is_relative_to(results):
            left.add(file, _IN_OUTPUT)
        else:
            files.append(file)
    images, labels = split_labels(files, folder)
    left.add_all(labels, NAMED)
    return images


def _without_cines(files: list[Path], left: LeftOut) -> list[Path]:
    """Return the files without those `X_4d` whose frames `X_frameNN` lie next to them."""
    framed = {(file.parent, _FRAME.sub("", volume_stem(file))) for file in files if _FRAME.search(volume_stem(file))}
    cines = {file for file in files if (file.parent, volume_stem(file).removesuffix("_4d")) in framed}
    for file in files:
        if file in cines:
            left.add(file, _CINE)
    return [file for file in files if file not in cines]


def _readable(path: Path, pictures: bool) -> bool:
    return bool(readable_suffix(path) if pictures else volume_suffix(path))


def _foreign(path: Path, pictures: bool) -> UserError:
    if readable_suffix(path):
        what = "this is a picture, and the run learned from volumes in millimetres"
        return UserError(what, where=path, remedy=f"Convert it to {_VOLUMES}, with its spacing")
    if path.suffix.lower() in _ARCHIVES:
        return UserError("this is an archive", where=path, remedy="Unpack it, and give the folder")
    what = "this is no image by its suffix" if pictures else "this is no volume by its suffix"
    return UserError(what, where=path, remedy=f"Convert it to {_PICTURES if pictures else _VOLUMES}")


def _what_instead(left: LeftOut, pictures: bool) -> str:
    labels = left.by_reason.get(NAMED, ())
    if labels:
        return f"holds no image, only {number_of(len(labels), 'file')} {NAMED}, such as {labels[0].name}"
    what = "holds no image" if pictures else "holds no volume"
    return f"{what} ({left.line(0, 'image')})" if left.by_reason else what


def listed(images: Any) -> Mapping[str, Any] | Iterator[tuple[str, Any]]:
    """Return images of an iterable, named; one that cannot be counted is read as it goes.

    Args:
        images: paths, or images in memory.

    Raises:
        UserError: these are no images one after another.
    """
    if not isinstance(images, Iterable) or hasattr(images, "dtype") or hasattr(images, "GetDirection"):
        what = f"neither a folder nor a list of images, but of the type {type(images).__name__}"
        remedy = 'Call predict(model, "scans/") or predict(model, [image, another]); for one image, model(image)'
        raise UserError(what, where="predict(...)", remedy=remedy)
    return dict(_named(images)) if isinstance(images, Sized) else _named(images)


def _named(images: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Return names of images: of paths their file names, of others their positions."""
    taken: set[str] = set()
    for number, image in enumerate(images, start=1):
        is_path = isinstance(image, (str, os.PathLike))
        name = volume_stem(Path(image)) if is_path else f"image{number:03d}"
        name = f"{name}_{number:03d}" if name in taken else name
        taken.add(name)
        yield name, at_home(image) if is_path else image
