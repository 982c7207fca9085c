"""The heart's part of a report: indices, the volume curve and the bull's eye of each patient, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from unia_med.cardiac.bulls_eye import bulls_eye
from unia_med.cardiac.indices import CardiacIndices, measure
from unia_med.cardiac.plausible import refuse_impossible, unusual
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.report.plots import line_chart

_PARTS = ("LV", "MYO", "RV")
_FEW_FRAMES = 3  # from which on a curve says more than two numbers


def heart_section(patients: Mapping[str, Mapping[int, Volume]], classes: Sequence[str]) -> str:
    """Return HTML with the indices of each patient; empty where the classes hold no left ventricle.

    Args:
        patients: label volumes (X, Y, Z), values 1, 2, 3, ... in the order of `classes`, by patient and frame number.
        classes: names without background.
    """
    values = {name.upper() if name.upper() in _PARTS else name: value for value, name in enumerate(classes, start=1)}
    if "LV" not in values:
        return ""
    return "".join(_patient(name, frames, values) for name, frames in patients.items())


def _patient(name: str, frames: Mapping[int, Volume], values: Mapping[str, int]) -> str:
    numbers = sorted(frames)
    try:
        found = measure((frames[number] for number in numbers), values)
        refuse_impossible(found)
    except UserError as error:
        return f"<h3>{escape(name)}</h3><p>{escape(error.what)}</p>"
    notes = "".join(f'<p class="note">Look again: {escape(text)}.</p>' for text in unusual(found))
    return f"<h3>{escape(name)}</h3>{_table(found, numbers)}{notes}{_curve(found, numbers)}{_segments(name, found)}"


def _table(found: CardiacIndices, numbers: Sequence[int]) -> str:
    systole = found.phases.systole
    rows = {"ED": f"frame {numbers[found.phases.diastole]}"}
    rows |= {} if systole is None else {"ES": f"frame {numbers[systole]}"}
    for side, ventricle in found.ventricles.items():
        rows[f"{side} EDV"] = _number(ventricle.edv_ml, "ml")
        rows[f"{side} ESV"] = _number(ventricle.esv_ml, "ml")
        rows[f"{side} EF"] = _number(ventricle.ef_percent, "%")
    rows["Myocardial mass at ED"] = _number(found.mass_g, "g")
    rows["Mean wall at ED"] = _number(found.wall and found.wall.mean_mm, "mm")
    body = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in rows.items() if text)
    return f'<dl class="facts">{body}</dl>'


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.1f} {unit}"


def _curve(found: CardiacIndices, numbers: Sequence[int]) -> str:
    if len(numbers) < _FEW_FRAMES:
        return ""
    curves = {name: list(zip(numbers, found.volumes_ml[name], strict=True)) for name in found.ventricles}
    return line_chart("Volume of the ventricles (ml)", curves, "frame")


def _segments(name: str, found: CardiacIndices) -> str:
    drawings = []
    for phase, values in (("ED", found.segments_ed_mm), ("ES", found.segments_es_mm)):
        if values is not None:
            title = f"Wall thickness of {name} at {phase} in the 17 segments, mm"
            drawings.append(f"<figure>{bulls_eye(values, title)}<figcaption>Wall at {phase}, mm</figcaption></figure>")
    return f'<div class="charts">{"".join(drawings)}</div>' if drawings else ""
