"""What the numbers in label files and in predictions mean: one scheme from values to classes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.masks import only_ignored, relabel
from unia_med.errors import UserError
from unia_med.labels import BACKGROUND, IGNORE

if TYPE_CHECKING:
    from unia_med.config.data import DataConfig

CLASSES_FILE = "classes.json"
"""File next to predictions that gives the name of each label value."""

_NAME_THEM = "Name the classes by --config or --classes (NAME,... or VALUE=NAME,...), or give the right files"


@dataclass(frozen=True)
class LabelScheme:
    """What the numbers in label files and in predictions mean.

    Attributes:
        names: Classes that are scored.
        values: In label files, the values of each scored class (several for merged classes).
        predicted: In predictions, the value of each scored class.
        others: Values of label files that count as background, next to 0.

    Example:
        >>> scheme = LabelScheme.numbered(["LIVER", "SPLEEN"])
        >>> scheme.labels(np.array([0, 2, 255]), ignore=True), scheme.prediction(np.array([0, 1, 1]))
        (array([  0,   2, 255], dtype=uint8), array([0, 1, 1], dtype=uint8))
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    predicted: tuple[int, ...]
    others: frozenset[int] = frozenset()

    @classmethod
    def numbered(cls, names: Iterable[str]) -> LabelScheme:
        """Return the scheme of classes numbered 1, 2, 3, ... in labels as in predictions."""
        return cls.of_values({value: name for value, name in enumerate(names, start=1)})

    @classmethod
    def of_values(cls, names: Mapping[int, str]) -> LabelScheme:
        """Return the scheme of classes by their value, the same in labels and in predictions."""
        ordered = sorted(names)
        return cls(tuple(names[v] for v in ordered), tuple((v,) for v in ordered), tuple(ordered))

    @classmethod
    def configured(cls, data: DataConfig) -> LabelScheme:
        """Return the scheme of a config; of merged classes the merged ones, since that is what such a run predicts."""
        from unia_med.data.layouts.acdc import CLASS_VALUES, KNOWN_VALUES

        groups = data.groups or {name: [name] for name in data.classes}
        by_name = data.name == "acdc" and data.class_values is None  # a subset of ACDC's classes keeps their values
        numbers = {name: CLASS_VALUES[name] if by_name else value for name, value in data.mask_values.items()}
        values = tuple(tuple(numbers[member] for member in members) for members in groups.values())
        others = KNOWN_VALUES if by_name else data.background_values
        return cls(tuple(groups), values, tuple(range(1, len(groups) + 1)), frozenset(others))

    def labels(self, array: np.ndarray, ignore: bool = False) -> np.ndarray:
        """Return the uint8 classes 0..T of a label file's voxels.

        Args:
            array: Its voxels.
            ignore: 255 stands for pixels that do not count, as in PNG masks, unless it is a class: they become IGNORE.
        """
        known = {BACKGROUND, *self.others, *itertools.chain.from_iterable(self.values)}
        _check_values(array, known | {IGNORE} if ignore else known, "the label")
        if ignore and IGNORE not in known:
            check_not_all_ignored(array)
        return relabel(array, self.values, ignore)

    def prediction(self, array: np.ndarray) -> np.ndarray:
        """Return the uint8 classes 0..T of a prediction's voxels."""
        _check_values(array, {BACKGROUND, *self.predicted}, "the prediction")
        return relabel(array, self.predicted)


def plain_labels(array: np.ndarray, what: str, ignore: bool = False) -> np.ndarray:
    """Return the uint8 voxels of a file whose classes nobody named.

    Args:
        array: Its voxels.
        what: Whether it is "the label" or "the prediction", for the message.
        ignore: As for `LabelScheme.labels`.

    Raises:
        UserError: A voxel is no whole number from 0 to 254.
    """
    wrong = [v for v in np.unique(array).tolist() if v != round(v) or not 0 <= v < IGNORE + ignore]
    if wrong:
        shown = ", ".join(f"{value:g}" for value in wrong[:6])
        raise UserError(f"{what} holds the values {shown}, expected whole numbers from 0 to 254", remedy=_NAME_THEM)
    if ignore:
        check_not_all_ignored(array)
    return array.astype(np.uint8)


def check_not_all_ignored(array: np.ndarray) -> None:
    """Refuse a mask of 0 and 255 alone: 255 is then a class that nobody named, and not the border of one."""
    if only_ignored(array):
        remedy = "Name the class of 255: --classes 255=NAME, or data.class_values of the config"
        raise UserError("the label holds only 0 and 255, and 255 marks pixels that do not count", remedy=remedy)


def parse_classes(names: Sequence[str] | Mapping[int, str]) -> LabelScheme:
    """Return the scheme of classes that a user named.

    Args:
        names: In order of the values 1, 2, 3, ...; or, for other values, name by value, or texts such as `4=LV`.

    Raises:
        UserError: A name or value is missing or given twice.

    Example:
        >>> parse_classes(["4=LV", "1=RV"]).values
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
            raise UserError(what, where="--classes", remedy="Write for example --classes RV,MYO,LV")
        named[int(value)] = name.strip()
    if not named or len(set(named.values())) < len(named):
        raise UserError(f"classes {listed} are none, or one is named twice", "--classes", "Name each class once")
    return LabelScheme.of_values(named)


def classes_next_to(predictions: Path) -> LabelScheme | None:
    """Return the scheme that `classes.json` next to predictions gives; None where there is none.

    Args:
        predictions: Folder of predictions, or one file.

    Raises:
        UserError: The file cannot be read, or is no mapping from value to name.
    """
    path = (predictions if predictions.is_dir() else predictions.parent) / CLASSES_FILE
    if not path.is_file():
        return None
    remedy = 'It holds the name of each label value, as {"1": "LIVER", "2": "SPLEEN"}; correct or remove it'
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        named = {int(value): str(name) for value, name in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"cannot be read as class names ({error})", where=path, remedy=remedy) from error
    named.pop(BACKGROUND, None)
    if not named or not all(0 < value <= IGNORE for value in named):
        raise UserError("names no class", where=path, remedy=remedy)
    return LabelScheme.of_values(named)


def _check_values(array: np.ndarray, known: set[int], what: str) -> None:
    foreign = sorted(set(np.unique(array).tolist()) - known)
    if foreign:
        shown = ", ".join(f"{value:g}" for value in foreign[:6]) + (", ..." if len(foreign) > 6 else "")
        expected = ", ".join(map(str, sorted(known - {IGNORE})))
        raise UserError(f"{what} holds the values {shown}, expected {expected}", remedy=_NAME_THEM)
