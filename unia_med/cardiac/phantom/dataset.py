"""Writes synthetic patients as a data set in the layout of the ACDC challenge."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from unia_med.cardiac.phantom.patients import GROUPS, Patient, draw_patient
from unia_med.cardiac.phantom.render import frame_image, frame_labels, surroundings
from unia_med.errors import UserError
from unia_med.files import filled_folder
from unia_med.progress import tracked

MAX_PATIENTS = 999  # three digits in ACDC's names
_DESCRIPTION = b"synthetic heart, unia-med phantom"  # so that nobody takes a file for that of a patient


def patient_of(seed: int, index: int, frames: int = 0) -> Patient:
    """Patient `index` (from 0) of the data set with `seed`; the groups rotate over the patients."""
    return draw_patient(GROUPS[index % len(GROUPS)], seed, index, frames)


def _save(array: np.ndarray, spacing: tuple[float, ...], path: Path) -> None:
    image = nibabel.Nifti1Image(array, np.diag([*spacing[:3], 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms(spacing)
    image.header["descrip"] = _DESCRIPTION
    nibabel.save(image, path)


def _write_info(patient: Patient, folder: Path) -> None:
    lines = (
        "ED: 1",
        f"ES: {patient.es_frame}",
        f"Group: {patient.group}",
        f"Height: {patient.height_cm}",
        f"NbFrame: {patient.frames}",
        f"Weight: {patient.weight_kg}",
    )
    (folder / "Info.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_patient(patient: Patient, folder: Path, cine: bool = False) -> None:
    """Write `Info.cfg`, image and mask of ED and ES, and with `cine` the whole beat in 4D, into an existing folder."""
    _write_info(patient, folder)
    chest = surroundings(patient)
    wanted = range(1, patient.frames + 1) if cine else (1, patient.es_frame)
    images = {frame: frame_image(patient, frame, chest) for frame in wanted}
    for frame in (1, patient.es_frame):
        stem = f"{folder.name}_frame{frame:02d}"
        _save(images[frame], patient.scan.spacing_mm, folder / f"{stem}.nii.gz")
        _save(frame_labels(patient, frame), patient.scan.spacing_mm, folder / f"{stem}_gt.nii.gz")
    if cine:
        seconds = 0.9 / patient.frames
        beat = np.stack([images[frame] for frame in wanted], axis=-1)
        _save(beat, (*patient.scan.spacing_mm, seconds), folder / f"{folder.name}_4d.nii.gz")


def _check(patients: int, seed: int, cine_frames: int) -> None:
    if not 1 <= patients <= MAX_PATIENTS:
        raise UserError(f"cannot write {patients} patients", remedy=f"ask for 1 to {MAX_PATIENTS}")
    if seed < 0:
        raise UserError(f"the seed {seed} is negative", remedy="use 0 or a positive whole number")
    if cine_frames != 0 and not 2 <= cine_frames <= 99:
        raise UserError(f"cannot write a beat of {cine_frames} frames", remedy="use 0 for none, or 2 to 99")


def write_dataset(output: Path, patients: int = 20, seed: int = 0, cine_frames: int = 0) -> list[Path]:
    """Write a synthetic data set in ACDC layout and return the patients' folders.

    They appear when every one is complete.

    Args:
        output: A new or an empty folder.
        patients: How many, 1 to 999. Patient i is the same for any number.
        seed: Seed of the data set.
        cine_frames: Frames of an additional 4D file per patient; 0 writes none.
    """
    output = Path(output)
    _check(patients, seed, cine_frames)
    with filled_folder(output) as staging:
        for index in tracked(range(patients), "writing patients", patients):
            folder = staging / f"patient{index + 1:03d}"
            folder.mkdir()
            write_patient(patient_of(seed, index, cine_frames), folder, cine=cine_frames > 0)
    return sorted(output.iterdir())
