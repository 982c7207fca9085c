"""The usual one-hot tag lists of VOC and COCO (`cls_labels_onehot.npy`), read without running any code in them.

The `.npy` of these repositories is a pickled dictionary, image name -> vector. A pickle may call any function of Python
when it is opened, so this reader rebuilds the few kinds of objects that such a file holds by itself and refuses all
else; numpy's own objects are replaced by inert stand-ins.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from unia_med.data.checks import DataFault, raise_faults
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError
from unia_med.files import decoded

CONVERT = (
    'Convert it where you trust it: python -c "import numpy as n; '
    "n.savez('tags.npz', **{str(k): v for k, v in n.load('FILE.npy', allow_pickle=True).item().items()})\""
)
_VECTOR_TYPES = re.compile(r"[|<>=]?[fiub][1248]|[|]b1")


def read_onehot_tags(path: Path, cases: Sequence[CaseFiles], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return int8 tags (1, T) by case name.

    Args:
        path: `.npy` (a dictionary, as published), `.npz` (an array per image) or `.json` (a list per image). Names are
            case names, or their numbers as integers (2007000032 for "2007_000032").
        cases: Cases that need tags; further entries are not looked at.
        classes: The T class names; a vector has an entry for each, 1 present, 0 absent.

    Raises:
        UserError: The file cannot be read; or lists all images without an entry, and all wrong vectors.
    """
    entries = _entries(path)
    faults: list[DataFault] = []
    tags = {}
    for case in cases:
        found = next((entries[key] for key in _keys(case.name) if key in entries), None)
        if found is None:
            faults.append(DataFault(path, f"no entry for {case.name}", "one for every training image", "Add it"))
            continue
        vector = _vector(found)
        if vector is None or vector.shape != (len(classes),) or not np.isin(vector, (0, 1)).all():
            expected = f"{len(classes)} numbers, 0 or 1, one per class of data.classes"
            faults.append(
                DataFault(
                    path,
                    f"for {case.name}: {_short(found if vector is None else vector)}",
                    expected,
                    "Correct the entry",
                )
            )
            continue
        tags[case.name] = vector.astype(np.int8)[None]
    raise_faults(faults, path)
    return tags


_DAMAGE: tuple[type[Exception], ...] = (
    *(ValueError, KeyError, EOFError, TypeError, RecursionError, MemoryError, OverflowError, SyntaxError),
    *(TokenError, zipfile.BadZipFile, zlib.error, NotImplementedError),
)
"""What numpy's and Python's readers raise of files that are damaged."""


def _entries(path: Path) -> dict[str, Any]:
    """Vector by name; integer names as their digits."""
    readers = {".npy": _read_npy, ".npz": _read_npz, ".json": _read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError("no list of tags by its suffix", where=path, remedy=f"Give one of {', '.join(readers)}")
    try:
        found = reader(path)
    except OSError as error:
        raise UserError(f"cannot be read ({error})", where=path, remedy="Check data.tags.path") from error
    except _DAMAGE as error:
        raise UserError(f"is damaged or no such list ({error})", where=path, remedy="Copy the file again") from error
    if not isinstance(found, Mapping):
        raise UserError("holds no names", where=path, remedy="Give a dictionary: image name -> vector of 0 and 1")
    return {str(key): vector for key, vector in found.items()}


def _vector(found: Any) -> np.ndarray | None:
    """Return an entry as an array; None where it cannot be one, such as lists of different lengths."""
    try:
        vector = np.asarray(found)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        return None
    return vector if vector.dtype.kind in "fiub" else None


def _short(found: Any) -> str:
    try:
        return str(found)[:60]
    except RecursionError:
        return "lists within lists"


def _keys(case: str) -> tuple[str, ...]:
    """Names under which an image may be listed: as it is, its digits, its last number (without leading zeros)."""
    digits = "".join(re.findall(r"\d", case)).lstrip("0")
    numbers = re.findall(r"\d+", case)
    return (case, digits, numbers[-1].lstrip("0")) if numbers else (case,)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _read_json(path: Path) -> Any:
    return json.loads(decoded(path.read_bytes()))


def _read_npy(path: Path) -> Any:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
        if kind != np.dtype(object) or shape != ():
            raise UserError(
                f"an array {kind} {shape}, which names no images", where=path, remedy="Give the dictionary of names"
            )
        rest = file.read()
    try:
        found = _plain(_Reader(io.BytesIO(rest)).load())
    except Exception as error:  # a damaged or hostile pickle may raise anything
        what = f"is not the usual dictionary of vectors, and nothing else in a .npy is opened ({error})"
        raise UserError(what, where=path, remedy=CONVERT) from error
    return found[0] if isinstance(found, list) and len(found) == 1 else found


class _Kind:
    """Stands for `numpy.dtype`: remembers the code and the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        self.code = (state[1] if state[1] in "<>" else "|") + self.code


class _Array:
    """Stands for `numpy.ndarray`: remembers what fills it."""

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.kind, self.fortran, self.content = state


class _Class:
    """Stands for `numpy.ndarray` where the pickle names the class."""


class _Reader(pickle.Unpickler):
    """Unpickler that knows only the callables of a dictionary of arrays, replaced by harmless stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in; raises on any other name."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            known: dict[str, Any] = {"_reconstruct": lambda *_: _Array(), "scalar": _number}
        elif module == "numpy":
            known = {"ndarray": _Class, "dtype": _Kind}
        elif module == "_codecs":
            known = {"encode": _encoded}
        else:
            known = {}
        if name not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[name]


def _encoded(text: str, codec: str) -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it holds text in {codec}")
    return text.encode("latin1")


def _number(kind: _Kind, content: bytes) -> Any:
    return np.frombuffer(content, _dtype(kind))[0].item()


def _dtype(kind: _Kind) -> np.dtype:
    if not _VECTOR_TYPES.fullmatch(kind.code):
        raise pickle.UnpicklingError(f"it holds an array of {kind.code!r}")
    return np.dtype(kind.code)


def _plain(found: Any) -> Any:
    """Return stand-ins as arrays, also inside dictionaries and arrays of objects."""
    if isinstance(found, _Array):
        if isinstance(found.content, list):
            return [_plain(entry) for entry in found.content]
        array = np.frombuffer(found.content, _dtype(found.kind))
        return array.reshape(found.shape, order="F" if found.fortran else "C")
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    return found
