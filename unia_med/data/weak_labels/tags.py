"""Image tags: which classes are present, absent or unknown in each slice of a volume."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unia_med.data.checks import DataFault, raise_faults
from unia_med.data.io.suffixes import readable_suffix, volume_stem
from unia_med.data.io.tables import FALSE, TRUE, UNKNOWN, Record, TableFaults, composed, read_table
from unia_med.errors import UserError, nearest
from unia_med.files import write_text
from unia_med.labels import TAG_ABSENT, TAG_PRESENT, TAG_UNKNOWN
from unia_med.names import safe_name, spreadsheet_text


def tags_from_mask(mask: np.ndarray, class_values: Sequence[int]) -> np.ndarray:
    """Return int8 tags (Z, T) of a mask: 1 where a slice holds the class, 0 where it does not.

    Args:
        mask: (X, Y, Z) label values.
        class_values: Value of each of the T classes in the mask.
    """
    present = [(mask == value).any(axis=(0, 1)) for value in class_values]
    return np.where(np.stack(present, axis=1), TAG_PRESENT, TAG_ABSENT).astype(np.int8)


def unknown_tags(slices: int, classes: int) -> np.ndarray:
    """Return int8 tags (Z, T) of a volume about which nothing is said."""
    return np.full((slices, classes), TAG_UNKNOWN, np.int8)


def group_members(classes: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[list[int]]:
    """Return, per group, the positions of its classes.

    Raises:
        UserError: A group is empty or names an unknown class, or a class is in no group or in two.
    """
    where = "data.groups"
    for name, members in groups.items():
        for member in members:
            if member not in classes:
                close = nearest(member, classes)
                remedy = f"Did you mean {close!r}?" if close else f"The classes are {list(classes)}"
                raise UserError(f"group {name!r} names {member!r}, which is no class", where=where, remedy=remedy)
        if not members:
            raise UserError(f"group {name!r} is empty", where=where, remedy="List its classes, or remove it")
    flat = [member for members in groups.values() for member in members]
    for name in classes:
        if flat.count(name) != 1:
            remedy = "Put each class into one group; a class that is not wanted can be left out of data.classes"
            raise UserError(f"class {name!r} is in {flat.count(name)} groups, expected one", where=where, remedy=remedy)
    return [[list(classes).index(member) for member in members] for members in groups.values()]


def group_tags(tags: np.ndarray, classes: Sequence[str], groups: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return int8 tags (..., G) of merged classes by a three-valued OR.

    A group is present when any member is, absent when all members are, and otherwise unknown.

    Args:
        tags: (..., T) tags in the order of `classes`.
        classes: The T class names.
        groups: Members of each of the G groups.
    """
    merged = []
    for members in group_members(classes, groups):
        part = tags[..., members]
        some, none = (part == TAG_PRESENT).any(-1), (part == TAG_ABSENT).all(-1)
        merged.append(np.where(some, TAG_PRESENT, np.where(none, TAG_ABSENT, TAG_UNKNOWN)))
    return np.stack(merged, axis=-1).astype(np.int8)


def group_labels(labels: np.ndarray, classes: Sequence[str], groups: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return uint8 labels 0..G of merged classes from labels 0..T; values above T (such as IGNORE) are kept."""
    table = np.arange(256, dtype=np.uint8)
    for group, members in enumerate(group_members(classes, groups), start=1):
        table[[member + 1 for member in members]] = group
    return table[labels.astype(np.uint8)]


def read_tags_csv(
    path: Path | str, classes: Sequence[str], slices_per_case: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return int8 tags (Z, T) of every case, from a table that opens in a spreadsheet.

    The columns are `image`, optionally `slice`, and one per class with 1 present, 0 absent, empty unknown (or what
    `data.io.tables` knows, such as TRUE and FALSE); further columns are ignored. `image` is a case's name, with or
    without `.nii.gz`. `slice` counts from 0 along the third stored axis. A row without a slice applies to the whole
    volume: absent holds for every slice, while present leaves each slice unknown (save in a volume of one slice), since
    it does not say where. Rows of slices add to that. Slices and cases without a row are unknown.

    Args:
        path: The table.
        classes: The T class names, as in the head of the table.
        slices_per_case: Number of slices of every known case.

    Raises:
        UserError: Lists all faults of the table at once.
    """
    path = Path(path)
    faults = TableFaults(path)
    rows = _read_rows(path, classes, slices_per_case, faults)
    tags = {case: unknown_tags(slices, len(classes)) for case, slices in slices_per_case.items()}
    whole = [row for row in rows if row.slice_index is None]
    for row in whole:
        volume = tags[row.case]
        volume[:, row.tags == TAG_ABSENT] = TAG_ABSENT
        if len(volume) == 1:
            volume[:, row.tags == TAG_PRESENT] = TAG_PRESENT
    for row in rows:
        if row.slice_index is not None:
            _add_slice_row(row, tags[row.case][row.slice_index], classes, faults)
    for row in whole:
        _check_some_slice_left(row, tags[row.case], classes, faults)
    raise_faults(faults.merged(), path)
    return tags


def tagged_as_a_whole(path: Path | str, classes: Sequence[str], slices_per_case: Mapping[str, int]) -> list[str]:
    """Return the cases of several slices for which a table has rows, but none that names a slice.

    Args:
        path: As for `read_tags_csv`, which reports its faults; rows with faults are left out here.
        classes: As for `read_tags_csv`.
        slices_per_case: As for `read_tags_csv`.
    """
    rows = _read_rows(Path(path), classes, slices_per_case, TableFaults(Path(path)))
    by_slice = {row.case for row in rows if row.slice_index is not None}
    return list(dict.fromkeys(row.case for row in rows if row.case not in by_slice and slices_per_case[row.case] > 1))


def write_tags_csv(path: Path | str, tags: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Write tags (Z, T) per case as a table that `read_tags_csv` reads back; it appears whole or not at all."""
    names = {TAG_ABSENT: "0", TAG_PRESENT: "1", TAG_UNKNOWN: ""}
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["image", "slice", *map(spreadsheet_text, classes)])
    for case, volume in tags.items():
        table.writerows([spreadsheet_text(case), z, *(names[int(tag)] for tag in row)] for z, row in enumerate(volume))
    write_text(Path(path), text.getvalue())


@dataclass(frozen=True)
class _Row:
    """One row of the table: its line, case, slice (None for the whole volume) and tags (T,)."""

    line: int
    case: str
    slice_index: int | None
    tags: np.ndarray


def _read_rows(
    path: Path, classes: Sequence[str], slices_per_case: Mapping[str, int], faults: TableFaults
) -> list[_Row]:
    rows: list[_Row] = []
    first_lines: dict[tuple[str, int | None], int] = {}
    known = {composed(case): case for case in slices_per_case}
    for line, cells in _records(path, classes):
        row = _parse(line, cells, classes, known, slices_per_case, faults)
        if row is None:
            continue
        key = (row.case, row.slice_index)
        if key in first_lines:
            found = f"a second row for {_place(row)} (the first is line {first_lines[key]})"
            faults.add("double", line, found, "one row each", "Remove one of the two")
            continue
        first_lines[key] = line
        rows.append(row)
    return rows


def _records(path: Path, classes: Sequence[str]) -> list[Record]:
    columns, records = read_table(path)
    wanted = {composed(name): name for name in ("image", *classes)}
    faults = []
    for name, shown in wanted.items():
        if columns.count(name) != 1:
            close = nearest(name, [column for column in columns if column not in wanted])
            remedy = f"Rename {close!r}, if that is the one" if close else f"The columns are {columns}"
            found = f"{columns.count(name) or 'no'} column {shown!r}"
            faults.append(DataFault(path, found, "image, optionally slice, and one column per class", remedy))
    if columns.count("slice") > 1:
        faults.append(
            DataFault(path, f"{columns.count('slice')} columns 'slice'", "one", "Rename or remove the others")
        )
    raise_faults(faults, path)
    return [Record(line, {wanted.get(name, name): cell for name, cell in cells.items()}) for line, cells in records]


def _parse(
    line: int,
    cells: Mapping[str, str],
    classes: Sequence[str],
    known: Mapping[str, str],
    slices_per_case: Mapping[str, int],
    faults: TableFaults,
) -> _Row | None:
    named = _case_name(cells["image"], known)
    case = known.get(named)
    if case is None:
        close = nearest(named, known)
        remedy = f"Did you mean {close!r}?" if close else "Use the name of an image of the data set"
        faults.add("image", line, f"image {named!r}", "a case of the data set", remedy)
    index = _slice_index(cells.get("slice", ""), None if case is None else slices_per_case[case], line, faults)
    tags = [_tag(cells[name]) for name in classes]
    for name, tag in zip(classes, tags, strict=True):
        if tag is None:
            found = f"{cells[name]!r} for {name}"
            faults.add("cell", line, found, "0, 1 or nothing (or TRUE, FALSE, yes, no)", "Correct the cell")
    if case is None or line in faults.lines():
        return None
    return _Row(line, case, index, np.array(tags, np.int8))


def _tag(cell: str) -> int | None:
    """Return the tag in a cell; None where it cannot be understood."""
    text = cell.lower()
    if text in UNKNOWN:
        return TAG_UNKNOWN
    return TAG_PRESENT if text in TRUE else TAG_ABSENT if text in FALSE else None


def _case_name(text: str, known: Mapping[str, str]) -> str:
    """Return the case that a cell names: by its full name, by its path, or by its file name alone."""
    suffix = readable_suffix(text)
    path = text[: -len(suffix)] if suffix else text
    return next((name for name in (text, path, safe_name(path)) if name in known), volume_stem(text))


def _slice_index(text: str, slices: int | None, line: int, faults: TableFaults) -> int | None:
    if not text:
        return None
    number = text.removesuffix(".0").removesuffix(",0")  # as a spreadsheet may write a column of numbers
    if number.isdecimal() and (slices is None or int(number) < slices):
        return int(number)
    expected = "a whole number from 0" + (f" to {slices - 1}" if slices else "")
    faults.add("slice", line, f"slice {text!r}", expected, "Slices count from 0 along the third stored axis")
    return None


def _add_slice_row(row: _Row, target: np.ndarray, classes: Sequence[str], faults: TableFaults) -> None:
    """Write a slice's tags into `target` (T,), which holds the tags of its volume's row."""
    known = row.tags != TAG_UNKNOWN
    clash = known & (target != TAG_UNKNOWN) & (target != row.tags)
    for position in np.flatnonzero(clash).tolist():
        found = f"{classes[position]} {row.tags[position]} in {_place(row)}"
        expected = f"{target[position]}, as the row of the whole volume says"
        faults.add("clash", row.line, found, expected, "Correct one of the two rows")
    target[known] = row.tags[known]


def _check_some_slice_left(row: _Row, volume: np.ndarray, classes: Sequence[str], faults: TableFaults) -> None:
    for position in np.flatnonzero((row.tags == TAG_PRESENT) & (volume == TAG_ABSENT).all(axis=0)).tolist():
        found = f"{classes[position]} present in {row.case}, while every slice of it says absent"
        faults.add("nowhere", row.line, found, "at least one slice left", "Correct one of the rows")


def _place(row: _Row) -> str:
    return row.case if row.slice_index is None else f"{row.case} slice {row.slice_index}"
