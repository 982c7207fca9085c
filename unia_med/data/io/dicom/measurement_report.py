"""Measurements as DICOM SR (Comprehensive 3D SR, template TID 1500), which points to segmentations and their images.

All that is needed of patient, study and images is copied from the SEG objects, so the source images need not be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unia_med import __version__
from unia_med.data.io.dicom.repair import culprit, repaired
from unia_med.data.io.dicom.scan import import_pydicom, quiet
from unia_med.data.io.dicom.seg import import_highdicom
from unia_med.errors import UserError
from unia_med.files import replacing

_STUDY = (
    "PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber "
    "ReferringPhysicianName SpecificCharacterSet"
).split()


@dataclass(frozen=True)
class Coded:
    """A concept of a coding scheme.

    Attributes:
        value: the code.
        scheme: "SCT", "LN", "DCM", "UCUM".
        meaning: in words.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Quantity:
    """One number.

    Attributes:
        name: what was measured.
        value: in `unit`.
        unit: of UCUM.
        label: short text for a reader, such as "LV EDV".
        derivation: how many values became one, such as their mean; None of a single value.
    """

    name: Coded
    value: float
    unit: Coded
    label: str
    derivation: Coded | None = None


@dataclass(frozen=True)
class Group:
    """Numbers of one structure.

    Attributes:
        label: what they are about, for a reader.
        site: the structure.
        quantities: at least one.
        time_point: when in the cycle, or None.
        segment: file of the SEG object and number of the segment that was measured; None of several frames together.
        images_of: SEG file whose images were measured, where no whole segment was; None: those of all.
    """

    label: str
    site: Coded
    quantities: tuple[Quantity, ...]
    time_point: Coded | None = None
    segment: tuple[Path, int] | None = None
    images_of: Path | None = None


def write_measurement_report(groups: Sequence[Group], objects: Sequence[Path], path: Path) -> None:
    """Write one SR.

    Args:
        groups: what was measured, at least one.
        objects: SEG files of one study, whose images were measured; those of the groups among them.
        path: destination.

    Raises:
        UserError: pydicom or highdicom is not installed, a SEG cannot be read, or its header makes no valid object.
    """
    import_highdicom(path)
    try:
        _write(groups, objects, path)
    except (UserError, MemoryError, OSError, NameError, AssertionError):
        raise
    except Exception as error:  # highdicom and pydicom raise whatever they like, and may quote values
        name = culprit(error)
        what = f"no valid SR can be made, because of {f'the attribute {name}' if name else type(error).__name__}"
        raise UserError(what, where=objects[0], remedy="The masks and their SEG are not affected") from None


def _write(groups: Sequence[Group], objects: Sequence[Path], path: Path) -> None:
    import highdicom

    pydicom = import_pydicom(path)
    with quiet():
        segmentations = {file: _read(pydicom, file) for file in objects}
        images = {uid: image for seg in segmentations.values() for uid, image in _images(pydicom, seg)}
        content = _content(groups, segmentations)
        first = next(iter(segmentations.values()))
        report = highdicom.sr.Comprehensive3DSR(
            evidence=[*segmentations.values(), *images.values()],
            content=content[0],
            series_instance_uid=str(highdicom.UID()),
            series_number=min(int(first.get("SeriesNumber") or 0) + 1000, 2**31 - 1),
            sop_instance_uid=str(highdicom.UID()),
            instance_number=1,
            manufacturer="unia_med",
            is_complete=True,
            is_final=False,
            is_verified=False,
            series_description="Automatic measurements",
            manufacturer_model_name="unia_med",
            software_versions=__version__,
            device_serial_number="none",
        )
        with replacing(path, ".dcm") as temporary:
            report.save_as(temporary)


def referenced_images(segmentation: Any) -> Iterator[tuple[str, str, str]]:
    """Yield SOP class, SOP instance and series of the images that a SEG refers to.

    Args:
        segmentation: pydicom's data set.
    """
    for series in segmentation.get("ReferencedSeriesSequence", ()):
        for item in series.ReferencedInstanceSequence:
            yield str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID), str(series.SeriesInstanceUID)


def source_frames(segmentation: Any) -> Iterator[tuple[str, str, list[int] | None]]:
    """Yield SOP class and instance of the images that a SEG was made of, and which frames of a file of several.

    Args:
        segmentation: pydicom's data set.
    """
    everything = [
        item for one in segmentation.get("ReferencedSeriesSequence", ()) for item in one.ReferencedInstanceSequence
    ]
    for item in segmentation.get("SourceImageSequence") or everything:
        stated = item.get("ReferencedFrameNumber")
        frames = None if stated is None else [int(number) for number in np.atleast_1d(stated)]
        yield str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID), frames


def _read(pydicom: Any, file: Path) -> Any:
    try:
        return repaired(pydicom.dcmread(file))
    except Exception as error:  # the message of pydicom may quote the patient's data
        what = f"cannot be read as a DICOM SEG ({type(error).__name__})"
        raise UserError(what, where=file, remedy="Predict the series again") from None


def _images(pydicom: Any, segmentation: Any) -> Iterator[tuple[str, Any]]:
    """Yield what evidence needs of each source image, made of the SEG's own header."""
    for sop_class, sop_uid, series_uid in referenced_images(segmentation):
        image = pydicom.Dataset()
        for name in _STUDY:
            if name in segmentation:
                image[name] = deepcopy(segmentation[name])
        image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = sop_class, sop_uid, series_uid
        yield sop_uid, image


def _content(groups: Sequence[Group], segmentations: dict[Path, Any]) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_device_uid(), name="unia_med", manufacturer_name="unia_med", model_name="unia_med", serial_number="none"
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, device),
    )
    return sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[_group(group, segmentations) for group in groups],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _device_uid() -> str:
    """Return one UID for all reports of this program, as an observer has one."""
    import uuid

    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, 'unia_med.observer').int}"


def _group(group: Group, segmentations: dict[Path, Any]) -> Any:
    from highdicom import sr

    algorithm = sr.AlgorithmIdentification("unia_med", __version__)
    shared = {
        "tracking_identifier": sr.TrackingIdentifier(identifier=group.label),
        "finding_type": _code(group.site),
        "finding_sites": [sr.FindingSite(_code(group.site))],
        "measurements": [_measurement(quantity) for quantity in group.quantities],
        "algorithm_id": algorithm,
    }
    if group.time_point is not None:
        point = sr.TimePointContext(group.time_point.meaning, _code(group.time_point))
        shared["time_point_context"] = point
    if group.segment is None:
        measured = segmentations.values() if group.images_of is None else [segmentations[group.images_of]]
        source = [sr.SourceImageForMeasurementGroup(*place) for one in measured for place in source_frames(one)]
        return sr.MeasurementsAndQualitativeEvaluations(**shared, source_images=source)
    file, number = group.segment
    segmentation = segmentations[file]
    made_of = [sr.SourceImageForSegmentation(*place) for place in source_frames(segmentation)]
    segment = sr.ReferencedSegment(
        segmentation.SOPClassUID, segmentation.SOPInstanceUID, segment_number=number, source_images=made_of
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**shared, referenced_segment=segment)


def _measurement(quantity: Quantity) -> Any:
    from highdicom import sr

    return sr.Measurement(
        name=_code(quantity.name),
        value=round(quantity.value, 3),
        unit=_code(quantity.unit),
        tracking_identifier=sr.TrackingIdentifier(identifier=quantity.label),
        derivation=None if quantity.derivation is None else _code(quantity.derivation),
    )


def _code(concept: Coded) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(concept.value, concept.scheme, concept.meaning)
