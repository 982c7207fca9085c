"""The heart's part of a report: indices, the volume curve and the bull's eye of a patient, as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from unia_med.cardiac.bulls_eye import bulls_eye
from unia_med.cardiac.indices import CardiacIndices, measure
from unia_med.cardiac.plausible import refuse_impossible, unusual
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.report.plots import line_chart

_PARTS = ("LV", "MYO", "RV")
_FEW_FRAMES = 3  # from which on a curve says more than two numbers


def heart_section(
    patient: str, predicted: Mapping[int, Volume], true: Mapping[int, Volume], classes: Sequence[str]
) -> str:
    """Return HTML with a patient's indices; empty where the classes hold no left ventricle.

    Args:
        patient: title.
        predicted: label volumes (X, Y, Z), values 1, 2, 3, ... in the order of `classes`, by frame number.
        true: the same of true masks; may be empty.
        classes: names without background.
    """
    values = {name.upper() if name.upper() in _PARTS else name: value for value, name in enumerate(classes, start=1)}
    if "LV" not in values:
        return ""
    try:
        found = _measured(predicted, values)
    except UserError as error:
        return f"<h3>{escape(patient)}</h3><p>{escape(error.what)}</p>"
    numbers = sorted(predicted)
    try:
        truth = _measured(true, values) if sorted(true) == numbers else None
    except UserError:  # a true mask without a left ventricle
        truth = None
    notes = "".join(f'<p class="note">Look again: {escape(text)}.</p>' for text in unusual(found))
    parts = (_table(found, truth, numbers), notes, _curve(found, truth, numbers), _segments(patient, found))
    return f"<h3>{escape(patient)}</h3>{''.join(parts)}"


def _measured(frames: Mapping[int, Volume], values: Mapping[str, int]) -> CardiacIndices:
    found = measure((frames[number] for number in sorted(frames)), values)
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
    systole = found.phases.systole
    yield "ED", f"frame {numbers[found.phases.diastole]}"
    if systole is not None:
        yield "ES", f"frame {numbers[systole]}"
    values: list[tuple[str, float | None, str]] = []
    for side, ventricle in found.ventricles.items():
        values += [(f"{side} EDV", ventricle.edv_ml, "ml"), (f"{side} ESV", ventricle.esv_ml, "ml")]
        values += [(f"{side} EF", ventricle.ef_percent, "%")]
    values += [
        ("Myocardial mass at ED", found.mass_g, "g"),
        ("Mean wall at ED", found.wall and found.wall.mean_mm, "mm"),
    ]
    yield from ((name, f"{value:.1f} {unit}") for name, value, unit in values if value is not None)


def _curve(found: CardiacIndices, truth: CardiacIndices | None, numbers: Sequence[int]) -> str:
    if len(numbers) < _FEW_FRAMES:
        return ""
    curves = {name: list(zip(numbers, found.volumes_ml[name], strict=True)) for name in found.ventricles}
    if truth is not None:
        curves |= {f"{k}, true": list(zip(numbers, truth.volumes_ml[k], strict=True)) for k in truth.ventricles}
    return line_chart("Volume of the ventricles (ml)", curves, "frame")


def _segments(patient: str, found: CardiacIndices) -> str:
    drawings = []
    for phase, values in (("ED", found.segments_ed_mm), ("ES", found.segments_es_mm)):
        if values is not None:
            title = f"Wall thickness of {patient} at {phase} in the 17 segments, mm"
            drawings.append(f"<figure>{bulls_eye(values, title)}<figcaption>Wall at {phase}, mm</figcaption></figure>")
    return f'<div class="charts">{"".join(drawings)}</div>' if drawings else ""
