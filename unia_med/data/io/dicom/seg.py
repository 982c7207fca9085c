"""DICOM Segmentation objects (SEG) of predicted labels, which point to the images they were made from.

A cine gets one SEG instance per time frame, all in one series: a SEG's frames are identified by segment and place, and
viewers (3D Slicer, OHIF) read one instance as one 3D labelling. Each refers to the images of its own frame only.

The patient and study of the source are copied into the object, as the standard demands; file names and messages hold
none of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unia_med import __version__
from unia_med.data.io.dicom.objects import ObjectWriter, number_of_objects, object_names
from unia_med.data.io.dicom.repair import repaired
from unia_med.data.io.dicom.scan import INSTALL, quiet
from unia_med.data.io.dicom.series import DicomSeries
from unia_med.data.io.dicom.stack import Instance
from unia_med.errors import UserError
from unia_med.files import replacing
from unia_med.registry import CODES, resolve, with_installed

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"

PRIVATE_SCHEME = "99UNIAMED"
"""Coding scheme of classes for which no standard code is known here."""

COLOURS = ((0.90, 0.62, 0.00), (0.34, 0.71, 0.91), (0.00, 0.62, 0.45), (0.80, 0.47, 0.65), (0.94, 0.89, 0.26))
"""Display colours (sRGB) by class, of the colour-blind-safe palette of Okabe and Ito."""

_SNOMED, _ANATOMY = "SCT", ("91723000", "Anatomical structure")


def known_codes() -> dict[str, tuple[str, str]]:
    """Return SNOMED CT code and meaning by class name in capitals, of all of `unia_med.registry.CODES`."""
    tables = with_installed(CODES, "unia_med.codes")
    return {name: code for table in tables for name, code in resolve(tables, table).items()}


def seg_names(series: DicomSeries) -> list[str]:
    """File names of a series' SEG objects, one per time frame.

    Args:
        series: the source.
    """
    return object_names(series, "seg")


class SegWriter(ObjectWriter):
    """Write the SEG objects of one source series, in a `with` block; see `ObjectWriter`.

    Args:
        series: what was segmented.
        classes: names of the labels 1, 2, 3, ...

    Raises:
        UserError: highdicom is not installed.
    """

    kind, title = "seg", "SEG (and so no SR)"

    def __init__(self, series: DicomSeries, classes: Sequence[str]) -> None:
        self._highdicom = import_highdicom(series.path)
        super().__init__(series, classes)
        self._uid = str(self._highdicom.UID())

    def _write(self, index: int, labels: np.ndarray, path: Path) -> None:
        planes = np.ascontiguousarray(labels.transpose(2, 1, 0))  # (slices, rows, columns)
        instances = self._series.stack.grid[index]
        sources = [self._completed(*pair) for pair in zip(self._series.datasets(index), instances, strict=True)]
        with quiet():
            segmentation = self._build(sources, planes, index)
        _refer(segmentation, {str(s.SOPInstanceUID): i for s, i in zip(sources, instances, strict=True)})
        temporary = self._staged.enter_context(replacing(path, ".dcm"))
        with temporary.open("wb") as file, quiet():
            segmentation.save_as(file)
        places = [(item.sop_uid, None if item.index is None else item.index + 1) for item in instances]
        if not np.array_equal(read_segmentation(temporary, places), planes):
            raise RuntimeError("a DICOM SEG read back differs from what was written")

    def _build(self, sources: list[Any], planes: np.ndarray, index: int) -> Any:
        from highdicom.seg import Segmentation

        return Segmentation(
            source_images=sources,
            pixel_array=planes,
            segmentation_type="BINARY",
            segment_descriptions=[_describe(i, name) for i, name in enumerate(self._classes, start=1)],
            series_instance_uid=self._uid,
            series_number=number_of_objects(self._series, 1000),
            sop_instance_uid=str(self._highdicom.UID()),
            instance_number=index + 1,
            manufacturer="unia_med",
            manufacturer_model_name="unia_med",
            software_versions=__version__,
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description=f"Automatic segmentation, frame {index + 1} of {self._series.frames}",
            series_description="Automatic segmentation",
            omit_empty_frames=bool(planes.any()),
        )

    def _completed(self, dataset: Any, instance: Instance) -> Any:
        """Return a source with the attributes that highdicom reads, all in one series and plane as it expects."""
        first = self._series.stack.grid[0][0]
        distance = float(np.linalg.norm(self._series.affine[:3, 2]))
        dataset = repaired(dataset)
        dataset.SeriesInstanceUID = first.series_uid
        dataset.SOPClassUID, dataset.SOPInstanceUID = _MR_IMAGE, instance.sop_uid
        if instance.index is not None:
            dataset.SOPInstanceUID = str(self._highdicom.UID())  # until the object is made: frames share one
        dataset.ImagePositionPatient = _decimals(instance.place)
        # Of breath-holds, the last digits may differ.
        dataset.ImageOrientationPatient = _decimals(first.directions.ravel())
        dataset.PixelSpacing = _decimals(first.pixel_mm)
        dataset.SliceThickness = _decimals([instance.thickness_mm or distance])[0]
        dataset.SpacingBetweenSlices = _decimals([distance])[0]
        return dataset


def _decimals(values: Iterable[float]) -> list[str]:
    """Return numbers of at most the 16 characters that DICOM allows."""
    return [f"{value:.10g}" for value in values]


def import_highdicom(where: Path) -> Any:
    """Return the package, or a message that says how to install it.

    Args:
        where: for the message.
    """
    try:
        with quiet():
            import highdicom
            import highdicom.seg
    except ImportError:
        raise UserError("writing DICOM SEG needs highdicom", where, INSTALL) from None
    return highdicom


def read_segmentation(path: Path, sources: Sequence[str | tuple[str, int | None]]) -> np.ndarray:
    """Labels (slices, rows, columns) uint8 of a SEG file, in the order of the images it refers to.

    Args:
        path: SEG file whose segments do not overlap.
        sources: SOP Instance UID of each slice's source, with the number of its frame, from 1, in a file of several.
    """
    from highdicom.seg import segread

    places = [(source, None) if isinstance(source, str) else source for source in sources]
    options: dict[str, Any] = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    with quiet():
        segmentation = segread(path)
        if all(frame is None for _, frame in places):
            uids = [uid for uid, _ in places]
            return np.asarray(segmentation.get_pixels_by_source_instance(uids, **options), np.uint8)
        planes = [segmentation.get_pixels_by_source_frame(uid, [frame or 1], **options)[0] for uid, frame in places]
    return np.asarray(planes, np.uint8)


def _describe(number: int, name: str) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    known = known_codes()
    value, meaning = known.get(name.upper(), (f"CLASS{number}", name))
    scheme = _SNOMED if name.upper() in known else PRIVATE_SCHEME
    red, green, blue = (round(255 * part) for part in COLOURS[(number - 1) % len(COLOURS)])
    return SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=Code(_ANATOMY[0], _SNOMED, _ANATOMY[1]),
        segmented_property_type=Code(value, scheme, meaning[:64]),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name="unia_med", version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
        display_color=CIELabColor.from_rgb(red, green, blue),
    )


def _refer(segmentation: Any, instances: Mapping[str, Instance]) -> None:
    """Point to the series, files and frames that the images really lie in.

    Args:
        segmentation: made of images that were all in one series and in files of their own.
        instances: by the SOP Instance UID that they had there.
    """
    derived = [item.DerivationImageSequence[0] for item in segmentation.PerFrameFunctionalGroupsSequence]
    items = {id(source): source for item in derived for source in item.SourceImageSequence}  # segments share them
    for source in items.values():
        instance = instances[str(source.ReferencedSOPInstanceUID)]
        source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = instance.sop_class, instance.sop_uid
        if instance.index is not None:
            source.ReferencedFrameNumber = instance.index + 1
    by_series: dict[str, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for instance in instances.values():
        by_series[instance.series_uid][instance.sop_uid].append(instance)
    segmentation.SourceImageSequence = [
        _reference(items, frames=True) for files in by_series.values() for items in files.values()
    ]
    segmentation.ReferencedSeriesSequence = [
        _item(SeriesInstanceUID=uid, ReferencedInstanceSequence=[_reference(items) for items in files.values()])
        for uid, files in by_series.items()
    ]


def _reference(items: Sequence[Instance], frames: bool = False) -> Any:
    """Return an item that points to the file of images; with `frames`, to theirs where the file has several."""
    found = _item(ReferencedSOPClassUID=items[0].sop_class, ReferencedSOPInstanceUID=items[0].sop_uid)
    if frames and items[0].index is not None:
        found.ReferencedFrameNumber = sorted(item.index + 1 for item in items if item.index is not None)
    return found


def _item(**values: Any) -> Any:
    import pydicom

    item = pydicom.Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
