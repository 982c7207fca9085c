"""DICOM series: found by content, chosen, ordered by geometry and decoded one time frame at a time.

No value that may identify the patient (names, numbers, dates, paths below the given folder) gets into a message:
pydicom's own warnings and errors, which quote values, are kept back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from unia_med.data.io.dicom.candidate import Candidate
from unia_med.data.io.dicom.choice import choose
from unia_med.data.io.dicom.enhanced import one_image
from unia_med.data.io.dicom.join import candidates, parts
from unia_med.data.io.dicom.kind import StackKind, fitting, no_fitting, off_plane, reasons
from unia_med.data.io.dicom.repair import culprit
from unia_med.data.io.dicom.scan import PIXEL_DEFAULTS, import_pydicom, quiet, scan_folder
from unia_med.data.io.dicom.stack import Instance, Stack, stack_instances
from unia_med.data.io.volume import Volume, stacked
from unia_med.errors import UserError

_REFERRED_TO = {
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "FrameOfReferenceUID": "frame_of_reference",
    "SOPClassUID": "sop_class",
    "SOPInstanceUID": "sop_uid",
}
"""What an object that points to images names, and must not be empty."""

_UID = re.compile(r"(?=.{1,64}$)\d+(\.(0|[1-9]\d*))+")
_SERIES_ENDING = re.compile(r"_series(\d+|x)")

DECODERS = {
    "1.2.840.10008.1.2.4.50": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.51": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.57": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg pylibjpeg-rle",
}
"""Packages from PyPI that decode a compressed transfer syntax for pydicom."""


@dataclass(frozen=True)
class DicomSeries:
    """A series as a volume or cine whose frames are decoded when they are asked for.

    Attributes:
        path: the folder that was searched.
        name: for results: the folder's name, with the (smallest) series number where there was a choice.
        stack: its instances in order.
    """

    path: Path
    name: str
    stack: Stack

    @property
    def shape(self) -> tuple[int, ...]:
        """(columns, rows, slices), and the number of frames where it is above 1."""
        rows, columns = self.stack.grid[0][0].size
        space = (columns, rows, len(self.stack.grid[0]))
        return (*space, self.frames) if self.frames > 1 else space

    @property
    def affine(self) -> np.ndarray:
        """4x4 matrix from voxel indices to RAS millimetres."""
        return self.stack.affine

    @property
    def frames(self) -> int:
        """Number of time frames."""
        return len(self.stack.grid)

    @property
    def series_numbers(self) -> list[int]:
        """Numbers of the series that the images are from, rising."""
        numbers = {item.series_number for frame in self.stack.grid for item in frame}
        return sorted(number for number in numbers if number is not None)

    @cached_property
    def header(self) -> nib.Nifti1Header:
        """NIfTI header with units, and the time step in seconds."""
        header = nib.Nifti1Header()
        header.set_data_shape(self.shape)
        zooms = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        step = self.stack.time_step_s
        header.set_zooms((*zooms, step or 1.0) if self.frames > 1 else zooms)
        header.set_xyzt_units("mm", "sec" if step or self.frames == 1 else "unknown")
        header.set_sform(self.affine, code=1)
        header.set_qform(self.affine, code=1)
        return header

    def frame(self, index: int) -> Volume:
        """One frame as a 3D volume, rescaled: integers where slope and intercept change nothing, else float32.

        Args:
            index: 0 to `frames - 1`.
        """
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of a volume with {self.frames}")
        array = stacked((self._decode(instance).T for instance in self.stack.grid[index]), self.shape[:3])
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError("voxels that are NaN or infinite", self.path, "Export the series again")
        return Volume(array, self.affine, None, self.path)

    @property
    def no_segmentation(self) -> str:
        """Why no DICOM SEG can point to these images; empty where one can."""
        images = [item for frame in self.stack.grid for item in frame]
        lacking = [name for name, field in _REFERRED_TO.items() if not all(getattr(item, field) for item in images)]
        if lacking:
            return f"the missing attribute{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}"
        for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
            if len({getattr(item, _REFERRED_TO[name]) for item in images}) > 1:
                return f"the attribute {name}, which should be one for all images"
        # An image may well stand for two phases of a slice that has fewer than the others.
        shared = len({(item.sop_uid, item.index) for item in images}) < len({(i.path, i.index) for i in images})
        return "the attribute SOPInstanceUID, which several images share" if shared else ""

    def datasets(self, index: int) -> list[Any]:
        """Pydicom datasets of a frame's slices, in order, without their pixels; each as a file of one image.

        Args:
            index: 0 to `frames - 1`.
        """
        return [self._dataset(instance) for instance in self.stack.grid[index]]

    def _dataset(self, instance: Instance) -> Any:
        if instance.index is not None:
            return deepcopy(self._enhanced[instance.path])
        with quiet():
            return import_pydicom(self.path).dcmread(instance.path, force=True, stop_before_pixels=True)

    @cached_property
    def _enhanced(self) -> dict[Path, Any]:
        """Headers of the multi-frame files, which take long to read."""
        paths = {item.path for frame in self.stack.grid for item in frame if item.index is not None}
        pydicom = import_pydicom(self.path)
        with quiet():
            return {path: one_image(pydicom.dcmread(path, force=True, stop_before_pixels=True)) for path in paths}

    def _decode(self, instance: Instance) -> np.ndarray:
        """(rows, columns) of one image."""
        try:
            image = np.asarray(self._pixels(instance))
        except Exception as error:  # decoders raise whatever they like
            name = culprit(error)
            why = f"because of the attribute {name}" if name else f"({type(error).__name__})"
            what = f"the pixels of image {instance.number} cannot be decoded {why}"
            remedy = "The file is damaged or cut off; export the series again"
            if packages := DECODERS.get(instance.transfer_syntax):
                syntax = import_pydicom(self.path).uid.UID(instance.transfer_syntax).name
                what = f"the pixels of image {instance.number} cannot be decoded: {syntax}"
                remedy = f"Try with: pip install {packages}. Without success, the file is damaged: export it again"
            # Without `from error`: its message may quote values of the header.
            raise UserError(what, self.path, remedy) from None
        if image.shape != instance.size:
            raise UserError(f"image {instance.number} has pixels of shape {image.shape}", self.path, "Export it again")
        if image.dtype.kind == "f" or (instance.slope, instance.intercept) != (1.0, 0.0):
            return (image * instance.slope + instance.intercept).astype(np.float32)
        return image

    def _pixels(self, instance: Instance) -> np.ndarray:
        """Return the stored values of one image, high ones being bright."""
        pydicom = import_pydicom(self.path)
        with quiet():
            dataset = pydicom.dcmread(instance.path, force=True, stop_before_pixels=instance.index is not None)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(instance.transfer_syntax)
            _assume(dataset, instance.assumed)
            if instance.index is None:
                image = dataset.pixel_array
            else:  # of the file: only the frame's bytes are read
                image = pydicom.pixels.pixel_array(instance.path, index=instance.index)
            if not instance.inverted:
                return image
            if image.dtype.kind == "f":
                return -image
            # MONOCHROME1 shows the lowest value white; turned within the bits that are in use.
            top = -1 if image.dtype.kind == "i" else (1 << int(dataset.BitsStored)) - 1
            return (top - image.astype(np.int64)).astype(image.dtype)


def find_series(folder: Path, wanted: str | None = None, kind: StackKind | None = None) -> DicomSeries:
    """Return the series of a folder and its sub-folders, its headers read and checked, no pixel decoded.

    Args:
        folder: searched by content; names and suffixes of files mean nothing.
        wanted: number or Series Instance UID, or numbers such as "40-51,60", where there are several.
        kind: what is expected of a stack; of several series, the one that fits is taken.

    Raises:
        UserError: no DICOM images, several series and none is named, or one that is no regular stack.
    """
    instances, unreadable = scan_folder(folder)
    return _Search(folder, unreadable, kind).chosen(instances, wanted, _called(folder))


def find_studies(
    folder: Path, wanted: str | None = None, kind: StackKind | None = None
) -> dict[str, DicomSeries | UserError]:
    """Return the series of each study in a folder and its sub-folders, by the name of its results.

    A study without a series that can be used, or with several, is there with its fault. One study is called by the
    folder, several by the folder and a number in the order of their files, since names of sub-folders may tell who
    the patients are.

    Args:
        folder: see `find_series`.
        wanted: see `find_series`; of several studies, the one that has it.
        kind: see `find_series`.

    Raises:
        UserError: no DICOM images, or nothing that can be used.
    """
    instances, unreadable = scan_folder(folder)
    by_study = _by_study(instances)
    if len(by_study) == 1 or wanted is not None:
        found = find_series(folder, wanted, kind)
        return {found.name: found}
    studies: dict[str, DicomSeries | UserError] = {}
    for position, items in enumerate(by_study, start=1):
        name = f"{_called(folder)}_study{position}"
        try:
            series = _Search(folder, unreadable, kind).chosen(items, None, name)
            studies[series.name] = series
        except UserError as error:
            studies[name] = UserError(f"study {position} {error.what}", error.where, error.remedy)
    if all(isinstance(study, UserError) for study in studies.values()):
        find_series(folder, None, kind)
    return studies


def find_named(
    folder: Path, name: str, numbers: Sequence[int] = (), kind: StackKind | None = None
) -> DicomSeries | None:
    """Return the series whose results have a name, as `find_studies` gives names; None where none has it.

    Args:
        folder: see `find_series`.
        name: of the results.
        numbers: of the series that they were made of, where that is known, as after `--series`.
        kind: see `find_series`.
    """
    instances, unreadable = scan_folder(folder)
    studies = _by_study(instances)
    start = _called(folder)
    for position, items in enumerate(studies, start=1):
        study = start if len(studies) == 1 else f"{start}_study{position}"
        own = name.removeprefix(study)
        if not name.startswith(study) or (own and not _SERIES_ENDING.fullmatch(own)):
            continue
        search, stated = _Search(folder, unreadable, kind), own.removeprefix("_series")
        wanted = ",".join(map(str, numbers)) or (stated if stated.isdigit() else None)
        found = search.chosen(items, wanted, study)
        return replace(found, name=name)
    if len(studies) > 1 and name.startswith(start) and numbers:  # --series found it among several
        return replace(find_series(folder, ",".join(map(str, numbers)), kind), name=name)
    return None


def _called(folder: Path) -> str:
    """Return the name of results: that of the folder, or of a file without its suffix."""
    path = folder.resolve()
    return (path.stem if path.is_file() else path.name) or "dicom"


def _by_study(instances: Sequence[Instance]) -> list[list[Instance]]:
    """Return the images of each study of each patient, in the order of their files."""
    by_study: dict[tuple[str, str], list[Instance]] = {}
    for item in sorted(instances, key=lambda item: item.path):
        by_study.setdefault((item.patient, item.study_uid), []).append(item)
    return list(by_study.values())


class _Search(NamedTuple):
    """What is looked for in a folder.

    Attributes:
        folder: where.
        unreadable: how many DICOM files in it cannot be read.
        kind: what is expected of a stack, or None.
    """

    folder: Path
    unreadable: int
    kind: StackKind | None

    def chosen(self, instances: list[Instance], wanted: str | None, name: str) -> DicomSeries:
        """Return the series that is wanted, or the only one, or the one that fits."""
        found = candidates(instances)
        if self.kind is None or wanted is not None:
            taken = self._parts(choose(found, wanted, self.folder, instances))[0]
            return self._series(taken, len(found), name, self._doubt(taken))
        found = [part for candidate in found for part in self._parts(candidate)]
        if len(found) == 1:
            return self._series(found[0], 1, name, self._doubt(found[0]))
        good, faults = fitting(found, self.kind)
        if not good:
            raise no_fitting(found, faults, self.kind, self.folder)
        broken: list[UserError] = []
        for candidate in good:
            try:
                why = reasons(candidate, [other for other in good if other is not candidate], faults, self.kind)
                return self._series(
                    candidate, len(found), name, (why, *(f"left out: {error.what}" for error in broken))
                )
            except UserError as error:
                broken.append(UserError(f"{candidate.called}: {error.what}", error.where, error.remedy))
        raise broken[0]

    def _parts(self, taken: Candidate) -> list[Candidate]:
        """Return the stacks that a series mixes, the best first, where one is what is expected."""
        mixed = parts(taken) if self.kind else [taken]
        if self.kind is None or len(mixed) < 2:
            return [taken]
        good, faults = fitting(mixed, self.kind)
        return [*good, *(one for some in faults.values() for one in some)] if good else [taken]

    def _doubt(self, taken: Candidate) -> tuple[str, ...]:
        fault = off_plane(taken, self.kind) if self.kind else ""
        return (
            (f"{fault}, where a {self.kind.title} is expected: the masks may be wrong",) if fault and self.kind else ()
        )

    def _series(self, taken: Candidate, count: int, name: str, why: tuple[str, ...]) -> DicomSeries:
        _check_decoders(taken.instances, self.folder)
        stack = stack_instances(taken.instances, self.folder)
        notes = [*why, *taken.notes, *stack.notes, *_odd_uids(stack)]
        if self.unreadable:
            notes.append(f"{self.unreadable} DICOM files cannot be read and were left out")
        stack = Stack(stack.grid, stack.affine, stack.time_step_s, tuple(notes))
        number = taken.numbers[0] if taken.numbers else "x"
        return DicomSeries(self.folder, f"{name}_series{number}" if count > 1 else name, stack)


def _odd_uids(stack: Stack) -> tuple[str, ...]:
    """Return a note of attributes that identify images and are no UIDs; objects have to repeat them."""
    images = [item for frame in stack.grid for item in frame]
    values = {name: {str(getattr(item, field) or "0.0") for item in images} for name, field in _REFERRED_TO.items()}
    odd = [name for name, stated in values.items() if not all(map(_UID.fullmatch, stated))]
    return (f"no valid UID in {', '.join(odd)}: DICOM objects repeat it as it is",) if odd else ()


def _assume(dataset: Any, names: Sequence[str]) -> None:
    """Give an image the usual values of attributes of its pixels that its header lacks."""
    bits = int(dataset.get("BitsAllocated") or 16)
    for name in names:
        value = {"BitsStored": bits, "HighBit": int(dataset.get("BitsStored") or bits) - 1}.get(name)
        setattr(dataset, name, PIXEL_DEFAULTS[name] if value is None else value)


def _check_decoders(instances: Sequence[Instance], where: Path) -> None:
    """Refuse transfer syntaxes that no installed package decodes, before any work is done."""
    pydicom = import_pydicom(where)
    for uid in sorted({item.transfer_syntax for item in instances if item.pixels}):
        syntax = pydicom.uid.UID(uid)
        if not _can_decode(pydicom, syntax):
            packages = DECODERS.get(uid)
            remedy = f"Run: pip install {packages}" if packages else "Decompress the files, e.g. with gdcmconv --raw"
            raise UserError(f"compressed with {syntax.name} ({uid}), and no decoder is installed", where, remedy)
        plain = syntax.is_transfer_syntax and not syntax.is_compressed and not syntax.is_deflated
        for item in instances if plain else ():
            if item.transfer_syntax == uid and item.size[0] * item.size[1] > item.path.stat().st_size:
                what = f"image {item.number} claims {item.size[0]} x {item.size[1]} pixels, more than its file can hold"
                raise UserError(what, where, "The file is damaged or cut off; export the series again")


def _can_decode(pydicom: Any, syntax: Any) -> bool:
    if syntax.is_transfer_syntax and not syntax.is_compressed:
        return True
    try:
        return bool(pydicom.pixels.get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
