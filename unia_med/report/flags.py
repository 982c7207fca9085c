"""Which cases a reader should look at, and why: by worst class, distance, uncertainty, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from unia_med.inference.records import DOUBTFUL
from unia_med.metrics.table import CaseScores
from unia_med.report.cases import Examination
from unia_med.report.quantities import PatientFindings

LOW_DICE = 0.7
"""Dice of a class below which a case is flagged: a choice, about what readers of small structures reach."""
FAR_MM = 20.0
"""HD95 of a class above which a case is flagged: two slices of a short-axis stack."""


class Flagged(NamedTuple):
    """One case, or what was measured over all cases of a patient.

    Attributes:
        name: of the case, or of the patient.
        patient: name.
        case: whether `name` is a case.
        reasons: at least one.
    """

    name: str
    patient: str
    case: bool
    reasons: tuple[str, ...]


def flagged(done: Examination, classes: Sequence[str]) -> list[Flagged]:
    """Return cases with reasons to look at them, worst first, then patients whose measurements are odd.

    Args:
        done: scored cases.
        classes: names in label order.
    """
    cases = [
        Flagged(one.case, done.patients[one.case], True, tuple(_case_reasons(one, done.doubts.get(one.case), classes)))
        for one in done.scores
    ]
    order = dict.fromkeys(done.patients[one.case] for one in done.scores)
    patients = [
        Flagged(name, name, False, tuple(_patient_reasons(done.findings[name])))
        for name in order
        if name in done.findings
    ]
    return [one for one in (*cases, *patients) if one.reasons]


def _case_reasons(scores: CaseScores, doubt: float | None, classes: Sequence[str]) -> Iterator[str]:
    for name in classes:
        value, distance = scores.dice[name], scores.hd95[name]
        if scores.failed(name):
            yield f"{name} missed or invented"
        elif value is not None and value < LOW_DICE:
            yield f"{name} Dice {value:.2f}"
        if distance is not None and scores.unit == "mm" and distance > FAR_MM:
            yield f"{name} border {distance:.0f} mm off"
    if doubt is not None and doubt > DOUBTFUL:
        yield f"the network is unsure (mean uncertainty {doubt:.2f})"


def _patient_reasons(findings: PatientFindings) -> Iterator[str]:
    yield from findings.notes
    for one in findings.quantities:
        if one.too_far and one.error is not None:
            side = "high" if one.error > 0 else "low"
            unit = "points" if one.unit == "%" else one.unit
            yield f"{one.name} {abs(one.error):.0f} {unit} too {side}"
