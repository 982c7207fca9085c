"""Tables of tags: which column names the image, which ones are classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unia_med.data.io.label_file import BACKGROUND_NAMES
from unia_med.data.io.label_names import tokens
from unia_med.data.io.suffixes import label_stem
from unia_med.data.io.tables import FALSE, TRUE, UNKNOWN, Record, read_table
from unia_med.errors import UserError
from unia_med.project.names import case_of, cases_by_name

_YES = (*TRUE, "sim", "present")
_NO = (*FALSE, "nee", "nej", "não", "absent")
_SLICE = ("slice", "z", "slice_index")
_NOTHING = {"no finding", "no findings", "normal", "none", "negative", "healthy", "unremarkable", "nothing", "clear",
            "ohne befund", "o.b.", "kein befund", "rien", "sano", *BACKGROUND_NAMES}  # fmt: skip
_CLASS = {"class", "classes", "label", "labels", "finding", "findings", "diagnosis", "category", "pathology", "tag"}
_NO_CLASS = {"sex", "gender", "age", "patient", "subject", "id", "split", "fold", "view", "position", "site", "scanner",
             "date", "reader", "rater", "quality", "group"}  # fmt: skip
_MOSTLY = 0.5  # of the rows name an image
_MOST_WORDS = 20
_YES_NO = {**dict.fromkeys(UNKNOWN, ""), **dict.fromkeys(_YES, "1"), **dict.fromkeys(_NO, "0")}


@dataclass
class TagTable:
    """A table of tags that was understood.

    Attributes:
        path: the file.
        classes: columns or values that are classes.
        rows: cells as `read_tags_csv` takes them, the head first.
        as_it_is: whether the file itself can be read by a training.
        strangers: names of images that are not there, whose rows are left out.
    """

    path: Path
    classes: list[str]
    rows: list[list[str]]
    as_it_is: bool
    strangers: list[str] = field(default_factory=list)


def read_tag_table(path: Path, cases: Mapping[str, Path]) -> TagTable | None:
    """Return a table of tags, or None where a file is something else.

    One column holds names of images; every column of 0 and 1 (yes and no) is a class; where there is none, a column of
    a few repeated words gives one class per word. Several words of a cell are separated by bars or semicolons; words
    such as "no finding" and "normal" say that there is nothing. Rows of other images than these are left out.

    Args:
        path: CSV or TSV, as `read_table` takes them.
        cases: images by the names of their cases.

    Raises:
        UserError: two of its columns have one name.
    """
    try:
        head, records = read_table(path)
    except UserError:
        return None
    names = cases_by_name(cases)
    image = max(head, key=lambda name: _hits(records, name, names), default="")
    if not records or _hits(records, image, names) <= _MOSTLY * len(records):
        return None
    double = [name for name, count in Counter(head).items() if name and count > 1]
    if double:
        raise UserError(f"has several columns {', '.join(map(repr, double))}", path, "Rename or remove all but one")
    strangers = [record.cells[image] for record in records if case_of(record.cells[image], names) is None]
    known = [record.cells for record in records if case_of(record.cells[image], names) is not None]
    slices = next((name for name in head if name.casefold() in _SLICE), None)
    rest = [name for name in head if name not in (image, slices) and not set(tokens(name)) & _NO_CLASS]
    said = {name: {cells[name].casefold() for cells in known} for name in rest}
    classes = [name for name in rest if said[name] <= set(_YES_NO) and not said[name] <= UNKNOWN]
    if classes:
        columns = {name: [_YES_NO[cells[name].casefold()] for cells in known] for name in classes}
    else:
        columns = _columns_of_words(rest, known)
    if not columns:
        return None
    case_names = {place: case for case, place in cases.items()}
    key = [case_names[found] for cells in known if (found := case_of(cells[image], names))]
    numbers = [[cells[slices] for cells in known]] if slices is not None else []
    rows = [["image", *(["slice"] if numbers else []), *columns]]
    rows += [list(row) for row in zip(key, *numbers, *columns.values(), strict=True)]
    plain = {cells[name] for cells in known for name in classes} <= {"0", "1", ""}
    as_it_is = bool(classes) and plain and image == "image" and path.suffix.lower() == ".csv" and not strangers
    as_it_is = as_it_is and slices in (None, "slice")
    as_it_is = as_it_is and all(case in (label_stem(c[image]), c[image]) for c, case in zip(known, key, strict=True))
    return TagTable(path, list(columns), rows, as_it_is, strangers)


def _hits(records: Sequence[Record], column: str, names: Mapping[str, Path]) -> int:
    """Return in how many rows a column names an image."""
    return sum(case_of(record.cells[column], names) is not None for record in records)


def _columns_of_words(heads: Sequence[str], rows: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return a column of 0 and 1 per word of the first column of a few repeated words; one named so comes first."""
    for head in sorted(heads, key=lambda name: not set(tokens(name)) & _CLASS):
        said = [[word.strip() for word in re.split("[|;]", cells[head]) if word.strip()] for cells in rows]
        words = {word for cell in said for word in cell}
        found = sorted(word for word in words if word.casefold() not in _NOTHING)
        repeated = 1 < len(words) <= min(_MOST_WORDS, len(rows) - 1)
        if found and repeated and not all(word.replace(".", "").isdigit() for word in words):
            return {word: [str(int(word in cell)) if cell else "" for cell in said] for word in found}
    return {}
