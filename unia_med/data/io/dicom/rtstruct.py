"""DICOM RT Structure Sets of predicted labels: contours in millimetres of the patient, one object per time frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from unia_med import __version__
from unia_med.data.io.dicom.contours import contours
from unia_med.data.io.dicom.label_objects import read_dicom_labels
from unia_med.data.io.dicom.objects import ObjectWriter, number_of_objects
from unia_med.data.io.dicom.repair import repaired
from unia_med.data.io.dicom.scan import import_pydicom, quiet
from unia_med.data.io.dicom.seg import COLOURS, known_codes
from unia_med.data.io.dicom.series import DicomSeries
from unia_med.data.io.dicom.stack import Instance
from unia_med.data.io.volume import VolumeInfo
from unia_med.files import replacing

_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management: retired, and what the attribute still asks for
_COPIED = (
    "PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber "
    "ReferringPhysicianName SpecificCharacterSet FrameOfReferenceUID PositionReferenceIndicator"
).split()
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_SHARE = 0.99  # of the voxels, which contours that are filled again must give


class RtStructWriter(ObjectWriter):
    """Write the RT Structure Sets of one source series, in a `with` block; see `ObjectWriter`.

    Args:
        series: what was segmented.
        classes: names of the labels 1, 2, 3, ...

    Raises:
        UserError: pydicom is not installed.
    """

    kind, title = "rtstruct", "RTSTRUCT"

    def __init__(self, series: DicomSeries, classes: Sequence[str]) -> None:
        self._pydicom = import_pydicom(series.path)
        super().__init__(series, classes)
        self._uid = self._pydicom.uid.generate_uid()

    def _write(self, index: int, labels: np.ndarray, path: Path) -> None:
        with quiet():
            dataset = self._build(self._series.datasets(index), labels, index)
            temporary = self._staged.enter_context(replacing(path, ".dcm"))
            dataset.save_as(temporary, enforce_file_format=True)
        found = read_dicom_labels(temporary, VolumeInfo(labels.shape, self._series.affine, path)).array
        drawn = (labels > 0) | (found > 0)
        if drawn.any() and (found == labels)[drawn].mean() < _SAME_SHARE:
            raise RuntimeError("contours filled again differ from what was written")

    def _build(self, sources: list[Any], labels: np.ndarray, index: int) -> Any:
        pydicom = self._pydicom
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        source = repaired(sources[0])
        for name in _COPIED:
            dataset[name] = source[name] if name in source else pydicom.DataElement(name, _vr(pydicom, name), "")
        now = datetime.now()
        dataset.SOPClassUID, dataset.SOPInstanceUID = _CLASS, pydicom.uid.generate_uid()
        dataset.Modality, dataset.SeriesInstanceUID, dataset.OperatorsName = "RTSTRUCT", self._uid, ""
        dataset.SeriesNumber = number_of_objects(self._series, 3000)
        dataset.SeriesDescription, dataset.InstanceNumber = "Automatic contours", index + 1
        dataset.Manufacturer = dataset.ManufacturerModelName = "unia_med"
        dataset.SoftwareVersions, dataset.DeviceSerialNumber = __version__, "none"
        dataset.StructureSetLabel, dataset.ApprovalStatus = "CONTOURS", "UNAPPROVED"
        dataset.StructureSetDescription = f"Automatic segmentation, frame {index + 1} of {self._series.frames}"
        dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
        dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
        dataset.ReferencedFrameOfReferenceSequence = [self._frame_of_reference(sources, index)]
        dataset.StructureSetROISequence = [self._region(number, sources) for number in self._numbers()]
        dataset.RTROIObservationsSequence = [self._observation(number) for number in self._numbers()]
        dataset.ROIContourSequence = [self._contours(number, index, labels) for number in self._numbers()]
        return dataset

    def _numbers(self) -> range:
        return range(1, len(self._classes) + 1)

    def _frame_of_reference(self, sources: Sequence[Any], index: int) -> Any:
        by_series: dict[str, list[Any]] = defaultdict(list)
        for instance in self._series.stack.grid[index]:
            by_series[instance.series_uid].append(self._image(instance))
        series = [self._item(SeriesInstanceUID=uid, ContourImageSequence=images) for uid, images in by_series.items()]
        study = self._item(
            ReferencedSOPClassUID=_STUDY_CLASS,
            ReferencedSOPInstanceUID=sources[0].StudyInstanceUID,
            RTReferencedSeriesSequence=series,
        )
        return self._item(FrameOfReferenceUID=sources[0].FrameOfReferenceUID, RTReferencedStudySequence=[study])

    def _region(self, number: int, sources: Sequence[Any]) -> Any:
        return self._item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=sources[0].FrameOfReferenceUID,
            ROIName=self._classes[number - 1][:64],
            ROIGenerationAlgorithm="AUTOMATIC",
        )

    def _observation(self, number: int) -> Any:
        item = self._item(
            ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="ORGAN", ROIInterpreter=""
        )
        if code := known_codes().get(self._classes[number - 1].upper()):
            concept = self._item(CodeValue=code[0], CodingSchemeDesignator="SCT", CodeMeaning=code[1])
            item.RTROIIdentificationCodeSequence = [concept]
        return item

    def _contours(self, number: int, index: int, labels: np.ndarray) -> Any:
        colour = [round(255 * part) for part in COLOURS[(number - 1) % len(COLOURS)]]
        found = [
            self._item(
                ContourImageSequence=[self._image(instance)],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.3f}" for value in points.ravel()],
            )
            for z, instance in enumerate(self._series.stack.grid[index])
            for points in self._in_patient(labels[:, :, z] == number, z)
        ]
        item = self._item(ROIDisplayColor=colour, ReferencedROINumber=number)
        if found:
            item.ContourSequence = found
        return item

    def _in_patient(self, plane: np.ndarray, z: int) -> Iterator[np.ndarray]:
        """Yield contours (N, 3) of a slice in LPS mm."""
        matrix = _LPS @ self._series.affine
        for outline in contours(plane):
            voxels = np.column_stack((outline, np.full(len(outline), z), np.ones(len(outline))))
            yield (voxels @ matrix.T)[:, :3]

    def _image(self, instance: Instance) -> Any:
        item = self._item(ReferencedSOPClassUID=instance.sop_class, ReferencedSOPInstanceUID=instance.sop_uid)
        if instance.index is not None:
            item.ReferencedFrameNumber = instance.index + 1
        return item

    def _item(self, **values: Any) -> Any:
        item = self._pydicom.Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        return item


def _vr(pydicom: Any, name: str) -> str:
    return str(pydicom.datadict.dictionary_VR(name))
