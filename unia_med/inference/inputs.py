"""Which files a path given to `predict` means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.data.io.suffixes import VOLUME_SUFFIXES, volume_stem, volume_suffix
from unia_med.data.io.walk import LeftOut, find_volumes
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.data.io.dicom.series import DicomSeries

NO_IMAGES = ("_gt", "_scribble", "_scribbles", "_points", "_blocks", "_boxes", "_seg", "_pred", "_uncertainty")
"""Endings of masks and results, which lie beside images and are none."""

_NAMED = f"named like a mask or result ({', '.join(NO_IMAGES)})"
_IN_OUTPUT = "in the output folder"
_CINE = "a cine whose frames lie next to it"

_FRAME = re.compile(r"_frame\d+$")
_FORMATS = f"NIfTI, NRRD or MetaImage ({', '.join(VOLUME_SUFFIXES)}), or the folder of a DICOM series"


def find_images(path: Path, output: Path) -> dict[str, Path]:
    """Images to predict, by name.

    A file is taken whatever its name. In a folder, and below it, masks and results (`NO_IMAGES`), hidden files and
    the output folder are left out, and so is a cine `X_4d` beside its own frames `X_frameNN`, as in ACDC. Where files
    in several sub-folders have one name, all are called by their path inside the folder.

    Args:
        path: image file or folder.
        output: where results will be written.

    Raises:
        UserError: there is no image, or two would be written under one name.
    """
    if path.is_file():
        if volume_suffix(path) is None:
            raise UserError("this is no volume by its suffix", where=path, remedy=f"Convert it to {_FORMATS}")
        return {volume_stem(path): path}
    if not path.is_dir():
        raise UserError("no such file or folder", where=path, remedy="Check --input")
    left = LeftOut()
    images = _without_cines(_volumes(path, output, left), left)
    if not images:
        raise UserError(_what_instead(left), where=path, remedy=f"Give images as {_FORMATS}")
    left.say(len(images), "image", path)
    stems = [volume_stem(file) for file in images]
    if len(set(stems)) == len(stems):
        return by_name(zip(stems, images, strict=True))
    return by_name((file.relative_to(path).with_name(volume_stem(file)).as_posix(), file) for file in images)


def find_inputs(path: Path, output: Path, series: str | None = None) -> dict[str, Path | DicomSeries]:
    """Return what to predict, by name: volumes, or the DICOM series of a folder that holds no volume.

    Args:
        path: image file or folder.
        output: where results will be written.
        series: number or UID of a DICOM series; its folder may then hold volumes, too.

    Raises:
        UserError: there is nothing, or several series and none is named.
    """
    from unia_med.data.io.dicom.series import find_series, has_dicom, is_dicom

    if path.is_file() and (series is not None or (volume_suffix(path) is None and is_dicom(path))):
        raise UserError("is a single file", where=path, remedy="Give the folder of the DICOM series as --input")
    if path.is_dir() and (series is not None or (not _volumes(path, output, LeftOut()) and has_dicom(path))):
        found = find_series(path, series)
        return {found.name: found}
    return dict(find_images(path, output))


def by_name(images: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Return the images as a mapping, after making sure that no two results would have one name.

    Args:
        images: name and file.
    """
    named: dict[str, Path] = {}
    for name, path in images:
        if name in named:
            raise UserError(
                f"both {named[name]} and this would be written as {name}_seg.nii.gz",
                where=path,
                remedy="Rename one, or predict their folders separately",
            )
        named[name] = path
    return named


def results(output: Path, name: str, uncertainty: bool) -> Mapping[str, Path]:
    """Files that are written for an image: `labels`, and `uncertainty` where it is asked for.

    Args:
        output: folder of the results.
        name: of the image, without suffix.
        uncertainty: whether it is wanted.
    """
    files = {"labels": output / f"{name}_seg.nii.gz"}
    return {**files, "uncertainty": output / f"{name}_uncertainty.nii.gz"} if uncertainty else files


def _volumes(folder: Path, output: Path, left: LeftOut) -> list[Path]:
    images = []
    for file in find_volumes(folder, left):
        if _lies_in(file, output, folder):
            left.add(file, _IN_OUTPUT)
        elif volume_stem(file).endswith(NO_IMAGES):
            left.add(file, _NAMED)
        else:
            images.append(file)
    return images


def _without_cines(files: list[Path], left: LeftOut) -> list[Path]:
    """Return the files without those `X_4d` whose frames `X_frameNN` lie next to them."""
    framed = {(file.parent, _FRAME.sub("", volume_stem(file))) for file in files if _FRAME.search(volume_stem(file))}
    cines = {file for file in files if (file.parent, volume_stem(file).removesuffix("_4d")) in framed}
    for file in files:
        if file in cines:
            left.add(file, _CINE)
    return [file for file in files if file not in cines]


def _lies_in(path: Path, output: Path, start: Path) -> bool:
    """Whether a file lies in the output folder; when that is where images are read, names alone tell them apart."""
    output = output.resolve()
    return not start.resolve().is_relative_to(output) and path.resolve().is_relative_to(output)


def _what_instead(left: LeftOut) -> str:
    masks = len(left.by_reason.get(_NAMED, ()))
    if masks:
        return f"holds no image, only {masks} masks or results ({', '.join(NO_IMAGES)})"
    return f"holds no volume ({left.line(0, 'image')})" if left.by_reason else "holds no volume"
