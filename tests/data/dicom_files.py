"""Synthetic DICOM MR series, written with pydicom, whose patient has a name that must never be printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
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
        tags: further attributes, as pydicom names them; None deletes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cine = array if array.ndim == 4 else array[..., None]
    slices, frames = cine.shape[2:]
    rng = np.random.default_rng(seed)
    names = iter(rng.permutation(slices * frames))
    study, frame_of_reference = study or generate_uid(), frame_of_reference or generate_uid()
    series = [generate_uid() for _ in range(slices)] if series_per_slice else [generate_uid()] * slices
    depths = depths or [SPACING[2] * z for z in range(slices)]
    written = {}
    # Numbers fall with depth and rise with time: whoever sorts by them mirrors the stack.
    for z in range(slices):
        for t in range(frames):
            name = next(names)
            if z in skip:
                continue
            dataset = _dataset(cine[:, :, z, t].T)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series[z]
            dataset.FrameOfReferenceUID = frame_of_reference
            dataset.SeriesNumber = None if number is None else number + (z if series_per_slice else 0)
            dataset.SeriesDescription = description
            dataset.InstanceNumber = (slices - 1 - z) * frames + t + 1
            dataset.ImagePositionPatient = [f"{v:.8g}" for v in ORIGIN + depths[z] * NORMAL]
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
