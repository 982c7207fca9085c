"""Meaning of the values in label files and predictions: one scheme from values to classes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.io.dataset_json import read_dataset_json
from unia_med.data.io.label_file import LabelFile, by_class_values, is_background_name
from unia_med.data.io.nifti_names import names_in
from unia_med.data.io.suffixes import label_stem
from unia_med.data.io.walk import find_volumes
from unia_med.data.masks import only_ignored, relabel
from unia_med.errors import UserError
from unia_med.evaluation.pairs import Labels
from unia_med.files import read_json
from unia_med.labels import BACKGROUND, IGNORE

if TYPE_CHECKING:
    from unia_med.config.data import DataConfig

CLASSES_FILE = "classes.json"
"""File next to predictions that gives the name of each label value."""

_NAME_THEM = "Name the classes by --config or --classes (NAME,... or 255=NAME,...), or give the right files"


@dataclass(frozen=True)
class LabelScheme:
    """Meaning of the values in label files and in predictions.

    Attributes:
        names: Classes that are scored.
        values: In label files, the values of each scored class (several for merged classes).
        predicted: In predictions, the value of each scored class.
        members: Value in label files by name, for files that name their segments; of merged classes, their members.
        others: Values of label files that count as background, next to 0.
        ignored: Value of label files that does not count, or None; 255 in PNG and TIFF masks never does.

    Example:
        >>> scheme = LabelScheme.of_values({4: "LIVER", 7: "SPLEEN"})
        >>> scheme.labels(Labels(np.array([[0, 7, 255]]), None)).array
        array([[  0,   2, 255]], dtype=uint8)
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    predicted: tuple[int, ...]
    members: Mapping[str, int]
    others: frozenset[int] = frozenset()
    ignored: int | None = None

    @classmethod
    def numbered(cls, names: Iterable[str]) -> LabelScheme:
        """Return the scheme of classes numbered 1, 2, 3, ... in labels as in predictions."""
        return cls.of_values(dict(enumerate(names, start=1)))

    @classmethod
    def of_values(cls, names: Mapping[int, str]) -> LabelScheme:
        """Return the scheme of classes by their value, the same in labels and in predictions."""
        ordered = {value: names[value] for value in sorted(names)}
        members = {name: value for value, name in ordered.items()}
        return cls(tuple(ordered.values()), tuple((value,) for value in ordered), tuple(ordered), members)

    @classmethod
    def configured(cls, data: DataConfig) -> LabelScheme:
        """Return the scheme of a config; of merged classes the merged ones, since that is what such a run predicts."""
        groups = data.groups or {name: [name] for name in data.classes}
        numbers = data.mask_values
        values = tuple(tuple(numbers[member] for member in members) for members in groups.values())
        predicted = tuple(range(1, len(groups) + 1))
        return cls(tuple(groups), values, predicted, numbers, frozenset(data.background_values))

    def labels(self, found: Labels) -> Labels:
        """Return the uint8 classes 0..T of a label file, with segments recognised by their names where it has some.

        Pixels of 255 in PNG and TIFF masks do not count, unless 255 is a class: they become IGNORE.
        """
        ignore = found.affine is None or self.ignored is not None
        array = _by_names(found, self.members)
        if self.ignored is not None:
            array = np.where(array == self.ignored, IGNORE, array)
        known = {BACKGROUND, *self.others, *itertools.chain.from_iterable(self.values)}
        _check_values(array, found, known | {IGNORE} if ignore else known, "the label")
        if found.affine is None and IGNORE not in known:
            check_not_all_ignored(array)
        return replace(found, array=relabel(array, self.values, ignore))

    def prediction(self, found: Labels) -> Labels:
        """Return the uint8 classes 0..T of a prediction, with segments recognised by their names where it has some."""
        array = _by_names(found, dict(zip(self.names, self.predicted, strict=True)))
        _check_values(array, found, {BACKGROUND, *self.predicted}, "the prediction")
        return replace(found, array=relabel(array, self.predicted))


def plain_labels(found: Labels, what: str, ignore: bool = False) -> Labels:
    """Return the uint8 voxels of a file whose classes have no names.

    Args:
        found: What was read.
        what: Whether it is "the label" or "the prediction", for the message.
        ignore: 255 may be among them, see `LabelScheme.labels`.

    Raises:
        UserError: A voxel is no whole number from 0 to 254.
    """
    wrong = [v for v in np.unique(found.array).tolist() if v != round(v) or not 0 <= v < IGNORE + ignore]
    if wrong:
        shown = ", ".join(f"{value:g}" for value in wrong[:6])
        raise UserError(f"{what} holds the values {shown}, expected whole numbers from 0 to 254", remedy=_NAME_THEM)
    if ignore:
        check_not_all_ignored(found.array)
    return replace(found, array=found.array.astype(np.uint8))


def check_not_all_ignored(array: np.ndarray) -> None:
    """Refuse a mask of 0 and 255 alone: 255 is then a class without a name, and not a border."""
    if only_ignored(array):
        remedy = "Name the class of 255: --classes 255=NAME, or data.class_values of the config"
        raise UserError("the label holds only 0 and 255, and 255 marks pixels that do not count", remedy=remedy)


def parse_classes(names: Sequence[str] | Mapping[int, str]) -> LabelScheme:
    """Return the scheme of the classes that a user gave.

    Args:
        names: In order of the values 1, 2, 3, ...; or, for other values, name by value, or texts such as `4=SPLEEN`.

    Raises:
        UserError: A name or value is missing or given twice.

    Example:
        >>> parse_classes(["4=SPLEEN", "1=LIVER"]).values
        ((1,), (4,))
    """
    if isinstance(names, Mapping):
        return LabelScheme.of_values({int(value): str(name) for value, name in names.items()})
    listed = [str(name).strip() for name in names]
    named: dict[int, str] = {}
    for position, text in enumerate(listed, start=1):
        value, equals, name = text.partition("=") if "=" in text else (str(position), "", text)
        if not name or not value.strip().isdigit() or not 0 < int(value) <= IGNORE or int(value) in named:
            what = f"{text!r} is no class: a name, or VALUE=NAME with a value from 1 to 255 that is given once"
            raise UserError(what, where="--classes", remedy="Write for example --classes LIVER,SPLEEN")
        named[int(value)] = name.strip()
    if not named or len(set(named.values())) < len(named):
        raise UserError(f"classes {listed} are empty, or one is named twice", "--classes", "Name each class once")
    return LabelScheme.of_values(named)


def classes_next_to(predictions: Path) -> LabelScheme | None:
    """Return the scheme that `classes.json` next to predictions gives, else the record or the header of each, or None.

    Args:
        predictions: Folder of predictions, or one file.

    Raises:
        UserError: The file cannot be read, or is no mapping from value to name.
    """
    folder = predictions if predictions.is_dir() else predictions.parent
    path = folder / CLASSES_FILE
    if not path.is_file():
        records = folder.glob("*.json") if predictions.is_dir() else [record_of(predictions)]
        masks = find_volumes(folder, None) if predictions.is_dir() else [predictions]
        return _classes_of_records(records) or _classes_of_headers(masks)
    remedy = 'It holds the name of each label value, as {"1": "LIVER", "2": "SPLEEN"}; correct or remove it'
    try:
        found = read_json(path, remedy)
        named = {int(value): str(name) for value, name in found.items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"cannot be read as class names ({error})", where=path, remedy=remedy) from error
    named.pop(BACKGROUND, None)
    if not named or not all(0 < value <= IGNORE for value in named):
        raise UserError("names no class", where=path, remedy=remedy)
    return LabelScheme.of_values(named)


def record_of(mask: Path) -> Path:
    """Return where the record `NAME_seg.json` of a mask lies."""
    return mask.with_name(f"{label_stem(mask)}.json")


def _classes_of_records(records: Iterable[Path]) -> LabelScheme | None:
    """Return the scheme of masks without `classes.json` by their records; None where these say none, or several."""
    found = set()
    for record in records:
        try:
            values = read_json(record)
            if isinstance(values, dict) and isinstance(values.get("classes"), dict):
                found.add(tuple(sorted((int(value), str(name)) for value, name in values["classes"].items())))
        except (UserError, ValueError):
            continue
    return LabelScheme.of_values(dict(found.pop())) if len(found) == 1 else None


def _classes_of_headers(masks: Iterable[Path]) -> LabelScheme | None:
    """Return the scheme that the headers of masks give; None where these say none, or several."""
    found = {tuple(sorted(names.items())) for names in map(names_in, masks) if names}
    return LabelScheme.of_values(dict(found.pop())) if len(found) == 1 else None


def with_dataset(scheme: LabelScheme | None, labels: Path) -> LabelScheme | None:
    """Return a scheme with what nnU-Net's `dataset.json` says: the value that does not count, and names if nobody did.

    Args:
        scheme: What is known already.
        labels: Folder of the labels, or a file in it.
    """
    found = read_dataset_json(labels)
    if found is None or (scheme is None and not found.names):
        return scheme
    return replace(scheme or LabelScheme.of_values(found.names), ignored=found.ignored)


def scheme_of_segments(labels: Iterable[Labels]) -> LabelScheme | None:
    """Return the scheme that the segment names of label files give, for classes that have no other names.

    Args:
        labels: Of all files; None where one of them has no names.

    Raises:
        UserError: Files number the same segments differently, so that the values of predictions could mean either.
    """
    named: dict[str, int] = {}
    for found in labels:
        if not found.names:
            return None
        for value, name in found.names.items():
            if is_background_name(name):
                continue
            if named.setdefault(name, value) != value or list(named.values()).count(value) > 1:
                what = f"segment {name!r} has the value {value} here, another in other label files"
                remedy = "Say what values of the predictions mean: --classes NAME,..."
                raise UserError(what, where=found.path, remedy=remedy)
    return LabelScheme.of_values({value: name for name, value in named.items()}) if named else None


def _by_names(found: Labels, values: Mapping[str, int]) -> np.ndarray:
    """Return the voxels with segments that are named like classes holding the values of those classes."""
    if not found.names or found.path is None:
        return found.array
    array = found.array
    for value, name in found.names.items():
        if is_background_name(name):
            array = np.where(array == value, BACKGROUND, array)
    affine = np.eye(4) if found.affine is None else found.affine
    names = {value: name for value, name in found.names.items() if not is_background_name(name)}
    return by_class_values(LabelFile(array, affine, found.path, names), list(values), list(values.values()))


def _check_values(array: np.ndarray, found: Labels, known: set[int], what: str) -> None:
    foreign = sorted(set(np.unique(array).tolist()) - known)
    if not foreign:
        return
    if found.names:
        strange = sorted({found.names.get(int(found.array[array == value][0]), f"{value:g}") for value in foreign})
        what = f"{what} holds the segments {', '.join(strange[:6])}, which are no class"
        raise UserError(what, remedy=_NAME_THEM)
    shown = ", ".join(f"{value:g}" for value in foreign[:6]) + (", ..." if len(foreign) > 6 else "")
    expected = ", ".join(map(str, sorted(known - {IGNORE})))
    raise UserError(f"{what} holds the values {shown}, expected {expected}", remedy=_NAME_THEM)
