"""Synthetic DICOM MR series, written with pydicom, whose patient has a name that must never be printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SECRETS = ("DOE^JANE", "SECRET-4711", "19470203", "19991231", "Dr^Hidden")
"""Name, number, birth date, study date, physician."""

ROW, COLUMN = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, 0.8])
"""Oblique directions of rising columns and of rising rows, LPS."""

NORMAL = np.cross(ROW, COLUMN)
ORIGIN = np.array([-31.5, 12.25, 40.75])
SPACING = (1.4, 1.25, 9.0)
"""mm between rows, between columns, between slices."""

MR = "1.2.840.10008.5.1.4.1.1.4"


def write_series(
    folder: Path,
    array: np.ndarray,
    *,
    timing: str = "trigger",
    step_ms: float = 30.0,
    slope: float | None = None,
    intercept: float = 0.0,
    number: int | None = 3,
    description: str = "cine_sa",
    depths: list[float] | None = None,
    skip: tuple[int, ...] = (),
    series_per_slice: bool = False,
    study: str | None = None,
    frame_of_reference: str | None = None,
    seed: int = 0,
    plane: tuple[np.ndarray, np.ndarray] = (ROW, COLUMN),
    origin: np.ndarray = ORIGIN,
    gap_mm: float = SPACING[2],
    per_series: int = 1,
    **tags: object,
) -> dict[tuple[int, int], Path]:
    """Write (X, Y, Z) or (X, Y, Z, T) as shuffled files without suffix; returns the files by slice and frame.

    Args:
        folder: made when missing.
        array: integers of 16 bits, stored as they are.
        timing: `trigger`, `temporal` or `number`: what orders the phases.
        step_ms: between phases.
        slope: rescale slope, with `intercept`; None writes neither.
        number: series number.
        description: series description.
        depths: of the slices along the normal, mm; evenly spaced by default.
        skip: slices that are not written.
        series_per_slice: each slice is a series of its own.
        study: Study Instance UID.
        frame_of_reference: its UID.
        seed: shuffles the names.
        plane: directions of rising columns and rising rows, LPS.
        origin: of the first slice, LPS mm.
        gap_mm: from slice to slice.
        per_series: slices in each series, with `series_per_slice`.
        tags: further attributes, as pydicom names them; None deletes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cine = array if array.ndim == 4 else array[..., None]
    slices, frames = cine.shape[2:]
    rng = np.random.default_rng(seed)
    names = iter(rng.permutation(slices * frames))
    study, frame_of_reference = study or generate_uid(), frame_of_reference or generate_uid()
    series = [generate_uid() for _ in range(slices)] if series_per_slice else [generate_uid()] * slices
    depths = depths or [gap_mm * z for z in range(slices)]
    normal = np.cross(*plane)
    written = {}
    # Numbers fall with depth and rise with time: whoever sorts by them mirrors the stack.
    for z in range(slices):
        for t in range(frames):
            name = next(names)
            if z in skip:
                continue
            dataset = _dataset(cine[:, :, z, t].T)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series[z // per_series]
            dataset.FrameOfReferenceUID = frame_of_reference
            dataset.SeriesNumber = None if number is None else number + (z // per_series if series_per_slice else 0)
            dataset.SeriesDescription = description
            dataset.InstanceNumber = (slices - 1 - z) * frames + t + 1
            dataset.ImagePositionPatient = [f"{v:.8g}" for v in origin + depths[z] * normal]
            dataset.ImageOrientationPatient = [f"{v:.8g}" for v in (*plane[0], *plane[1])]
            if array.ndim == 4 and timing == "trigger":
                dataset.TriggerTime = t * step_ms
            if array.ndim == 4 and timing == "temporal":
                dataset.TemporalPositionIdentifier, dataset.TemporalResolution = t + 1, step_ms
            if slope is not None:
                dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "US"
            for tag, value in tags.items():
                if value is None:
                    delattr(dataset, tag)
                else:
                    setattr(dataset, tag, value)
            path = folder / f"IM{name:05d}"
            dataset.save_as(path, enforce_file_format=True)
            written[z, t] = path
    return written


def write_enhanced(folder: Path, array: np.ndarray, *, file_per_slice: bool = False, seed: int = 3) -> None:
    """Write (X, Y, Z, T) as one enhanced MR object, or one per slice in a series each, frames in an order of their own.

    Args:
        folder: made when missing.
        array: integers of 16 bits, stored as they are; slope 2 and intercept 5 are stated.
        file_per_slice: as some scanners do.
        seed: shuffles the frames.
    """
    study, frame_of_reference = generate_uid(), generate_uid()
    for number in range(array.shape[2] if file_per_slice else 1):
        dataset = _dataset(array[:, :, 0, 0].T)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
        slices = [number] if file_per_slice else range(array.shape[2])
        order = np.random.default_rng(seed).permutation([(z, t) for z in slices for t in range(array.shape[3])])
        plane, measures, shared = Dataset(), Dataset(), Dataset()
        plane.ImageOrientationPatient, measures.PixelSpacing = dataset.ImageOrientationPatient, dataset.PixelSpacing
        measures.SliceThickness = 8
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
        for name in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            delattr(dataset, name)
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = [_functional_groups(z, t) for z, t in order]
        dataset.NumberOfFrames, dataset.InstanceNumber = len(order), 1
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, frame_of_reference
        dataset.SeriesInstanceUID, dataset.SeriesNumber = generate_uid(), 3 + number
        dataset.PixelData = b"".join(np.ascontiguousarray(array[:, :, z, t].T).tobytes() for z, t in order)
        folder.mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / f"E{number}", enforce_file_format=True)


def _functional_groups(z: int, t: int) -> Dataset:
    """Those of one frame of an enhanced object: place, time, scale."""
    item, place, heart, scale = Dataset(), Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = [f"{v:.8g}" for v in ORIGIN + SPACING[2] * z * NORMAL]
    heart.NominalCardiacTriggerDelayTime = 25.0 * t
    scale.RescaleSlope, scale.RescaleIntercept = 2, 5
    item.PlanePositionSequence, item.CardiacSynchronizationSequence = [place], [heart]
    item.PixelValueTransformationSequence = [scale]
    return item


def plane_of(normal: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Directions of columns and rows of a plane with a normal, right-handed.

    Args:
        normal: LPS, of any length.
    """
    unit = np.asarray(normal, float) / np.linalg.norm(normal)
    row = np.cross((0.0, 0.0, 1.0) if abs(unit[2]) < 0.9 else (0.0, 1.0, 0.0), unit)
    row /= np.linalg.norm(row)
    return row, np.cross(unit, row)


SHORT_AXIS = (0.70, -0.48, -0.53)
"""Normal of a short-axis plane as scanners export it, LPS."""


def write_study(folder: Path, cine: np.ndarray, *, per_series: int | None = 1, study: str | None = None) -> str:
    """Write an exported heart study round a short-axis cine, and return its Study Instance UID.

    Localisers in three planes (1), two and four chamber cines (2, 3), a breath-hold of the short axis (from 10 on), its
    tagging (60), late enhancement on the places of the cine (70), three slices of perfusion (80), a CT scout (90).

    Args:
        folder: made when missing.
        cine: (X, Y, Z, T), at least 5 slices.
        per_series: slices in each series of the cine; None for one series.
        study: its UID.
    """
    study, frame, noise = study or generate_uid(), generate_uid(), np.random.default_rng(5)
    shared = {"study": study, "frame_of_reference": frame}
    axis = {"plane": plane_of(SHORT_AXIS), "origin": np.array([-60.0, -80.0, 40.0])}
    small = noise.integers(0, 900, (24, 24, 6, 12)).astype(np.uint16)
    scout = dict(shared, series_per_slice=False, number=1, SeriesInstanceUID=generate_uid(), description="loc")
    for normal in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        write_series(folder / f"loc{normal}", small[:, :, :3, 0], plane=plane_of(normal), gap_mm=20.0, **scout)
    across = np.cross(SHORT_AXIS, (0.0, 0.0, 1.0))
    steady = {"SequenceVariant": ["SK", "SS"]}
    for number, normal in ((2, across), (3, np.cross(SHORT_AXIS, across))):
        plane = plane_of(normal)
        write_series(folder / f"long{number}", small[:, :, :1], plane=plane, number=number, **shared, **steady)
    blocks = {} if per_series is None else {"series_per_slice": True, "per_series": per_series}
    write_series(folder / "a", cine, number=10, **shared, **axis, **blocks, **steady)
    tagging = {"SequenceVariant": ["SK", "SP"], "EchoTime": 4.0}
    write_series(folder / "t", small[:, :, :6], number=60, description="t", **shared, **axis, **tagging)
    write_series(folder / "le", cine[..., 0], number=70, description="le", InversionTime=280.0, **shared, **axis)
    write_series(folder / "p", small[:, :, :3], number=80, description="p", gap_mm=20.0, **shared, **axis)
    write_series(folder / "ct", small[:, :, :6, 0], number=90, Modality="CT", **shared, **axis)
    return study


def true_affine() -> np.ndarray:
    """RAS affine of what `write_series` writes, by the standard's formula."""
    lps = np.eye(4)
    lps[:3] = np.stack((ROW * SPACING[1], COLUMN * SPACING[0], NORMAL * SPACING[2], ORIGIN), axis=1)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def _dataset(pixels: np.ndarray) -> pydicom.Dataset:
    """An MR image with a patient, without its place."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MR, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = MR, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.StudyDate = SECRETS[:4]
    dataset.ReferringPhysicianName, dataset.PatientSex, dataset.StudyTime = SECRETS[4], "F", "101112"
    dataset.AccessionNumber, dataset.StudyID, dataset.Modality, dataset.Manufacturer = "", "1", "MR", "nobody"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    dataset.ImageOrientationPatient = [f"{v:.8g}" for v in (*ROW, *COLUMN)]
    dataset.PixelSpacing, dataset.SliceThickness = list(SPACING[:2]), 8.0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    return dataset
