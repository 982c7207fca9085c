"""The first screen of a report: how good, on which data, which cases to look at, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from unia_med.config.data import SYNTHETIC
from unia_med.config.schema import RunConfig
from unia_med.metrics.table import summarise
from unia_med.names import number_of
from unia_med.report.cases import Examination
from unia_med.report.flags import FAR_MM, LOW_DICE, Flagged
from unia_med.report.quantities import Quantity

PARTS = {"train": "training", "val": "validation", "test": "test"}
FEW = 5
"""Classes that are named one by one in a title."""
SHOWN_ROWS = 25
"""Patients before the fold."""


def data_sentence(config: RunConfig, done: Examination | None) -> str:
    """Say what data these are; HTML.

    Args:
        config: of the run.
        done: examined cases, or None.
    """
    where = escape(f"{config.data.name}, folder {config.data.root.name}" if config.data.root else config.data.name)
    if done is None:
        made_up = config.data.name == SYNTHETIC
        return f"<p>{_SYNTHETIC}</p>" if made_up else f"<p>Data: {where}.</p>"
    patients = len(set(done.patients.values()))
    counted = f"{number_of(len(done.scores), 'volume')} of {number_of(patients, f'{PARTS[done.part]} patient')}"
    if done.counted is not None:
        counted = f"{len(done.scores)} {PARTS[done.part]} picture{'s' * (len(done.scores) != 1)}"
    words = f"<p>Predicted and compared with their masks: {counted} of the data set {where}.</p>"
    return (f"<p>{_SYNTHETIC}</p>" if done.synthetic else "") + words


_SYNTHETIC = "<strong>Synthetic data:</strong> these images were made by a computer and show no patient."


def figures(done: Examination, classes: Sequence[str], flags: Sequence[Flagged]) -> str:
    """Return the numbers a reader asks for first, as tiles.

    Args:
        done: scored cases.
        classes: names in label order.
        flags: cases to look at.
    """
    means = summarise(classes, done.scores)["mean"]["dice"]
    scored = sorted((value, name) for name in classes if (value := means[name]) is not None)
    order = [name for _, name in scored[:FEW]] if len(classes) > FEW else classes
    each = ", ".join(f"{name} {_number(means[name], 3)}" for name in order)
    tiles = [("Mean Dice", _number(means["mean"], 3), f"lowest: {each}" if len(classes) > FEW else each)]
    for name, numbers in columns(done).items():
        errors = [error for one in numbers if (error := one.error) is not None]
        if errors:
            unit = "points" if numbers[0].unit == "%" else numbers[0].unit
            found = f"{np.mean(np.abs(errors)):.1f} {unit}"
            tiles.append((f"{name}, mean error", found, f"bias {np.mean(errors):+.1f} {unit}"))
    cases = {one.patient for one in flags}
    whose = "Patients" if done.counted is None else "Pictures"
    tiles.append((f"{whose} to look at", str(len(cases)), f"of {len(set(done.patients.values()))}, listed below"))
    return f'<dl class="tiles">{"".join(_tile(*tile) for tile in tiles)}</dl>'


def columns(done: Examination) -> dict[str, list[Quantity]]:
    """Return the quantities of all patients by name.

    Args:
        done: with findings.
    """
    found: dict[str, list[Quantity]] = {}
    for findings in done.findings.values():
        for one in findings.quantities:
            found.setdefault(one.name, []).append(one)
    return found


def flag_section(flags: Sequence[Flagged], done: Examination, shown: Sequence[str]) -> str:
    """Return the cases to look at, each with its reasons.

    Args:
        flags: worst first.
        done: scored cases.
        shown: patients that the viewer has.
    """
    rule = (
        f"<p>Listed are cases with a class that is missed or invented, has a Dice below {LOW_DICE:g} or a border more "
        f"than {FAR_MM:g} mm off (HD95), cases of which the network is unsure, and patients whose measurements are "
        "unusual or far from those of the true masks; worst first. The limits are choices, not norms.</p>"
    )
    if not flags:
        return f"{rule}<p>No case stands out.</p>"
    items = "".join(
        f'<li><span aria-hidden="true">⚑</span> <strong>{escape(one.name)}</strong>: {escape("; ".join(one.reasons))}'
        f"{link(one.patient, one.name if one.case else '', shown)}</li>"
        for one in flags
    )
    return f'{rule}<ol class="flags">{items}</ol>'


def link(patient: str, case: str, shown: Sequence[str]) -> str:
    """Return a link into the viewer; nothing where it does not have the patient.

    Args:
        patient: name.
        case: name, or empty for the first of the patient.
        shown: patients that the viewer has.
    """
    if patient not in shown:
        return ""
    place = f'data-patient="{shown.index(patient)}" data-case="{escape(case, quote=True)}"'
    return f' <a href="#viewer" {place} aria-label="view {escape(case or patient, quote=True)}">view</a>'


def measurement_table(done: Examination, shown: Sequence[str]) -> str:
    """Return every patient's quantities with their errors; empty where nothing was measured.

    Args:
        done: with findings.
        shown: patients that the viewer has.
    """
    found = columns(done)
    if not found:
        return ""
    names = list(found)
    head = "".join(f'<th scope="col">{escape(name)}, {found[name][0].unit}</th>' for name in names)
    order = list(dict.fromkeys(done.patients[one.case] for one in done.scores))
    rows = [_row(name, done, names, shown) for name in order if done.findings[name].quantities]
    body = _mean_rows(found) + "".join(rows[:SHOWN_ROWS])
    table = _scroll("Measurements of all patients", head, body)
    rest = rows[SHOWN_ROWS:]
    folded = _scroll("Measurements of further patients", head, "".join(rest))
    more = f"<details><summary>{len(rest)} more patients</summary>{folded}</details>" if rest else ""
    words = "Of the predicted masks of every patient; behind each number its error, predicted minus true masks."
    return f"<p>{words} ⚑ marks errors that need a second look.</p>{table}{more}"


def _row(patient: str, done: Examination, names: Sequence[str], shown: Sequence[str]) -> str:
    known = {one.name: one for one in done.findings[patient].quantities}
    cells = "".join(_cell(known.get(name)) for name in names)
    return f'<tr><th scope="row">{escape(patient)}{link(patient, "", shown)}</th>{cells}</tr>'


def _cell(one: Quantity | None) -> str:
    if one is None or one.found is None:
        return "<td>–</td>"
    flag = " ⚑" if one.too_far else ""
    small = "" if one.error is None else f" <small>{one.error:+.1f}{flag}</small>"
    return f"<td>{one.found:.1f}{small}</td>"


def _mean_rows(found: dict[str, list[Quantity]]) -> str:
    errors = {name: [e for one in numbers if (e := one.error) is not None] for name, numbers in found.items()}
    sizes = "".join(f"<td>{_number(np.mean(np.abs(v)) if v else None, 1)}</td>" for v in errors.values())
    biases = "".join(f"<td>{_number(np.mean(v) if v else None, 1, '+')}</td>" for v in errors.values())
    counts = max(map(len, errors.values()))
    return (
        f'<tr class="mean"><th scope="row">mean error of {counts}</th>{sizes}</tr>'
        f'<tr class="mean"><th scope="row">bias</th>{biases}</tr>'
    )


def _scroll(caption: str, head: str, body: str) -> str:
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="numbers">'
        f'<thead><tr><th scope="col">patient</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _tile(term: str, value: str, note: str) -> str:
    return f"<div><dt>{escape(term)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"


def _number(value: float | np.floating | None, digits: int, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{digits}f}"
