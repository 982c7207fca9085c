"""Measurements in a patient's masks, by the functions in `registry.REPORT_SECTIONS`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from unia_med.data.io.volume import Volume
from unia_med.registry import REPORT_SECTIONS, resolve, with_installed
from unia_med.report.cases import MaskPair
from unia_med.report.quantities import PatientFindings


def measured(patient: str, masks: Sequence[MaskPair], classes: Sequence[str]) -> PatientFindings:
    """Return the findings of all sections together; none of pictures.

    Args:
        patient: name.
        masks: in order of time.
        classes: names in label order.
    """
    frames = [place if pair.case.frame is None else pair.case.frame for place, pair in enumerate(masks, start=1)]
    predicted = _volumes(frames, [pair.predicted for pair in masks])
    if not predicted:
        return PatientFindings()
    true = _volumes(frames, [pair.true for pair in masks])
    table = with_installed(REPORT_SECTIONS, "unia_med.report_sections")
    found: list[PatientFindings] = [resolve(table, name)(patient, predicted, true, classes) for name in table]
    return PatientFindings(
        "".join(one.html for one in found),
        tuple(chain.from_iterable(one.quantities for one in found)),
        tuple(chain.from_iterable(one.notes for one in found)),
    )


def _volumes(frames: Sequence[int], volumes: Sequence[Volume | None]) -> dict[int, Volume]:
    return {number: volume for number, volume in zip(frames, volumes, strict=True) if volume is not None}
