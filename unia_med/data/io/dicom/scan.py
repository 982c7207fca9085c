"""Which files below a folder are DICOM images, and what their headers say; no pixel is read.

No value that may tell who the patient is gets into a message: pydicom's own warnings and errors, which quote values,
are kept back.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from unia_med.data.io.dicom.enhanced import enhanced_images, timed_images
from unia_med.data.io.dicom.stack import Instance
from unia_med.data.io.dicom.values import directions, number, stated, vector, whole
from unia_med.data.io.walk import walk
from unia_med.errors import UserError

NO_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "DOC", "REG")
"""Modalities that are no images to segment; results of this program are among them."""

INSTALL = "Run: pip install 'unia-med[dicom]'"

PIXEL_DEFAULTS = {
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsStored": None,
    "HighBit": None,
    "PixelRepresentation": 0,
}
"""What is assumed of pixels whose header does not say: one grey value without a sign, of all bits that it takes."""

_MARK = b"DICM"
_TAGS = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID SeriesNumber SeriesDescription "
    "Modality InstanceNumber Rows Columns ImagePositionPatient ImageOrientationPatient PixelSpacing "
    "SpacingBetweenSlices SliceThickness TriggerTime TemporalPositionIdentifier TemporalResolution FrameTime "
    "NominalInterval CardiacNumberOfImages ImageType EchoTime InversionTime DiffusionBValue SequenceVariant "
    "ImagerPixelSpacing NominalScannedPixelSpacing FrameTimeVector CineRate RecommendedDisplayFrameRate "
    "NumberOfFrames SamplesPerPixel PixelData FloatPixelData DoubleFloatPixelData PhotometricInterpretation "
    "RescaleSlope RescaleIntercept BitsStored HighBit PixelRepresentation PatientID SharedFunctionalGroupsSequence "
    "PerFrameFunctionalGroupsSequence"
).split()
"""What is read of a header; of what identifies a person, the patient's number, which is kept as a digest alone."""

_FEW = 3
"""Images from which on it is no chance that all differ."""

_SIEMENS = _SIEMENS_OWNER, _SIEMENS_TILES = 0x00190010, 0x0019100A
"""Private tags of Siemens: the owner of the block, and how many slices one picture shows side by side (a mosaic)."""


def scan_folder(folder: Path) -> tuple[list[Instance], int]:
    """Return image instances, each once, and the number of DICOM files that cannot be read.

    Args:
        folder: searched with its sub-folders, by content; or a single file.

    Raises:
        UserError: there is no DICOM image.
    """
    pydicom = import_pydicom(folder)
    if not folder.exists():
        raise UserError("no such folder", folder, "Give the folder of a DICOM series")
    found: dict[tuple, Instance] = {}
    files = others = unreadable = 0
    for path in filter(is_dicom, [folder] if folder.is_file() else walk(folder)):
        files += 1
        try:
            with quiet():
                dataset = pydicom.dcmread(path, force=True, defer_size=1024, specific_tags=[*_TAGS, *_SIEMENS])
                images = _images(dataset, path)
        except Exception:  # a damaged file; pydicom raises whatever it likes
            unreadable += 1
            continue
        if not images:
            others += 1
        for image in images:
            found.setdefault(_identity(image), image)
    if not found:
        what = f"{files} DICOM files, none of them an image" if files else "no DICOM file"
        more = f" ({unreadable} cannot be read)" if unreadable else ""
        raise UserError(f"holds {what}{more}", folder, "Give the folder of an image series")
    return _by_patient(_without_own(list(found.values()))), unreadable


def _without_own(instances: list[Instance]) -> list[Instance]:
    """Forget what each image has for itself where all should share it, as careless anonymisation leaves it."""

    def own(name: str) -> bool:
        return len({getattr(item, name) for item in instances}) == len(instances)

    if len(instances) < _FEW:
        return instances
    patients, numbers = ({getattr(item, name) for item in instances} for name in ("patient", "series_number"))
    forgotten: list[str] = []
    if own("patient") and not own("series_uid"):
        forgotten.append("patient")
    if own("study_uid") and (not own("series_uid") or (len(patients) == 1 and "" not in patients)):
        forgotten.append("study_uid")
    one_study = "study_uid" in forgotten or not own("study_uid")
    if own("series_uid") and one_study and 2 * len(numbers) <= len(instances):
        forgotten.append("series_uid")
    blank: dict[str, Any] = dict.fromkeys(forgotten, "")
    return [replace(item, **blank) for item in instances]


def _identity(image: Instance) -> tuple:
    """Return what copies of an image share; a UID alone is not enough, since careless programs give many one."""
    place = image.position, image.orientation, image.trigger_ms, image.temporal_position, image.number
    return image.patient, image.sop_uid or str(image.path), image.index, place, image.contrast


def _by_patient(instances: list[Instance]) -> list[Instance]:
    """Return the images with a digest where one study holds several patients, and with none elsewhere.

    Captures without a place often lack the patient's number.
    """
    patients: dict[str, list[str]] = {}
    for item in instances:
        known = patients.setdefault(item.study_uid, [])
        if item.patient and item.position is not None and item.patient not in known:
            known.append(item.patient)
    return [replace(item, patient=_one_of(item.patient, patients[item.study_uid])) for item in instances]


def _one_of(patient: str, known: list[str]) -> str:
    if len(known) < 2:
        return ""
    return patient if patient in known else known[0]


def _images(dataset: Any, path: Path) -> list[Instance]:
    """Return the images in a file, several of an enhanced object; none of reports, segmentations, plans and such."""
    if stated(dataset, "Modality") in NO_IMAGES or "Rows" not in dataset:
        return []
    instance = _instance(dataset, path)
    if dataset.get("PerFrameFunctionalGroupsSequence"):
        return enhanced_images(dataset, instance)
    return timed_images(dataset, instance) if instance.frames > 1 else [instance]


def _instance(dataset: Any, path: Path) -> Instance:
    """Return the header of a file as that of one image."""
    spacing = number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness")
    image_type = _texts(dataset, "ImageType")
    contrast = image_type + tuple(str(stated(dataset, name)) for name in _CONTRAST)
    pixel_mm, pixel_attribute = _pixel_spacing(dataset)
    return Instance(
        path=path,
        sop_class=_uid(dataset, "SOPClassUID"),
        sop_uid=_uid(dataset, "SOPInstanceUID"),
        series_uid=_uid(dataset, "SeriesInstanceUID"),
        study_uid=_uid(dataset, "StudyInstanceUID"),
        frame_of_reference=_uid(dataset, "FrameOfReferenceUID") or None,
        series_number=whole(dataset, "SeriesNumber"),
        description=str(stated(dataset, "SeriesDescription") or ""),
        number=whole(dataset, "InstanceNumber"),
        size=(int(dataset.Rows), int(dataset.Columns)),
        position=vector(dataset, "ImagePositionPatient", 3),
        orientation=directions(dataset),
        pixel_spacing_mm=pixel_mm,
        pixel_attribute=pixel_attribute,
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
        inverted=stated(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        slope=number(dataset, "RescaleSlope") or 1.0,
        intercept=number(dataset, "RescaleIntercept") or 0.0,
        modality=(_texts(dataset, "Modality") or ("",))[0],
        inversion_ms=number(dataset, "InversionTime"),
        steady="SS" in _texts(dataset, "SequenceVariant"),
        derived="DERIVED" in image_type,
        mosaic="MOSAIC" in image_type or _tiles(dataset) > 1,
        image_type=image_type,
        patient=_digest(dataset),
        assumed=tuple(name for name in PIXEL_DEFAULTS if "PixelData" in dataset and stated(dataset, name) is None),
    )


_CONTRAST = ("EchoTime", "InversionTime", "DiffusionBValue")
_PIXEL_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def _pixel_spacing(dataset: Any) -> tuple[tuple[float, ...] | None, str]:
    """Return the distances between rows and columns, and the attribute that they are from."""
    found = ((vector(dataset, name, 2), name) for name in _PIXEL_SPACINGS)
    return next(((mm, name) for mm, name in found if mm is not None), (None, _PIXEL_SPACINGS[0]))


def _uid(dataset: Any, name: str) -> str:
    """Return a UID of the header, that of the file's meta information where it has none, or an empty text."""
    found = stated(dataset, name) or dataset.file_meta.get(f"MediaStorage{name}") or ""
    return str(found).strip(" \0")


def _digest(dataset: Any) -> str:
    """Return a digest of the patient's number: exports may give several patients one study."""
    number_of = str(stated(dataset, "PatientID") or "").strip()
    return hashlib.sha256(number_of.encode()).hexdigest()[:16] if number_of else ""


def _texts(dataset: Any, name: str) -> tuple[str, ...]:
    found = stated(dataset, name) or ()
    return (str(found),) if isinstance(found, str) else tuple(map(str, found))


def _tiles(dataset: Any) -> int:
    """Return how many slices one picture of a Siemens scanner shows; 0 where its header does not say."""
    if _SIEMENS_TILES not in dataset or "SIEMENS" not in str(dataset.get(_SIEMENS_OWNER, "")).upper():
        return 0
    value = dataset[_SIEMENS_TILES].value
    if isinstance(value, bytes):  # of unknown type: an unsigned short, or digits
        digits = value.strip(b" \0")
        return int(digits) if digits.isdigit() else int.from_bytes(value[:2], "little")
    return int(value or 0)


def _transfer_syntax(dataset: Any) -> str:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax:
        return str(syntax)
    implicit, little = dataset.original_encoding  # without meta information, as pydicom read it
    return "1.2.840.10008.1.2" if implicit or not little else "1.2.840.10008.1.2.1"


def _interval_ms(dataset: Any) -> float | None:
    """Time from phase to phase: stated, or the period of a cycle over the number of its phases."""
    step = number(dataset, "TemporalResolution") or number(dataset, "FrameTime")
    period, phases = number(dataset, "NominalInterval"), number(dataset, "CardiacNumberOfImages")
    found = step or (period / phases if period and phases else None)
    return found if found and found > 0 else None


def has_dicom(folder: Path) -> bool:
    """Whether any file of a folder, or below it, is DICOM by its content.

    Args:
        folder: where to look.
    """
    return any(is_dicom(path) for path in walk(folder))


def holds_frames(path: Path) -> bool:
    """Whether a DICOM file holds several frames, each with its place or time, as enhanced objects do.

    Args:
        path: of a file.
    """
    try:
        with quiet():
            dataset = import_pydicom(path).dcmread(path, force=True, defer_size=1024, specific_tags=_TAGS)
            return any(image.index is not None for image in _images(dataset, path))
    except Exception:  # pydicom raises whatever it likes
        return False


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
    """Keep back what pydicom and highdicom log and warn of: they quote values of the header."""
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
