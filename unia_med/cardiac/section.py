"""The heart's part of a report: indices of a patient, the volume curve and the bull's eye as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from unia_med.cardiac.bulls_eye import bulls_eye, common_limits
from unia_med.cardiac.cases import NOTHING_STATED
from unia_med.cardiac.indices import FOUND, CardiacIndices, PhaseChoice, measure
from unia_med.cardiac.plausible import refuse_impossible, unusual
from unia_med.cardiac.table import phases_in_table
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.report.plots import colour_of, line_chart
from unia_med.report.quantities import PatientFindings, Quantity

_PARTS = ("LV", "MYO", "RV")
_LEGEND = (
    "Wall at {}, mm <small>base outside, apex in the middle; anterior above, septum on the left; pale {:.1f} to dark "
    "{:.1f} mm</small>"
)
_FEW_FRAMES = 3  # from which on a curve says more than two numbers
_TOLERANCES = {"LV EF": 10.0, "RV EF": 15.0}
"""Errors that need no second look, in the quantity's unit: a choice, wider than readers of the same images differ."""


def heart_section(
    patient: str,
    predicted: Mapping[int, Volume],
    true: Mapping[int, Volume],
    classes: Sequence[str],
    folder: Path | None = None,
    stated: Mapping[str, int] = NOTHING_STATED,
) -> PatientFindings:
    """Return a patient's indices; nothing where the classes hold no left ventricle.

    Args:
        patient: title.
        predicted: label volumes (X, Y, Z), values 1, 2, 3, ... in the order of `classes`, by frame number.
        true: the same of true masks; may be empty.
        classes: names without background.
        folder: of the masks; `indices.csv` in it, as `unia-med cardiac --ed --es` writes it, says which frames are ED
            and ES.
        stated: number of the frame at "ED" and at "ES", as a reader of the page says; it wins.
    """
    values = {name.upper() if name.upper() in _PARTS else name: value for value, name in enumerate(classes, start=1)}
    if "LV" not in values:
        return PatientFindings()
    numbers = sorted(predicted)
    try:
        truth = _measured(true, values) if sorted(true) == numbers else None
    except UserError:  # a true mask without a left ventricle
        truth = None
    try:
        found = _measured(predicted, values, _choice(patient, numbers, folder, stated))
    except UserError as error:
        missing = tuple(_quantities(None, truth)) if truth is not None else ()
        return PatientFindings(f"<p>{escape(error.what)}</p>", missing, (error.what,))
    absent = (f"{phase} is said to be frame {n}, which is not here" for phase, n in stated.items() if n not in numbers)
    strange = (*absent, *unusual(found))
    notes = "".join(f'<p class="note">Look again: {escape(text)}.</p>' for text in strange)
    parts = (_table(found, truth, numbers), notes, _charts(patient, found, truth, numbers, classes))
    events = {numbers[index]: phase for phase, index in _phases(found).items()}
    return PatientFindings("".join(parts), tuple(_quantities(found, truth)), strange, events)


def _phases(found: CardiacIndices) -> dict[str, int]:
    """Return the index of ED and, of several frames, ES."""
    systole = found.phases.systole
    return {"ED": found.phases.diastole} | ({} if systole is None else {"ES": systole})


def _choice(patient: str, numbers: Sequence[int], folder: Path | None, stated: Mapping[str, int]) -> PhaseChoice:
    """Return the phases that are stated, else those of the table next to the masks; others are found."""
    known = {**phases_in_table(patient, folder), **stated}
    places = {phase: numbers.index(number) for phase, number in known.items() if number in numbers}
    return PhaseChoice(places.get("ED"), places.get("ES"))


def _measured(frames: Mapping[int, Volume], values: Mapping[str, int], choice: PhaseChoice = FOUND) -> CardiacIndices:
    found = measure((frames[number] for number in sorted(frames)), values, choice)
    refuse_impossible(found)
    return found


def _table(found: CardiacIndices, truth: CardiacIndices | None, numbers: Sequence[int]) -> str:
    known = {} if truth is None else dict(_rows(truth, numbers))
    rows = []
    for term, text in _rows(found, numbers):
        compared = f" (true masks: {known[term]})" if term in known else ""
        rows.append(f"<dt>{escape(term)}</dt><dd>{escape(text + compared)}</dd>")
    return f'<dl class="facts">{"".join(rows)}</dl>'


def _rows(found: CardiacIndices, numbers: Sequence[int]) -> Iterator[tuple[str, str]]:
    for phase, index in _phases(found).items():
        yield phase, f"frame {numbers[index]}"
    for name, (value, unit) in _values(found).items():
        if value is not None:
            yield name, f"{value:.1f} {unit}"


def _quantities(found: CardiacIndices | None, truth: CardiacIndices | None) -> Iterator[Quantity]:
    own, known = ({} if one is None else _values(one) for one in (found, truth))
    for name, (_, unit) in (own or known).items():
        value, true = (table[name][0] if name in table else None for table in (own, known))
        yield Quantity(name, unit, value, true, _TOLERANCES.get(name))


def _values(found: CardiacIndices) -> dict[str, tuple[float | None, str]]:
    """Return value and unit by name."""
    values: dict[str, tuple[float | None, str]] = {}
    for side, ventricle in found.ventricles.items():
        values |= {f"{side} EDV": (ventricle.edv_ml, "ml"), f"{side} ESV": (ventricle.esv_ml, "ml")}
        values[f"{side} SV"] = ventricle.stroke_volume_ml, "ml"
        values[f"{side} EF"] = ventricle.ef_percent, "%"
    values["Mass at ED"] = found.mass_g, "g"
    values["Wall at ED"] = found.wall and found.wall.mean_mm, "mm"
    return values


def _charts(
    patient: str,
    found: CardiacIndices,
    truth: CardiacIndices | None,
    numbers: Sequence[int],
    classes: Sequence[str],
) -> str:
    drawings = _curve(found, truth, numbers, classes) + _segments(patient, found)
    return f'<div class="charts">{drawings}</div>' if drawings else ""


def _curve(found: CardiacIndices, truth: CardiacIndices | None, numbers: Sequence[int], classes: Sequence[str]) -> str:
    if len(numbers) < _FEW_FRAMES:
        return ""
    curves = {name: list(zip(numbers, found.volumes_ml[name], strict=True)) for name in found.ventricles}
    if truth is not None:
        curves |= {f"{k}, true": list(zip(numbers, truth.volumes_ml[k], strict=True)) for k in truth.ventricles}
    colours = {name.upper(): colour_of(index) for index, name in enumerate(classes)}
    shown = {name: colours[name.partition(",")[0]] for name in curves}
    marks = {float(numbers[index]): phase for phase, index in _phases(found).items()}
    return line_chart("Volume of the ventricles (ml)", curves, "frame", marks=marks, colours=shown)


def _segments(patient: str, found: CardiacIndices) -> str:
    drawings = []
    limits = common_limits(found.segments_ed_mm, found.segments_es_mm)
    for phase, values in (("ED", found.segments_ed_mm), ("ES", found.segments_es_mm)):
        if values is not None:
            title = f"Wall thickness of {patient} at {phase} in the 17 segments, mm"
            caption = _LEGEND.format(phase, *limits)
            drawings.append(f"<figure>{bulls_eye(values, title, limits)}<figcaption>{caption}</figcaption></figure>")
    return "".join(drawings)
