"""DICOM series: found by content, chosen, ordered by geometry and decoded one time frame at a time.

No value that may identify the patient (names, numbers, dates, paths below the given folder) gets into a message:
pydicom's own warnings and errors, which quote values, are kept back.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from unia_med.data.io.dicom.choice import candidates, choose
from unia_med.data.io.dicom.enhanced import enhanced_images
from unia_med.data.io.dicom.stack import Instance, Stack, stack_instances
from unia_med.data.io.dicom.values import number, vector, whole
from unia_med.data.io.volume import Volume, stacked
from unia_med.data.io.walk import walk
from unia_med.errors import UserError

NO_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "DOC", "REG")
"""Modalities that are no images to segment; results of this program are among them."""

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

INSTALL = "Run: pip install pydicom highdicom"

_MARK = b"DICM"
_TAGS = (
    "SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID SeriesNumber SeriesDescription Modality "
    "InstanceNumber Rows Columns ImagePositionPatient ImageOrientationPatient PixelSpacing SpacingBetweenSlices "
    "SliceThickness TriggerTime TemporalPositionIdentifier TemporalResolution FrameTime NominalInterval "
    "CardiacNumberOfImages ImageType EchoTime InversionTime DiffusionBValue NumberOfFrames SamplesPerPixel PixelData "
    "FloatPixelData DoubleFloatPixelData PhotometricInterpretation RescaleSlope RescaleIntercept "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
).split()
"""What is read of a header; nothing that identifies a person is among them."""


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
        first = self.stack.grid[0][0]
        if first.index is not None:
            return "the multi-frame objects that the images lie in"
        return "" if first.frame_of_reference else "the missing attribute FrameOfReferenceUID"

    def datasets(self, index: int) -> list[Any]:
        """Pydicom datasets of a frame's slices, in order, without their pixels.

        Args:
            index: 0 to `frames - 1`.
        """
        pydicom = import_pydicom(self.path)
        with quiet():
            return [pydicom.dcmread(i.path, force=True, stop_before_pixels=True) for i in self.stack.grid[index]]

    def _decode(self, instance: Instance) -> np.ndarray:
        """(rows, columns) of one image."""
        try:
            image = np.asarray(self._pixels(instance))
        except Exception as error:  # decoders raise whatever they like
            what = f"the pixels of image {instance.number} cannot be decoded ({type(error).__name__})"
            # Without `from error`: its message may quote values of the header.
            raise UserError(what, self.path, "The file is damaged or cut off; export the series again") from None
        if image.shape != instance.size:
            raise UserError(f"image {instance.number} has pixels of shape {image.shape}", self.path, "Export it again")
        if image.dtype.kind == "f" or (instance.slope, instance.intercept) != (1.0, 0.0):
            return (image * instance.slope + instance.intercept).astype(np.float32)
        return image

    def _pixels(self, instance: Instance) -> np.ndarray:
        """Return the stored values of one image, high ones being bright."""
        pydicom = import_pydicom(self.path)
        with quiet():
            dataset = pydicom.dcmread(instance.path, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(instance.transfer_syntax)
            if instance.index is None:
                image = dataset.pixel_array
            else:
                image = pydicom.pixels.pixel_array(dataset, index=instance.index)
            if not instance.inverted:
                return image
            if image.dtype.kind == "f":
                return -image
            # MONOCHROME1 shows the lowest value white; turned within the bits that are in use.
            top = -1 if image.dtype.kind == "i" else (1 << int(dataset.BitsStored)) - 1
            return (top - image.astype(np.int64)).astype(image.dtype)


def find_series(folder: Path, wanted: str | None = None) -> DicomSeries:
    """Return the series of a folder and its sub-folders, its headers read and checked, no pixel decoded.

    Args:
        folder: searched by content; names and suffixes of files mean nothing.
        wanted: number or Series Instance UID, or numbers such as "40-51,60", where there are several.

    Raises:
        UserError: no DICOM images, several series and none is named, or one that is no regular stack.
    """
    instances, unreadable = _scan(folder)
    return _chosen(folder, instances, unreadable, wanted, folder.resolve().name or "dicom")


def find_studies(folder: Path, wanted: str | None = None) -> dict[str, DicomSeries | UserError]:
    """Return the series of each study in a folder and its sub-folders, by the name of its results.

    A study without a series that can be used, or with several, is there with its fault. One study is called by the
    folder, several by the folder and a number in the order of their files, since names of sub-folders may tell who
    the patients are.

    Args:
        folder: see `find_series`.
        wanted: see `find_series`; of several studies, the one that has it.

    Raises:
        UserError: no DICOM images, or nothing that can be used.
    """
    instances, unreadable = _scan(folder)
    by_study: dict[str, list[Instance]] = {}
    for item in sorted(instances, key=lambda item: item.path):
        by_study.setdefault(item.study_uid, []).append(item)
    if len(by_study) == 1 or wanted is not None:
        found = find_series(folder, wanted)
        return {found.name: found}
    studies: dict[str, DicomSeries | UserError] = {}
    for position, items in enumerate(by_study.values(), start=1):
        name = f"{folder.resolve().name or 'dicom'}_study{position}"
        try:
            series = _chosen(folder, items, unreadable, None, name)
            studies[series.name] = series
        except UserError as error:
            studies[name] = UserError(f"study {position} {error.what}", error.where, error.remedy)
    if all(isinstance(study, UserError) for study in studies.values()):
        find_series(folder)
    return studies


def _chosen(folder: Path, instances: list[Instance], unreadable: int, wanted: str | None, name: str) -> DicomSeries:
    found = candidates(instances)
    chosen = choose(found, wanted, folder)
    _check_decoders(chosen.instances, folder)
    stack = stack_instances(chosen.instances, folder)
    notes = [*chosen.notes, *stack.notes]
    if unreadable:
        notes.append(f"{unreadable} DICOM files cannot be read and were left out")
    stack = Stack(stack.grid, stack.affine, stack.time_step_s, tuple(notes))
    number = chosen.numbers[0] if chosen.numbers else "x"
    return DicomSeries(folder, f"{name}_series{number}" if len(found) > 1 else name, stack)


def has_dicom(folder: Path) -> bool:
    """Whether any file of a folder, or below it, is DICOM by its content.

    Args:
        folder: where to look.
    """
    return any(is_dicom(path) for path in _files(folder))


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content: the mark after the preamble, or, without one, a first group of 8 or 2.

    Args:
        path: any file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return head[128:] == _MARK or (len(head) == 132 and head[:4] in _BARE_STARTS)


_BARE_STARTS = tuple(bytes((group, 0, element, 0)) for group, element in ((8, 0), (8, 5), (8, 8), (8, 0x16), (2, 0)))
"""How datasets without preamble begin: group 8 with its length, character set, image type or SOP class; or group 2."""


def import_pydicom(where: Path) -> Any:
    """Return the package, or a message that says how to install it.

    Args:
        where: for the message.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise UserError("reading DICOM needs pydicom 3 and highdicom", where, INSTALL) from None
    return pydicom


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress messages and warnings of pydicom and highdicom: they quote values of the header."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _files(folder: Path) -> Iterator[Path]:
    return iter(walk(folder))


def _scan(folder: Path) -> tuple[list[Instance], int]:
    """Image instances, each once, and the number of DICOM files that cannot be read."""
    pydicom = import_pydicom(folder)
    if not folder.is_dir():
        raise UserError("no such folder", folder, "Give the folder of a DICOM series")
    found: dict[tuple[str, int | None], Instance] = {}
    files = others = unreadable = 0
    for path in filter(is_dicom, _files(folder)):
        files += 1
        try:
            with quiet():
                dataset = pydicom.dcmread(path, force=True, defer_size=1024, specific_tags=_TAGS)
                images = _images(dataset, path)
        except Exception:  # a damaged file; pydicom raises whatever it likes
            unreadable += 1
            continue
        if not images:
            others += 1
        for image in images:
            found.setdefault((image.sop_uid, image.index), image)
    if not found:
        what = f"{files} DICOM files, none of them an image" if files else "no DICOM file"
        more = f" ({unreadable} cannot be read)" if unreadable else ""
        raise UserError(f"holds {what}{more}", folder, "Give the folder of an image series")
    return list(found.values()), unreadable


def _images(dataset: Any, path: Path) -> list[Instance]:
    """Return the images in a file, several for an enhanced object; reports, segmentations and plans have no images."""
    if dataset.get("Modality") in NO_IMAGES or "SeriesInstanceUID" not in dataset or "Rows" not in dataset:
        return []
    instance = _instance(dataset, path)
    if dataset.get("PerFrameFunctionalGroupsSequence"):
        return enhanced_images(dataset, instance)
    return [instance]


def _instance(dataset: Any, path: Path) -> Instance:
    """Return the header of a file as that of one image."""
    spacing = number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness")
    contrast = (*map(str, dataset.get("ImageType") or ()),)
    contrast += tuple(str(dataset.get(name)) for name in ("EchoTime", "InversionTime", "DiffusionBValue"))
    return Instance(
        path=path,
        sop_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        study_uid=str(dataset.get("StudyInstanceUID", "")),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or "") or None,
        series_number=whole(dataset, "SeriesNumber"),
        description=str(dataset.get("SeriesDescription") or ""),
        number=whole(dataset, "InstanceNumber"),
        size=(int(dataset.Rows), int(dataset.Columns)),
        position=vector(dataset, "ImagePositionPatient", 3),
        orientation=vector(dataset, "ImageOrientationPatient", 6),
        pixel_spacing_mm=vector(dataset, "PixelSpacing", 2),
        slice_spacing_mm=spacing if spacing and spacing > 0 else None,
        trigger_ms=number(dataset, "TriggerTime"),
        temporal_position=number(dataset, "TemporalPositionIdentifier"),
        interval_ms=_interval_ms(dataset),
        contrast=contrast,
        frames=whole(dataset, "NumberOfFrames") or 1,
        samples=whole(dataset, "SamplesPerPixel") or 1,
        pixels=any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")),
        transfer_syntax=_transfer_syntax(dataset),
        thickness_mm=number(dataset, "SliceThickness"),
        inverted=dataset.get("PhotometricInterpretation") == "MONOCHROME1",
        slope=number(dataset, "RescaleSlope") or 1.0,
        intercept=number(dataset, "RescaleIntercept") or 0.0,
        modality=str(dataset.get("Modality") or ""),
    )


def _transfer_syntax(dataset: Any) -> str:
    stated = dataset.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    implicit, little = dataset.original_encoding  # without meta information, as pydicom read it
    return "1.2.840.10008.1.2" if implicit or not little else "1.2.840.10008.1.2.1"


def _interval_ms(dataset: Any) -> float | None:
    """Time from phase to phase: stated, or the period of a cycle over the number of its phases."""
    stated = number(dataset, "TemporalResolution") or number(dataset, "FrameTime")
    period, phases = number(dataset, "NominalInterval"), number(dataset, "CardiacNumberOfImages")
    found = stated or (period / phases if period and phases else None)
    return found if found and found > 0 else None


def _check_decoders(instances: Sequence[Instance], where: Path) -> None:
    """Refuse transfer syntaxes that no installed package decodes, before any work is done."""
    pydicom = import_pydicom(where)
    for uid in sorted({item.transfer_syntax for item in instances if item.pixels}):
        syntax = pydicom.uid.UID(uid)
        if not _can_decode(pydicom, syntax):
            packages = DECODERS.get(uid)
            remedy = f"Run: pip install {packages}" if packages else "Decompress the files, e.g. with gdcmconv --raw"
            raise UserError(f"compressed with {syntax.name} ({uid}), and no decoder is installed", where, remedy)


def _can_decode(pydicom: Any, syntax: Any) -> bool:
    if syntax.is_transfer_syntax and not syntax.is_compressed:
        return True
    try:
        return bool(pydicom.pixels.get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
