"""Cardiac indices as DICOM SR next to the SEG objects of the masks that were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from unia_med.cardiac.cases import MaskCase, MeasuredCase, read_mask
from unia_med.cardiac.indices import VentricleIndices
from unia_med.cardiac.segments import NAMES
from unia_med.cardiac.terms import CODES, SEGMENT_CODES
from unia_med.data.io.dicom.label_objects import read_dicom_labels
from unia_med.data.io.dicom.measurement_report import Coded, Group, Quantity, write_measurement_report
from unia_med.data.io.dicom.seg import SegWriter
from unia_med.data.io.dicom.series import DicomSeries
from unia_med.data.io.regrid import nearest_on_grid
from unia_med.data.io.suffixes import volume_stem
from unia_med.errors import UserError

_ML = Coded("mL", "UCUM", "milliliter")
_GRAM = Coded("g", "UCUM", "gram")
_PERCENT = Coded("%", "UCUM", "percent")
_VOLUME = Coded("118565006", "SCT", "Volume")
_EF = Coded("70822001", "SCT", "Cardiac ejection fraction")
_MASS = Coded("18087-7", "LN", "Left Ventricle Mass")
_MM = Coded("mm", "UCUM", "millimeter")
_THICKNESS = Coded("122445", "DCM", "Wall Thickness")
_MEAN, _MAXIMUM = Coded("373098007", "SCT", "Mean"), Coded("56851009", "SCT", "Maximum")
_PHASES = {"ED": Coded("416190007", "SCT", "End diastole"), "ES": Coded("416430001", "SCT", "End Systole")}
_VOLUMES = {
    ("LV", "ED"): Coded("8821-1", "LN", "Left Ventricular ED Volume"),
    ("LV", "ES"): Coded("8823-7", "LN", "Left Ventricular ES Volume"),
    ("RV", "ED"): Coded("8822-9", "LN", "Right Ventricular ED Volume"),
    ("RV", "ES"): Coded("8824-5", "LN", "Right Ventricular ES Volume"),
}
_STROKE = {"LV": Coded("90096001", "SCT", "Stroke Volume"), "RV": Coded("429483009", "SCT", "RV Stroke Volume")}
"""Codes as DICOM PS3.16 has them for the heart."""


def write_report(
    case: MaskCase, found: MeasuredCase, values: Mapping[str, int], path: Path, series: DicomSeries | None = None
) -> Path | None:
    """Write the indices of a case as SR; None where no SEG objects lie next to its masks.

    Args:
        case: its mask files.
        found: its indices.
        values: label of each class.
        path: destination.
        series: the images. Where the SEG objects are missing or are not those of the masks, as after a correction, new
            ones are written next to the SR.

    Raises:
        UserError: the SEG differs from the masks and there are no images, or it cannot be used.
    """
    objects = _objects(case, found)
    try:
        for phase, file in (objects or {}).items():
            _check_same(case, file, _number(found, phase), values)
    except UserError:
        if series is None:
            raise
        objects = None
    if objects is None and series is not None:
        objects = _written(case, found, values, series, path.parent)
    if objects is None:
        return None
    groups = [*_segment_groups(found, objects, values), *_function_groups(found), *_wall_groups(found, objects)]
    write_measurement_report(groups, list(dict.fromkeys(objects.values())), path)
    return path


def _number(found: MeasuredCase, phase: str) -> int:
    phases = found.indices.phases
    index = phases.diastole if phase == "ED" else phases.systole
    assert index is not None
    return found.numbers[index]


def _objects(case: MaskCase, found: MeasuredCase) -> dict[str, Path] | None:
    """Return the SEG of each phase; None where one is missing."""
    files = {}
    for phase in ("ED",) if found.indices.phases.systole is None else ("ED", "ES"):
        number = _number(found, phase)
        mask = case.files.get(number, next(iter(case.files.values())))
        stem = volume_stem(mask).removesuffix("_seg")
        names = (f"{stem}_seg.dcm", f"{stem}_frame{number:02d}_seg.dcm")
        file = next((mask.with_name(name) for name in names if mask.with_name(name).is_file()), None)
        if file is None:
            return None
        files[phase] = file
    return files


def _written(
    case: MaskCase, found: MeasuredCase, values: Mapping[str, int], series: DicomSeries, folder: Path
) -> dict[str, Path]:
    """Write the SEG objects of all frames, and return those of the phases."""
    classes = sorted(values, key=lambda name: values[name])
    if [values[name] for name in classes] != list(range(1, len(classes) + 1)):
        raise UserError("labels that are not 1, 2, 3, ... make no SEG", where=next(iter(case.files.values())))
    mask = read_mask(next(iter(case.files.values())))
    if (*mask.array.shape[:3], mask.frames) != (*series.shape[:3], series.frames):
        raise UserError(f"masks of shape {mask.array.shape} for images of shape {series.shape}", where=series.path)
    with SegWriter(series, classes) as writer:
        for index, name in enumerate(writer.names):
            writer.write(index, mask.frame(index).array.astype(np.uint8), folder / name)
    if writer.failed:
        raise UserError(f"no SEG can be written, because of {writer.failed}", where=series.path)
    phases = ("ED",) if found.indices.phases.systole is None else ("ED", "ES")
    return {phase: folder / writer.names[_number(found, phase) - 1] for phase in phases}


def _check_same(case: MaskCase, file: Path, number: int, values: Mapping[str, int]) -> None:
    """Refuse a SEG whose voxels are not those that were measured."""
    mask = read_mask(case.files.get(number, next(iter(case.files.values()))))
    frame = mask.frame(number - 1) if mask.array.ndim == 4 else mask
    stored = read_dicom_labels(file, None)
    labels = nearest_on_grid(stored.array, stored.affine, frame.array.shape, frame.affine)
    own = np.where(np.isin(frame.array, list(values.values())), frame.array, 0)
    if not np.array_equal(labels, own):
        what = "its voxels differ from the mask that was measured, so that no SR can point to it"
        remedy = "A corrected mask needs a SEG of its own: name the study with --images, or export it from your viewer"
        raise UserError(what, where=file, remedy=remedy)


def _segment_groups(found: MeasuredCase, objects: Mapping[str, Path], values: Mapping[str, int]) -> Iterator[Group]:
    """Yield what one segment of one SEG tells: the volume of each structure at each phase, and the mass."""
    curves = found.indices.volumes_ml
    for phase, file in objects.items():
        index = found.numbers.index(_number(found, phase))
        for name in ("LV", "RV", "MYO"):
            if name not in curves or not curves[name][index]:
                continue
            volume = curves[name][index]
            quantities = [Quantity(_VOLUME, volume, _ML, f"{name} volume at {phase}")]
            if name == "MYO" and phase == "ED":
                quantities += _of_muscle(found)
            if (name, phase) in _VOLUMES:
                quantities.append(Quantity(_VOLUMES[name, phase], volume, _ML, f"{name} {phase}V"))
            yield Group(f"{name} at {phase}", _site(name), tuple(quantities), _PHASES[phase], (file, values[name]))


def _of_muscle(found: MeasuredCase) -> Iterator[Quantity]:
    """Yield mass and thickness of the myocardium at ED."""
    if found.indices.mass_g is not None:
        yield Quantity(_MASS, found.indices.mass_g, _GRAM, "Myocardial mass")
    if found.indices.wall is not None:
        yield Quantity(_THICKNESS, found.indices.wall.mean_mm, _MM, "Mean wall thickness at ED", _MEAN)
        yield Quantity(_THICKNESS, found.indices.wall.max_mm, _MM, "Largest wall thickness at ED", _MAXIMUM)


def _wall_groups(found: MeasuredCase, objects: Mapping[str, Path]) -> Iterator[Group]:
    """Yield the thickness of the AHA's segments 1 to 17 at each phase; segments that no slice shows are left out."""
    by_phase = {"ED": found.indices.segments_ed_mm, "ES": found.indices.segments_es_mm}
    for phase, file in objects.items():
        for number, thickness in enumerate(by_phase[phase] or (), start=1):
            if thickness is not None:
                label = f"AHA segment {number} ({NAMES[number - 1]}) at {phase}"
                quantity = Quantity(_THICKNESS, thickness, _MM, f"{label}: wall thickness", _MEAN)
                code, meaning = SEGMENT_CODES[number - 1]
                yield Group(label, Coded(code, "SCT", meaning), (quantity,), _PHASES[phase], images_of=file)


def _function_groups(found: MeasuredCase) -> Iterator[Group]:
    for name, ventricle in found.indices.ventricles.items():
        quantities = tuple(_function(name, ventricle))
        if quantities:
            yield Group(f"{name} function", _site(name), quantities)


def _function(name: str, ventricle: VentricleIndices) -> Iterator[Quantity]:
    if ventricle.stroke_volume_ml is not None:
        yield Quantity(_STROKE[name], ventricle.stroke_volume_ml, _ML, f"{name} stroke volume")
    if ventricle.ef_percent is not None:
        yield Quantity(_EF, ventricle.ef_percent, _PERCENT, f"{name} EF")


def _site(name: str) -> Coded:
    code, meaning = CODES[name]
    return Coded(code, "SCT", meaning)
