"""A page about masks that `predict` wrote: where they are from, what was measured, which to look at, and a viewer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from unia_med.data.io.frames import FrameSource, iterate_frames, open_volume
from unia_med.data.io.image import read_mask, read_picture
from unia_med.data.io.orientation import orient, orient_array
from unia_med.data.io.read import read_volume
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import Volume
from unia_med.files import read_rows, write_text
from unia_med.inference.records import SUMMARY, read_case_record
from unia_med.inference.results import result_files
from unia_med.names import without_apostrophe
from unia_med.report.measured import Stated, findings, folded, nothing_stated
from unia_med.report.page import assemble, viewer
from unia_med.report.quantities import PatientFindings
from unia_med.report.volumes import ENTROPY, PAGE_BYTES, PREDICTION, Layers, pack, picture_layers

MOST_PATIENTS = 6
"""In the viewer; those that a person should look at come first."""

_FRAME = re.compile(r"(?P<patient>.+)_frame(?P<number>\d+)$")
Patient = dict[int, tuple[str, FrameSource]]
"""Name and image of a patient's files by frame number."""


def report_masks(
    folder: Path,
    images: Mapping[str, Any],
    classes: Sequence[str],
    output: Path,
    stated: Stated = nothing_stated,
    title: str = "",
) -> list[str]:
    """Write the page, and return the patients on it; none where there is nothing to show.

    Args:
        folder: of the masks and their records.
        images: paths or DICOM series by the names of their results; others are passed over.
        classes: of the labels 1, 2, 3, ...
        output: the page.
        stated: frames that the user names.
        title: of the page; empty: made from classes and patients.
    """
    rows = _rows(folder)
    patients = _patients(folder, images)
    if not patients:
        return []
    doubtful = {name for name, row in rows.items() if row.get("review") == "1"}
    order = sorted(patients, key=lambda name: not any(case in doubtful for case, _ in patients[name].values()))
    shown = order[:MOST_PATIENTS]
    masks = {name: _masks(folder, patients[name]) for name in order}
    found = {
        name: findings(name, masks[name], {}, classes, folder, stated) if masks[name] else PatientFindings()
        for name in order
    }
    bodies = {
        "summary": _summary(folder, [case for name in order for case, _ in patients[name].values()], found),
        "flags": _flags(order, patients, doubtful, found),
        "measurements": "".join(folded(name, found[name], len(order) == 1) for name in order),
    }
    volumes = [
        pack(name, _layers(folder, patients[name], found[name].events), PAGE_BYTES // len(shown)) for name in shown
    ]
    bodies["viewer"] = viewer(volumes, "Patients that a person should look at come first.")
    write_text(output, assemble(title or _title(order, classes), "Predicted masks.", bodies, classes, volumes))
    return order


def _title(patients: Sequence[str], classes: Sequence[str]) -> str:
    where = patients[0] if len(patients) == 1 else f"{len(patients)} scans"
    return f"{', '.join(classes)} in {where}"


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / SUMMARY
    if not path.is_file():
        return {}
    return {without_apostrophe(row["case"]): row for row in read_rows(path, "case")}


def _patients(folder: Path, images: Mapping[str, Any]) -> dict[str, Patient]:
    """Patients that have masks, by name; files `X_frameNN` are frames of X."""
    found: dict[str, Patient] = {}
    for name, image in images.items():
        path = image if isinstance(image, Path) else getattr(image, "path", None)
        mask = result_files(folder, name, False, path)["labels"]
        if path is None or not mask.is_file():
            continue
        match = _FRAME.fullmatch(name)
        patient, number = (match["patient"], int(match["number"])) if match else (name, 1)
        found.setdefault(patient, {})[number] = name, _opened(image) if isinstance(image, Path) else image
    return {patient: dict(sorted(files.items())) for patient, files in found.items()}


def _opened(path: Path) -> FrameSource:
    return read_picture(path) if is_image(path) else open_volume(path)


def _picture_of(image: FrameSource) -> Volume | None:
    """Return an image that is a picture, without millimetres; else None."""
    return image if isinstance(image, Volume) and image.path is not None and is_image(image.path) else None


def _masks(folder: Path, patient: Patient) -> dict[int, Volume]:
    """Masks (X, Y, Z) by frame number; none of pictures, in which nothing is measured."""
    frames: dict[int, Volume] = {}
    for number, (name, image) in patient.items():
        if _picture_of(image) is not None:
            continue
        mask = read_volume(result_files(folder, name, False)["labels"])
        for index in range(mask.frames):
            frames[number + index] = mask.frame(index)
    return frames


def _layers(folder: Path, patient: Patient, events: Mapping[int, str]) -> list[Layers]:
    """Return what can be looked at of each frame; frames of another shape than the first are left out."""
    frames = list(
        chain.from_iterable(_frames(folder, name, image, number, events) for number, (name, image) in patient.items())
    )
    return [frame for frame in frames if frame.image.shape == frames[0].image.shape]


def _frames(folder: Path, name: str, image: FrameSource, number: int, events: Mapping[int, str]) -> Iterator[Layers]:
    if (picture := _picture_of(image)) is not None:
        yield _picture_frame(folder, name, picture)
        return
    files = result_files(folder, name, True)
    mask = read_volume(files["labels"])
    doubt = read_volume(files["uncertainty"]) if files["uncertainty"].is_file() else None
    for index, frame in enumerate(iterate_frames(image)):
        volume = frame.channel(0)
        maps = {} if doubt is None else {ENTROPY: _as_stored(doubt.frame(index).array, volume)}
        shown = orient(volume, "stored")
        event = events.get(number + index, "")
        yield Layers(
            f"frame {number + index}" + (f", {event}" if event else ""),
            shown.array,
            {PREDICTION: _as_stored(mask.frame(index).array, volume).astype(np.uint8)},
            maps,
            shown.spacing_mm,
            nibabel.aff2axcodes(shown.affine),
            shown.affine,
            kept=bool(event),
        )


def _picture_frame(folder: Path, name: str, picture: Volume) -> Layers:
    files = result_files(folder, name, True, picture.path)
    doubt = files["uncertainty"]
    maps = {ENTROPY: read_picture(doubt).array.astype(np.float32) / 255} if doubt.is_file() else {}
    return picture_layers(name, picture, {PREDICTION: read_mask(files["labels"]).array}, maps)


def _as_stored(array: np.ndarray, volume: Volume) -> np.ndarray:
    return orient_array(array, volume.affine, "stored")


def _summary(folder: Path, cases: Sequence[str], by_patient: Mapping[str, PatientFindings]) -> str:
    """Return a row of numbers per patient, and where each mask is from."""
    names = list(dict.fromkeys(one.name for found in by_patient.values() for one in found.quantities))
    units = {one.name: one.unit for found in by_patient.values() for one in found.quantities}
    head = "".join(f'<th scope="col">{escape(name)}, {units[name]}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(patient)}</th>{_cells(found, names)}</tr>'
        for patient, found in by_patient.items()
    )
    head = f'<thead><tr><th scope="col">patient</th>{head}</tr></thead>'
    table = f'<table class="numbers">{head}<tbody>{body}</tbody></table>'
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="Measurements of all patients">{table}</div>'
    return (scroll if names else "") + "".join(_origin(folder, case) for case in cases)


def _cells(found: PatientFindings, names: Sequence[str]) -> str:
    known = {one.name: one.found for one in found.quantities}
    values = (known.get(name) for name in names)
    return "".join(f"<td>{'–' if value is None else f'{value:.1f}'}</td>" for value in values)


def _origin(folder: Path, case: str) -> str:
    """Return what the record of a case says of its model and source."""
    record = read_case_record(folder, case)
    source = _together([str(text) for text in record.get("sources", ())])
    said = "".join(f'<p class="note">{escape(str(text))}</p>' for text in record.get("warnings", ()))
    return f"<p>{escape(case)}: model {escape(str(record.get('model', '?')))}, {escape(source or 'image')}.</p>{said}"


def _together(sources: Sequence[str]) -> str:
    """Return sources in a line; what all begin with, such as "DICOM series", once."""
    heads = {text.rpartition(" ")[0] for text in sources}
    if len(sources) > 1 and len(heads) == 1 and (head := heads.pop()):
        return f"{head} {', '.join(text.rpartition(' ')[2] for text in sources)}"
    return ", ".join(sources)


def _flags(
    order: Sequence[str], patients: Mapping[str, Patient], doubtful: set[str], by_patient: Mapping[str, PatientFindings]
) -> str:
    reasons = {
        name: [
            *(f"{case}: the network is unsure" for case, _ in patients[name].values() if case in doubtful),
            *by_patient[name].notes,
        ]
        for name in order
    }
    items = "".join(
        f'<li><span aria-hidden="true">⚑</span> <strong>{escape(name)}</strong>: {escape("; ".join(some))}</li>'
        for name, some in reasons.items()
        if some
    )
    return f'<ol class="flags">{items}</ol>' if items else "<p>No case stands out.</p>"
