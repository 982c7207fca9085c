"""Measurements in a patient's masks, by the functions in `registry.REPORT_SECTIONS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import chain
from pathlib import Path

from unia_med.data.io.volume import Volume
from unia_med.registry import REPORT_SECTIONS, resolve, with_installed
from unia_med.report.cases import MaskPair
from unia_med.report.quantities import PatientFindings

Stated = Callable[[str], Mapping[str, int]]
"""From a patient's name to frame numbers that the user names, by event, such as ED."""


def nothing_stated(patient: str) -> Mapping[str, int]:
    """Return no frame.

    Args:
        patient: name.
    """
    return {}


def measured(
    patient: str, masks: Sequence[MaskPair], classes: Sequence[str], stated: Stated = nothing_stated
) -> PatientFindings:
    """Return the findings of all sections together; none of pictures.

    Args:
        patient: name.
        masks: in order of time.
        classes: names in label order.
        stated: frames that the user names.
    """
    frames = [place if pair.case.frame is None else pair.case.frame for place, pair in enumerate(masks, start=1)]
    predicted = _volumes(frames, [pair.predicted for pair in masks])
    if not predicted:
        return PatientFindings()
    true = _volumes(frames, [pair.true for pair in masks])
    return findings(patient, predicted, true, classes, None, stated)


def findings(
    patient: str,
    predicted: Mapping[int, Volume],
    true: Mapping[int, Volume],
    classes: Sequence[str],
    folder: Path | None,
    stated: Stated = nothing_stated,
) -> PatientFindings:
    """Return the findings of all sections together.

    Args:
        patient: name.
        predicted: masks by frame number.
        true: the same; may be empty.
        classes: names in label order.
        folder: of the masks, where they lie in one.
        stated: frames that the user names.
    """
    table = with_installed(REPORT_SECTIONS, "unia_med.report_sections")
    found: list[PatientFindings] = [
        resolve(table, name)(patient, predicted, true, classes, folder, stated(patient)) for name in table
    ]
    return PatientFindings(
        "".join(one.html for one in found),
        tuple(chain.from_iterable(one.quantities for one in found)),
        tuple(chain.from_iterable(one.notes for one in found)),
        {number: word for one in found for number, word in one.events.items()},
    )


def folded(patient: str, found: PatientFindings, shown: bool = False) -> str:
    """Return the findings of a patient under a line that opens them; nothing where there are none.

    Args:
        patient: name.
        found: of the patient.
        shown: open from the start, as of a single patient.
    """
    if not found.html:
        return ""
    state = " open" if shown else ""
    return f"<details{state}><summary>{escape(patient)}: all measurements</summary>{found.html}</details>"


def _volumes(frames: Sequence[int], volumes: Sequence[Volume | None]) -> dict[int, Volume]:
    return {number: volume for number, volume in zip(frames, volumes, strict=True) if volume is not None}
