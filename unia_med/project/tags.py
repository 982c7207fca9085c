"""Tables of tags: which column names the image, which ones are classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unia_med.data.io.suffixes import label_stem
from unia_med.data.io.tables import FALSE, TRUE, UNKNOWN, composed, read_table
from unia_med.errors import UserError

_YES = (*TRUE, "sim", "present")
_NO = (*FALSE, "nee", "nej", "não", "absent")
_YES_NO = {**dict.fromkeys(UNKNOWN, ""), **dict.fromkeys(_YES, "1"), **dict.fromkeys(_NO, "0")}


@dataclass
class TagTable:
    """A table of tags that was understood.

    Attributes:
        path: the file.
        classes: columns or values that are classes.
        rows: cells as `read_tags_csv` takes them, the head first.
        as_it_is: whether the file itself can be read by a training.
    """

    path: Path
    classes: list[str]
    rows: list[list[str]]
    as_it_is: bool


def read_tag_table(path: Path, cases: Sequence[str]) -> TagTable | None:
    """Return a table of tags, or None where a file is something else.

    One column holds names of images; every column of 0 and 1 (yes and no) is a class; where there is none, a column of
    a few repeated words gives one class per word.

    Args:
        path: CSV or TSV, as `read_table` takes them.
        cases: names of the images.

    Raises:
        UserError: two of its columns have one name.
    """
    try:
        head, records = read_table(path)
    except UserError:
        return None
    double = [name for name, count in Counter(head).items() if name and count > 1]
    body = [[record.cells.get(name, "") for name in head] for record in records]
    named = {composed(label_stem(case)).casefold(): case for case in cases}
    columns = list(zip(*body, strict=True)) if body else []
    where = [i for i, column in enumerate(columns) if column and all(_case(cell, named) for cell in column)]
    if not where:
        return None
    image = where[0]
    if double:
        raise UserError(f"has several columns {', '.join(map(repr, double))}", path, "Rename or remove all but one")
    slices = next((i for i, name in enumerate(head) if name.casefold() in ("slice", "z", "slice_index")), None)
    rest = [i for i in range(len(head)) if i not in (image, slices)]
    said = {i: {cell.casefold() for cell in columns[i]} for i in rest}
    classes = [i for i in rest if said[i] <= set(_YES_NO) and not said[i] <= UNKNOWN]
    if classes:
        cells = {head[i]: [_YES_NO[cell.casefold()] for cell in columns[i]] for i in classes}
    else:
        words = [i for i in rest if 1 < len(set(columns[i])) <= min(10, len(body) - 1)]
        if not words:
            return None
        column = columns[words[0]]
        cells = {word: [str(int(cell == word)) for cell in column] for word in sorted(set(column))}
    key = [_case(cell, named) or cell for cell in columns[image]]
    numbers = [columns[slices]] if slices is not None else []
    rows = [["image", *(["slice"] if numbers else []), *cells]]
    rows += [list(row) for row in zip(key, *numbers, *cells.values(), strict=True)]
    plain = {cell for i in classes for cell in columns[i]} <= {"0", "1", ""}
    as_it_is = bool(classes) and plain and head[image] == "image" and path.suffix.lower() == ".csv"
    as_it_is = as_it_is and (slices is None or head[slices] == "slice")
    exact = all(case in (label_stem(cell), cell) for cell, case in zip(columns[image], key, strict=True))
    return TagTable(path, list(cells), rows, as_it_is and exact)


def _case(cell: str, named: dict[str, str]) -> str | None:
    """Return the case that a cell names, by its path or its file name, with or without a suffix."""
    return named.get(label_stem(cell).casefold()) or named.get(cell.casefold())
