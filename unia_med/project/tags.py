"""Tables of tags: which column names the image, which ones are classes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from unia_med.data.io.suffixes import label_stem

_YES = ("1", "1.0", "yes", "y", "true", "ja", "oui", "vrai", "si", "sí", "sì", "sim", "present", "x")
_NO = ("0", "0.0", "no", "n", "false", "nein", "nee", "nej", "non", "faux", "não", "absent")
_YES_NO = {"": "", **dict.fromkeys(_YES, "1"), **dict.fromkeys(_NO, "0")}


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
        path: CSV or TSV.
        cases: names of the images.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *body = list(csv.reader(file, delimiter=(mark := _separator(file.readline(), file))))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError):
        return None
    body = [row for row in body if len(row) == len(head) and any(cell.strip() for cell in row)]
    named = {label_stem(case).casefold(): case for case in cases}
    columns = list(zip(*body, strict=True)) if body else []
    where = [i for i, column in enumerate(columns) if column and all(_case(cell, named) for cell in column)]
    if not where:
        return None
    image = where[0]
    slices = next((i for i, name in enumerate(head) if name.strip().casefold() in ("slice", "z", "slice_index")), None)
    rest = [i for i in range(len(head)) if i not in (image, slices)]
    classes = [i for i in rest if {cell.strip().casefold() for cell in columns[i]} <= set(_YES_NO)]
    if classes:
        cells = {head[i].strip(): [_YES_NO[cell.strip().casefold()] for cell in columns[i]] for i in classes}
    else:
        words = [i for i in rest if 1 < len(set(columns[i])) <= min(10, len(body) - 1)]
        if not words:
            return None
        column = [cell.strip() for cell in columns[words[0]]]
        cells = {word: [str(int(cell == word)) for cell in column] for word in sorted(set(column))}
    key = [_case(cell, named) or cell for cell in columns[image]]
    numbers = [[cell.strip() for cell in columns[slices]]] if slices is not None else []
    rows = [["image", *(["slice"] if numbers else []), *cells]]
    rows += [list(row) for row in zip(key, *numbers, *cells.values(), strict=True)]
    plain = mark == "," and {cell for i in classes for cell in columns[i]} <= {"0", "1", ""}
    as_it_is = bool(classes) and plain and head[image].strip() == "image" and path.suffix.lower() == ".csv"
    as_it_is = as_it_is and (slices is None or head[slices].strip() == "slice")
    return TagTable(path, list(cells), rows, as_it_is)


def _separator(first: str, file: TextIO) -> str:
    """Return what separates the columns of a table by its first line, and go back to its start."""
    file.seek(0)
    return max(",;\t", key=first.count)  # spreadsheets of many countries write semicolons


def _case(cell: str, named: dict[str, str]) -> str | None:
    """Return the case that a cell names, by its path or its file name, with or without a suffix."""
    text = cell.strip()
    return named.get(label_stem(text).casefold()) or named.get(text.casefold())
