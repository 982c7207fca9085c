"""What a heart model leaves next to its masks: indices as tables and, where the images are DICOM, as SR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unia_med.cardiac.cases import MaskCase, MeasuredCase, find_cases, heart_classes, measure_case
from unia_med.cardiac.structured import write_report
from unia_med.cardiac.table import TABLE, write_tables
from unia_med.errors import UserError, memory_checked
from unia_med.notes import notes_hidden

_SHOWN = 20
"""Cases with unusual indices that are named one by one; the table holds all."""


def measure_results(folder: Path, classes: Sequence[str]) -> Iterator[str]:
    """Measure the masks that a model wrote, write what was found next to them, and yield lines that say so.

    Nothing happens where the model knows no left ventricle. A case that cannot be measured costs no other.

    Args:
        folder: of the masks.
        classes: of the labels 1, 2, 3, ...
    """
    if "LV" not in {name.upper() for name in classes}:
        return
    values = heart_classes({name: value for value, name in enumerate(classes, start=1)}, folder)
    measured: list[MeasuredCase] = []
    unusual = 0
    for case in _cases(folder):
        try:
            with memory_checked():
                found = measure_case(case, values)
        except UserError as error:
            yield f"note: {case.name} is not measured: {error.what}"
            continue
        measured.append(found)
        unusual += bool(found.warnings)
        yield from _said(case, found, values, unusual <= _SHOWN)
    if measured:
        write_tables(measured, folder / TABLE)
        if unusual > _SHOWN:
            yield f"note: look again at {unusual - _SHOWN} more, too: column warnings of {folder / TABLE}"
        yield f"indices of {len(measured)} {'case' if len(measured) == 1 else 'cases'} in {folder / TABLE}"


def _cases(folder: Path) -> list[MaskCase]:
    """Return the masks of a folder without a word on what else is there; none where it holds pictures only."""
    with notes_hidden():
        try:
            return find_cases(folder)
        except UserError:
            return []


def summary(found: MeasuredCase) -> str:
    """Return the findings of a case that has a systole in one line; empty for others.

    Args:
        found: what was measured.
    """
    left, phases = found.indices.ventricles["LV"], found.indices.phases
    if phases.systole is None or left.ef_percent is None or left.esv_ml is None:
        return ""
    frames = f"ED is frame {found.numbers[phases.diastole]}, ES is frame {found.numbers[phases.systole]}"
    mass = "" if found.indices.mass_g is None else f", mass {found.indices.mass_g:.0f} g"
    volumes = f"LV {left.edv_ml:.0f} / {left.esv_ml:.0f} ml, EF {left.ef_percent:.0f} %{mass}"
    return f"{found.name}: {volumes}; {frames} (correct with unia-med cardiac --ed, --es)"


def _said(case: MaskCase, found: MeasuredCase, values: Mapping[str, int], warn: bool) -> Iterator[str]:
    if text := summary(found):
        yield text
    if found.warnings and warn:
        yield f"note: {case.name}: look again: {'; '.join(found.warnings)}"
    first = next(iter(case.files.values()))
    try:
        write_report(case, found, values, first.with_name(f"{Path(case.name).name}_sr.dcm"))
    except UserError as error:
        yield f"note: {case.name}: no DICOM SR: {error.what}"
