"""Cardiac indices as CSV: a row per case, per frame, and per segment of the wall."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from unia_med.cardiac.cases import PHASES, MeasuredCase
from unia_med.cardiac.segments import NAMES
from unia_med.files import read_rows, write_text
from unia_med.names import spreadsheet_text, without_apostrophe

TABLE = "indices.csv"
"""Name of the first file next to predicted masks."""

Cell = str | int | float | None


def write_tables(cases: Sequence[MeasuredCase], path: Path) -> list[Path]:
    """Write `FILE.csv`, `FILE_frames.csv` and `FILE_segments.csv`, each whole or not at all, and return their paths.

    The last is left out where no case has segments.

    Args:
        cases: at least one.
        path: of the first file.
    """
    tables = {
        path: [case_row(case) for case in cases],
        path.with_name(f"{path.stem}_frames{path.suffix}"): frame_rows(cases),
        path.with_name(f"{path.stem}_segments{path.suffix}"): segment_rows(cases),
    }
    written = [target for target, rows in tables.items() if rows]
    for target in written:
        _write(tables[target], target)
    return written


def case_row(case: MeasuredCase) -> dict[str, Cell]:
    """Return indices of a case by column; units are in the names, None where the masks do not hold it.

    Args:
        case: what was measured.
    """
    found = case.indices
    systole = found.phases.systole
    row: dict[str, Cell] = {
        "case": case.name,
        "frames": len(case.numbers),
        "ed_frame": case.numbers[found.phases.diastole],
        "es_frame": None if systole is None else case.numbers[systole],
    }
    for name in ("LV", "RV"):
        for quantity in ("edv_ml", "esv_ml", "stroke_volume_ml", "ef_percent"):
            row[f"{name.lower()}_{quantity}"] = getattr(found.ventricles.get(name), quantity, None)
    row["myo_mass_ed_g"] = found.mass_g
    row["wall_thickness_mean_ed_mm"] = found.wall and found.wall.mean_mm
    row["wall_thickness_max_ed_mm"] = found.wall and found.wall.max_mm
    row["warnings"] = "; ".join(case.warnings)
    return row


def frame_rows(cases: Sequence[MeasuredCase]) -> list[dict[str, Cell]]:
    """Return the curve of every case, a row per frame: phase, volumes, and mean thickness of the wall.

    Args:
        cases: what was measured.
    """
    names = list(dict.fromkeys(name for case in cases for name in case.indices.volumes_ml))
    rows = []
    for case in cases:
        curves, phases = case.indices.volumes_ml, case.indices.phases
        for index, number in enumerate(case.numbers):
            row: dict[str, Cell] = {
                "case": case.name,
                "frame": number,
                "time_s": None if case.time_step_s is None else index * case.time_step_s,
                "phase": {phases.systole: "ES", phases.diastole: "ED"}.get(index),
            }
            row |= {f"{name.lower()}_ml": curves[name][index] if name in curves else None for name in names}
            rows.append(row | {"wall_thickness_mean_mm": case.indices.walls_mm[index]})
    return rows


def segment_rows(cases: Sequence[MeasuredCase]) -> list[dict[str, Cell]]:
    """Return a row per case and segment, of cases that have segments: thickness at ED and ES, and thickening.

    Args:
        cases: what was measured.
    """
    rows: list[dict[str, Cell]] = []
    for case in cases:
        full, empty = case.indices.segments_ed_mm, case.indices.segments_es_mm
        for index, name in enumerate(NAMES if full or empty else ()):
            thin = full[index] if full else None
            thick = empty[index] if empty else None
            row: dict[str, Cell] = {"case": case.name, "segment": index + 1, "name": name}
            row |= {"thickness_ed_mm": thin, "thickness_es_mm": thick}
            rows.append(row | {"thickening_percent": 100 * (thick - thin) / thin if thin and thick else None})
    return rows


def _write(rows: Sequence[dict[str, Cell]], path: Path) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    write_text(path, stream.getvalue())


def _text(value: Cell) -> str:
    if value is None:
        return ""
    return (
        f"{value:.6g}"
        if isinstance(value, float)
        else spreadsheet_text(value)
        if isinstance(value, str)
        else str(value)
    )


def phases_in_table(patient: str, folder: Path | None) -> dict[str, int]:
    """Return the frame numbers at "ED" and "ES" that the table next to masks has; empty where it has none.

    Args:
        patient: name of the case.
        folder: of the masks; None where they lie in none.
    """
    table = None if folder is None else folder / TABLE
    if table is None or not table.is_file():
        return {}
    rows = read_rows(table, remedy="Remove it, or measure again with `unia-med cardiac`")
    row = next((row for row in rows if without_apostrophe(row.get("case", "")) == patient), {})
    cells = {phase: row.get(f"{phase.lower()}_frame") or "" for phase in PHASES}
    return {phase: int(text) for phase, text in cells.items() if text.isdigit()}
