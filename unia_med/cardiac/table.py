"""Cardiac indices as CSV: one row per case, and one row per frame in a second file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from unia_med.cardiac.cases import MeasuredCase
from unia_med.files import write_text
from unia_med.names import spreadsheet_text

Cell = str | int | float | None


def write_tables(cases: Sequence[MeasuredCase], path: Path) -> Path:
    """Write `FILE.csv` and `FILE_frames.csv`, each whole or not at all, and returns the second's path.

    Args:
        cases: at least one.
        path: of the first file.
    """
    frames = path.with_name(f"{path.stem}_frames{path.suffix}")
    _write(frame_rows(cases), frames)
    _write([case_row(case) for case in cases], path)
    return frames


def case_row(case: MeasuredCase) -> dict[str, Cell]:
    """Return indices of a case by column; units are in the names, None where the masks do not tell.

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
    return row


def frame_rows(cases: Sequence[MeasuredCase]) -> list[dict[str, Cell]]:
    """Volumes of every frame by column.

    Args:
        cases: what was measured.
    """
    names = list(dict.fromkeys(name for case in cases for name in case.indices.volumes_ml))
    rows = []
    for case in cases:
        for index, number in enumerate(case.numbers):
            time = None if case.time_step_s is None else index * case.time_step_s
            row: dict[str, Cell] = {"case": case.name, "frame": number, "time_s": time}
            curves = case.indices.volumes_ml
            rows.append(row | {f"{name.lower()}_ml": curves[name][index] for name in names})
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
