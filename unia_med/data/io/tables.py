"""Tables as spreadsheets write them: any of the usual separators and encodings, letters composed in one way."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from unia_med.data.checks import DataFault
from unia_med.errors import UserError
from unia_med.files import decoded
from unia_med.names import without_apostrophe

_SEPARATORS = (",", ";", "\t", "|")
_SHOWN = 5
_REMEDY = "Check the path, or save the table as CSV in UTF-8"

TRUE = {
    "1",
    "1.0",
    "1,0",
    "true",
    "t",
    "yes",
    "y",
    "x",
    "wahr",
    "ja",
    "vrai",
    "oui",
    "verdadero",
    "vero",
    "si",
    "sí",
    "sì",
}
FALSE = {"0", "0.0", "0,0", "false", "f", "no", "n", "falsch", "nein", "faux", "non", "falso"}
UNKNOWN = {"", "na", "n/a", "nan", "none", "null", "?", "-", "unknown"}
"""What a cell may say, in any case: spreadsheets translate their truth values."""


class Record(NamedTuple):
    """A row of a table that is not blank.

    Attributes:
        line: where it ends in the file, from 1.
        cells: text by column, without blanks around it and the apostrophe of `spreadsheet_text`, composed (NFC).
    """

    line: int
    cells: dict[str, str]


class Table(NamedTuple):
    """A table: the names of its columns in order, and its rows."""

    columns: list[str]
    records: list[Record]


def read_table(path: Path, remedy: str = _REMEDY) -> Table:
    """Return a table with a head.

    Args:
        path: separated by commas, semicolons, tabs or bars; UTF-8, UTF-16, or a Windows code page.
        remedy: what the user can do where there is no such file, or no text in it.

    Raises:
        UserError: there is no such file, or it is no text.
    """
    try:
        lines = composed(decoded(path.read_bytes())).splitlines(keepends=True)
        skipped, separator = _separator(lines)
        reader = csv.reader(
            io.StringIO("".join(lines[skipped:]), newline=""), delimiter=separator, skipinitialspace=True
        )
        rows = [(reader.line_num + skipped, [without_apostrophe(cell.strip()) for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read as CSV ({error})"
        raise UserError(what, where=path, remedy=remedy) from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    columns = rows[0][1] if rows else []
    filled = ((line, cells + [""] * (len(columns) - len(cells))) for line, cells in rows[1:])
    return Table(columns, [Record(line, dict(zip(columns, cells, strict=False))) for line, cells in filled])


def composed(text: str) -> str:
    r"""Return a text with its accents composed (NFC), as most systems write them and macOS does not.

    Example:
        >>> len("Mu\u0308ller"), len(composed("Mu\u0308ller"))
        (7, 6)
    """
    return unicodedata.normalize("NFC", text)


@dataclass
class TableFaults:
    """Faults of a table by kind, so that a wrong column is reported once and not cell by cell.

    Args:
        path: the table.
    """

    path: Path
    _kinds: dict[str, list[tuple[int, DataFault]]] = field(default_factory=dict)

    def add(self, kind: str, line: int, found: str, expected: str, remedy: str) -> None:
        """Note one fault.

        Args:
            kind: faults of one kind are reported together.
            line: where it is.
            found: see `DataFault`.
            expected: see `DataFault`.
            remedy: see `DataFault`.
        """
        fault = DataFault(f"{self.path} line {line}", found, expected, remedy)
        self._kinds.setdefault(kind, []).append((line, fault))

    def lines(self) -> set[int]:
        """Lines with a fault."""
        return {line for faults in self._kinds.values() for line, _ in faults}

    def merged(self) -> list[DataFault]:
        """Return one fault per kind."""
        return [self._merged(faults) for faults in self._kinds.values()]

    def _merged(self, faults: list[tuple[int, DataFault]]) -> DataFault:
        _, first = faults[0]
        if len(faults) == 1:
            return first
        where = f"{self.path} lines {_some(line for line, _ in faults)}"
        found = f"{_some(fault.found for _, fault in faults)} ({len(faults)} times)"
        expected = {fault.expected for _, fault in faults}
        return DataFault(where, found, first.expected if len(expected) == 1 else f"e.g. {first.expected}", first.remedy)


def _some(values: Iterable[object]) -> str:
    distinct = list(dict.fromkeys(str(value) for value in values))
    return ", ".join(distinct[:_SHOWN]) + (", ..." if len(distinct) > _SHOWN else "")


def _separator(lines: list[str]) -> tuple[int, str]:
    """Return how many lines come before the head, and what separates its cells."""
    head = next((line.strip("\r\n \f") for line in lines if line.strip()), "")
    if head.lower().startswith("sep=") and len(head) == 5:  # a note of Excel to itself
        return 1, head[4]
    if lines and lines[0].strip("\r\n").lower() == "sep=\t":
        return 1, "\t"
    bare = "".join(part for number, part in enumerate(head.split('"')) if number % 2 == 0)
    return 0, max(_SEPARATORS, key=bare.count)
