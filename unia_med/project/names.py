"""Names of label values, from the files in which viewers and data sets keep them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from unia_med.data.io.suffixes import readable_suffix
from unia_med.data.io.tables import composed
from unia_med.files import decoded
from unia_med.names import without_apostrophe

_SNAP = re.compile(r'^\s*(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+\d+\s+\d+\s+"(.*)"\s*$')
_SLICER = re.compile(r"^\s*(\d+)\s+(\S+)\s+\d+\s+\d+\s+\d+\s+\d+\s*$")
_PLAIN = re.compile(r"^\s*(\d+)\s*[:=,;\s]\s*([^\d\s].*?)\s*$")
_NOTHING = ("clear label", "clear", "unlabeled", "unlabelled")


def names_in(texts: Iterable[Path]) -> dict[int, str]:
    """Return the name of each label value that files contain; the first file that names a value wins.

    Known are ITK-SNAP's label descriptions, 3D Slicer's colour tables, nnU-Net's `dataset.json`, BIDS tables
    (`index`, `name`), JSON objects of values and names, and lines such as `1 liver`.

    Args:
        texts: small text files.
    """
    names: dict[int, str] = {}
    for path in texts:
        try:
            text = decoded(path.read_bytes())
        except (OSError, UnicodeDecodeError):
            continue
        found = _of_json(text) if path.suffix.lower() == ".json" else _of_lines(text, path.suffix.lower())
        for value, name in found.items():
            if name.strip().casefold() not in _NOTHING:
                names.setdefault(value, name.strip())
    return names


def cases_by_name(cases: Mapping[str, Path]) -> dict[str, Path]:
    """Return images by all names under which a table may list them, in lower case: by path, and by file name alone.

    A file name that two images share names neither.

    Args:
        cases: images by the names of their cases.
    """
    plain = {composed(case).casefold(): image for case, image in cases.items()}
    short = Counter(case.rpartition("/")[2] for case in plain)
    return {name: image for case, image in plain.items() if short[name := case.rpartition("/")[2]] == 1} | plain


def case_of(cell: str, names: Mapping[str, Path]) -> Path | None:
    """Return the image that a cell of a table names, with or without folders and suffix.

    Args:
        cell: of the table.
        names: of `cases_by_name`.
    """
    text = without_apostrophe(composed(cell).strip()).replace("\\", "/").casefold()
    bare = text[: len(text) - len(readable_suffix(text) or "")]
    known = (bare, text, bare.rpartition("/")[2], text.rpartition("/")[2])
    return next((names[name] for name in known if name in names), None)


def _of_json(text: str) -> dict[int, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    table = found.get("labels", found)
    names: dict[int, str] = {}
    for key, value in table.items() if isinstance(table, dict) else ():
        if str(key).isdigit() and isinstance(value, str):
            names[int(key)] = value
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 0 and not str(key).isdigit():
            names[value] = str(key)
    # A JSON of anything else, such as the numbers of a scan, does not count from 0 or 1.
    return names if names and min(names) <= 1 and max(names) < 1000 else {}


def _of_lines(text: str, suffix: str) -> dict[int, str]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if suffix == ".tsv" or (lines and lines[0].split("\t")[:2] == ["index", "name"]):
        lines = [line.replace("\t", " ") for line in lines[1:]]
    for pattern in (_SNAP, _SLICER, _PLAIN):
        matches = [pattern.match(line) for line in lines]
        if lines and all(matches):
            return {int(match[1]): match[2] for match in matches if match}
    return {}
