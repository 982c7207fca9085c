"""Writes predictions as NIfTI, PNG or DICOM SEG, depending on the image's own format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args

import numpy as np

from unia_med.data.io.dataset_json import read_dataset_json
from unia_med.data.io.image import write_grey, write_mask
from unia_med.data.io.itk import write_labels
from unia_med.data.io.nifti import write_like
from unia_med.data.io.suffixes import (
    ITK_SUFFIXES,
    MASK_IMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    is_image,
    readable_suffix,
    volume_stem,
    volume_suffix,
)
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError, suggestion
from unia_med.inference.inputs import by_name, result_suffix

if TYPE_CHECKING:
    from unia_med.data.io.dicom.objects import ObjectWriter
    from unia_med.data.io.frames import FrameSource
    from unia_med.inference.predictor import Segmentation

Names = Literal["seg", "nnunet"]
"""How results are called, see `result_files`."""

Images = TypeVar("Images", bound=Mapping[str, Any] | Iterator[tuple[str, Any]])
_CHANNEL = re.compile(r"_\d{4}$")
_TYPES: dict[str, type] = {"labels": np.uint8, "uncertainty": np.float32}


def result_files(
    output: Path, name: str, uncertainty: bool, path: Path | None = None, names: Names = "seg"
) -> dict[str, Path]:
    """Files that are written for an image: `labels`, and `uncertainty` where it is asked for.

    Args:
        output: folder of the results.
        name: of the image, without suffix.
        uncertainty: whether it is wanted.
        path: the image; None for one in memory.
        names: `seg`: `NAME_seg`; `nnunet`: as nnU-Net calls the labels of an image.
    """
    suffix = result_suffix(path)
    if names == "nnunet":
        ending = nnunet_ending(path)
        files = {"labels": output / f"{nnunet_case(name)}{ending}"}
        # In a folder of its own: nnU-Net takes every file of that ending for a mask.
        doubt = output / "uncertainty" / f"{nnunet_case(name)}{suffix}"
        return {**files, "uncertainty": doubt} if uncertainty else files
    files = {"labels": output / f"{name}_seg{suffix}"}
    return {**files, "uncertainty": output / f"{name}_uncertainty{suffix}"} if uncertainty else files


def nnunet_case(name: str) -> str:
    """Return the name of an image without the number of its channel.

    Example:
        >>> nnunet_case("liver_003_0000"), nnunet_case("liver_003")
        ('liver_003', 'liver_003')
    """
    return _CHANNEL.sub("", name)


def called(images: Images, names: Names) -> Images:
    """Return images by the names of their results, after making sure that no two would have one name.

    Args:
        images: by their own names; an iterator is returned as it is.
        names: as in `result_files`.
    """
    if names not in get_args(Names):
        raise UserError(f"unknown names '{names}'", where="names", remedy=suggestion(names, get_args(Names)))
    if names == "seg" or not isinstance(images, Mapping):
        return images
    return cast(Images, by_name((nnunet_case(name), image) for name, image in images.items()))


def nnunet_ending(path: Path | None) -> str:
    """Return the ending of label files: as `dataset.json` says, else that of the image where it can hold labels.

    Args:
        path: of the image; None for one in memory.
    """
    known = None if path is None else read_dataset_json(path)
    suffix = known.ending if known and known.ending else readable_suffix(path or "")
    single = {".nhdr": ".nrrd", ".mhd": ".mha", ".jpg": ".png", ".jpeg": ".png"}  # of one file, without loss
    ending = single.get(suffix or "", suffix)
    return ending if ending in (*NIFTI_SUFFIXES, ".nrrd", ".mha", *MASK_IMAGE_SUFFIXES) else ".nii.gz"


def write_results(
    source: FrameSource,
    frames: Iterable[Segmentation],
    files: Mapping[str, Path],
    classes: Sequence[str],
    rtstruct: bool = False,
) -> tuple[str, ...]:
    """Write what `result_files` names, and DICOM SEG next to it where the source is a series.

    Frames of a cine are written one by one, so that memory does not grow with their number.

    Args:
        source: the image.
        frames: what was predicted of each of its frames, in order.
        files: destination by kind.
        classes: names of the labels 1, 2, 3, ...
        rtstruct: write DICOM RTSTRUCT, too, where the source is a series.

    Returns:
        Why DICOM objects are missing, a sentence each.
    """
    labels = files["labels"]
    if is_image(labels):
        _write_pictures(next(iter(frames)), files)
    elif volume_suffix(labels) in ITK_SUFFIXES:  # under nnU-Net's names
        found = joined(source, frames)
        write_labels(found.labels, source.affine, labels)
        if "uncertainty" in files:
            plain = Volume(found.uncertainty, source.affine)
            write_like(found.uncertainty, plain, files["uncertainty"])
    elif isinstance(source, Volume):
        found = joined(source, frames)
        for kind, file in files.items():
            write_like(getattr(found, kind), source, file, _names(classes) if kind == "labels" else None)
    else:
        return _write_frames(source, frames, files, classes, rtstruct)
    return ()


def joined(source: FrameSource, frames: Iterable[Segmentation]) -> Segmentation:
    """Return the labels and uncertainty of all frames in the source's shape, without channels.

    Args:
        source: the image.
        frames: what was predicted of each of its frames, in order.
    """
    from unia_med.inference.predictor import Segmentation

    if source.frames == 1 and (isinstance(source, Volume) and "T" not in source.axes or len(source.shape) == 3):
        return next(iter(frames))
    labels = np.zeros((*source.shape[:3], source.frames), np.uint8)
    uncertainty = np.zeros(labels.shape, np.float32)
    for index, found in enumerate(frames):
        labels[..., index], uncertainty[..., index] = found
    return Segmentation(labels, uncertainty)


def split_frames(found: Segmentation) -> Iterator[Segmentation]:
    """Return the frames of what `joined` gives.

    Args:
        found: (X, Y, Z) or (X, Y, Z, T).
    """
    if found.labels.ndim == 3:
        yield found
        return
    for index in range(found.labels.shape[3]):
        yield type(found)(found.labels[..., index], found.uncertainty[..., index])


def _names(classes: Sequence[str]) -> dict[int, str]:
    return dict(enumerate(classes, start=1))


def _write_pictures(found: Segmentation, files: Mapping[str, Path]) -> None:
    # Only what is called _seg is looked at by people; nnU-Net reads colours as channels.
    write_mask(found.labels[:, :, 0], files["labels"], palette=volume_stem(files["labels"]).endswith("_seg"))
    if "uncertainty" in files:
        write_grey(found.uncertainty[:, :, 0], files["uncertainty"])


def _write_frames(
    source: FrameSource,
    frames: Iterable[Segmentation],
    files: Mapping[str, Path],
    classes: Sequence[str],
    rtstruct: bool,
) -> tuple[str, ...]:
    from unia_med.data.io.dicom.series import DicomSeries
    from unia_med.data.io.frames import FrameWriter

    frames, folder = iter(frames), files["labels"].parent
    first = next(frames)  # before a file is begun: the image may turn out to be unreadable
    with ExitStack() as stack:
        writers = {
            kind: stack.enter_context(
                FrameWriter(source, _TYPES[kind], file, _names(classes) if kind == "labels" else None)
            )
            for kind, file in files.items()
        }
        series = source if isinstance(source, DicomSeries) else None
        objects = [stack.enter_context(kind(series, classes)) for kind in _object_kinds(rtstruct)] if series else []
        for index, found in enumerate(chain([first], frames)):
            for kind, writer in writers.items():
                writer.write(getattr(found, kind))
            for each in objects:
                each.write(index, found.labels, folder / each.names[index])
    return tuple(f"no DICOM {each.title} is written, because of {each.failed}" for each in objects if each.failed)


def _object_kinds(rtstruct: bool) -> list[type[ObjectWriter]]:
    from unia_med.data.io.dicom.rtstruct import RtStructWriter
    from unia_med.data.io.dicom.seg import SegWriter

    return [SegWriter, RtStructWriter] if rtstruct else [SegWriter]
