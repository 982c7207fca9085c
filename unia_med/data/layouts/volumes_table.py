"""The table of own volumes: one row per image, with its mask, weak labels, patient and part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unia_med.data.checks import DataFault
from unia_med.data.io.tables import read_table
from unia_med.data.sample import Part
from unia_med.data.splits import PARTS
from unia_med.errors import nearest

_FILE_REMEDY = "Save the table as CSV in UTF-8; data.volumes.table is looked for below data.root"
_REMEDY = "The table needs the column image, and may have mask, patient, split, scribbles, points, boxes, blocks"


@dataclass(frozen=True)
class Row:
    """One image: where it was named, its files by column (paths below the data folder), patient and part."""

    where: str
    files: Mapping[str, str]
    patient: str | None = None
    part: Part | None = None


def read_rows(path: Path, kinds: Sequence[str], faults: list[DataFault]) -> list[Row]:
    """Return one row per image; in a table of slices, the first row of an image counts.

    Args:
        path: see `data.io.tables.read_table`.
        kinds: Kinds of weak labels, which are columns.
        faults: Receives every fault of the table.

    Raises:
        UserError: The file cannot be read as a table at all.
    """
    columns, records = read_table(path, _FILE_REMEDY)
    if columns.count("image") != 1:
        close = nearest("image", columns)
        found = f"{columns.count('image') or 'no'} column 'image' among {columns}"
        remedy = f"Rename {close!r}, if that is the one" if close else _REMEDY
        faults.append(DataFault(path, found, "one column image", remedy))
        return []
    for name in ("slice", "mask", "patient", "split", *kinds):
        if columns.count(name) > 1:
            faults.append(
                DataFault(path, f"{columns.count(name)} columns {name!r}", "one", "Rename or remove the others")
            )
    rows: dict[str, Row] = {}
    for line, record in records:
        row = _row(f"{path} line {line}", record, kinds, faults)
        if row is None:
            continue
        image = row.files["image"]
        if image not in rows:
            rows[image] = row
        elif not record.get("slice", ""):
            found = f"a second row of image {image!r} (the first is {rows[image].where.rpartition(' ')[2]})"
            faults.append(DataFault(row.where, found, "one row per image", "Remove one of the two"))
        elif _differs(row, rows[image]):
            expected = f"the same mask, patient, split and labels as in {rows[image].where}"
            found = f"other files or another patient of {image!r}"
            faults.append(DataFault(row.where, found, expected, "Correct one row"))
    return list(rows.values())


def _row(where: str, record: Mapping[str, str], kinds: Sequence[str], faults: list[DataFault]) -> Row | None:
    files = {c: record[c] for c in ("image", "mask", *kinds) if record.get(c)}
    if "image" not in files:
        faults.append(DataFault(where, "no image", "the path of a volume below data.root", "Fill the cell"))
        return None
    told = record.get("split", "").lower()
    part = next((part for part in PARTS if part == told), None)
    if told and part is None:
        close = nearest(told, PARTS)
        remedy = f"Did you mean {close!r}?" if close else "Leave the cell empty for an image that is not used"
        faults.append(DataFault(where, f"split {told!r}", "train, val, test or nothing", remedy))
    return Row(where, files, record.get("patient") or None, part)


def _differs(row: Row, other: Row) -> bool:
    return (row.files, row.patient, row.part) != (other.files, other.patient, other.part)
