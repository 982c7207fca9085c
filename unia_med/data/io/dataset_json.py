"""nnU-Net's `dataset.json`: names and values of labels, the value that does not count, and the ending of files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unia_med.errors import UserError
from unia_med.files import read_json

FILE = "dataset.json"
_FOLDERS = ("imagesTr", "imagesTs", "imagesVal", "labelsTr", "labelsTs", "labelsVal")


@dataclass(frozen=True)
class DatasetJson:
    """What a `dataset.json` says, of version 1 or 2.

    Attributes:
        path: the file.
        names: name by value, without background and the value that does not count.
        ignored: value of voxels that do not count, or None.
        ending: of all files, such as `.nii.gz`; None in version 1, which does not say it.
    """

    path: Path
    names: dict[int, str] = field(default_factory=dict)
    ignored: int | None = None
    ending: str | None = None


def read_dataset_json(folder: Path) -> DatasetJson | None:
    """Return what the `dataset.json` of a data set says; None where there is none, or it is of another kind.

    Args:
        folder: the data set, one of nnU-Net's folders in it, or a file in one of these.

    Raises:
        UserError: the file is there and cannot be read, or its classes are regions of several values.
    """
    places = [folder, folder.parent] if folder.name in _FOLDERS else [folder]
    places = [*folder.parents[:2], folder] if folder.is_file() else places
    path = next((place / FILE for place in places if (place / FILE).is_file()), None)
    if path is None:
        return None
    found = read_json(path, "Correct or remove it")
    labels = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(labels, dict):
        return None
    values = dict(_pair(str(key), value, path) for key, value in labels.items())
    ignored = next((value for value, name in values.items() if name.casefold() == "ignore"), None)
    names = {value: name for value, name in sorted(values.items()) if value not in (0, ignored)}
    ending = found.get("file_ending")
    return DatasetJson(path, names, ignored, ending if isinstance(ending, str) else None)


def _pair(key: str, value: object, path: Path) -> tuple[int, str]:
    """Value and name of an entry: version 2 has names as keys, version 1 values."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value, key
    if key.isdigit() and isinstance(value, str):
        return int(key), value
    what = f"the label {key!r} is {value!r}, expected a whole number; regions of several values are not read"
    raise UserError(what, where=path, remedy="Give every class one value, or name classes by --classes")
