"""Weak labels as volumes: the values in a file, where a case's file lies, and reading it.

A volume of points, scribbles, blocks or masks holds the values of the masks, 0 for annotated background, and one above
the highest class value where nothing was annotated: in ACDC 1, 2, 3, 0 and 4, as in its published scribbles. A volume
of boxes holds the sum of 1 for the first class, 2 for the second, 4 for the third, ... over the boxes that cover a
voxel and 0 outside all of them: overlapping boxes stay apart, and a viewer shows each overlap in its own colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.config.weak_labels import DEFAULT_SUFFIXES, LabelSource
from unia_med.data.checks import DataFault, raise_faults
from unia_med.data.io.label_file import LabelFile, by_class_values, is_background_name, onto_image
from unia_med.data.io.read import read_header
from unia_med.data.io.read_labels import read_label_file
from unia_med.data.io.suffixes import LABEL_SUFFIXES
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError
from unia_med.labels import BACKGROUND, IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig
    from unia_med.data.dataset import CaseDataset

MOST_BOX_CLASSES = 8
"""Bits of a voxel."""

STROKES = ("scribbles", "points")
"""Kinds that are thinner than a voxel of a coarser grid."""

_NAMED = 1 << 20  # value of such a segment; no file contains it


def encode(labels: np.ndarray, class_values: Sequence[int], ignore_value: int) -> np.ndarray:
    """Return the uint8 volume of labels 0..T and IGNORE, as it is written.

    Args:
        labels: uint8, any shape.
        class_values: Value of each of the T classes.
        ignore_value: Value of pixels without annotation.
    """
    table = np.full(256, ignore_value, np.uint8)
    table[BACKGROUND] = BACKGROUND
    table[1 : len(class_values) + 1] = class_values
    return table[labels]


def encode_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return the uint8 volume (X, Y, Z) of filled boxes (T, X, Y, Z): the sum of 2^t over those that cover a voxel."""
    if len(boxes) > MOST_BOX_CLASSES:
        raise UserError(
            f"boxes of {len(boxes)} classes do not fit into the {MOST_BOX_CLASSES} bits of a voxel",
            where="data.classes",
            remedy="Leave out classes, or write the boxes of some at a time",
        )
    bits = np.uint8(1) << np.arange(len(boxes), dtype=np.uint8)
    return (boxes * bits[:, None, None, None]).sum(0).astype(np.uint8)


def decode_boxes(volume: np.ndarray, classes: int) -> np.ndarray:
    """Return bool (T, ...): which voxels the boxes of each class cover."""
    bits = np.uint8(1) << np.arange(classes, dtype=np.uint8)
    return (volume.astype(np.uint8) & bits.reshape(-1, *[1] * volume.ndim)) > 0


def not_annotated(dataset: CaseDataset) -> int:
    """Return the value that stands for "not annotated": one above the highest class value, 255 where there is none."""
    return min(max((*dataset.class_values, *dataset.own_values)) + 1, IGNORE)


def find_files(source: LabelSource, cases: Sequence[CaseFiles], config: DataConfig) -> dict[str, Path]:
    """Return the label file of each case that has one.

    Args:
        source: Says the folder and the ending of the names, or leaves both to the data set.
        cases: Cases to look for.
        config: Says from where a relative folder counts.

    Raises:
        UserError: The folder does not exist, or not one case has a file.
    """
    if source.folder is not None:
        folder = config.located(source.folder)
        if not folder.is_dir():
            what = f"no such folder, in data.root ({config.root}) or here"
            raise UserError(what, where=source.folder, remedy="Correct data.labels: folder")
        source = source.model_copy(update={"folder": folder})
    endings = DEFAULT_SUFFIXES[source.kind] if source.suffix is None else (source.suffix,)
    found = {case.name: path for case in cases if (path := _file_of(case, source, endings))}
    if not found:
        place = source.folder or "next to the images"
        names = " or ".join(f"{cases[0].name}{ending}.nii.gz" for ending in endings)
        raise UserError(
            f"no {source.kind} for any of {len(cases)} cases; looked {place} for files such as {names}",
            where="data.labels",
            remedy="Set folder and suffix, or make them with `unia-med weaken`",
        )
    return found


def read_labels(path: Path, case: CaseFiles, source: LabelSource, dataset: CaseDataset) -> np.ndarray:
    """Return uint8 labels (X, Y, Z) on the grid of the image, 0..T in the order of the classes and IGNORE.

    Segments that the file names like classes are recognised by their names, and one that is called background is
    background; else values count.

    Args:
        path: The file, on any grid that overlaps the image's; see `read_label_file`.
        case: Whose it is.
        source: Settings of its values.
        dataset: Gives classes and their values in masks.

    Raises:
        UserError: A file that cannot be read, that does not overlap the image, or values that mean nothing.
    """
    image = read_header(case.image)
    file = read_label_file(path, image)
    values, table = class_values(source, dataset), _values(source, dataset)
    names = [*dataset.classes]
    if background := named_background(file):
        names, values, table = [*names, background], [*values, _NAMED], table | {_NAMED: BACKGROUND, 0.0: IGNORE}
    volume = by_class_values(file, names, values)
    found = np.unique(volume)
    foreign = [float(value) for value in found if value not in table]
    if foreign:
        fault = DataFault(
            path,
            f"values {', '.join(f'{value:g}' for value in foreign[:8])}{_names_of(foreign, volume, file)}",
            f"only {sorted(value for value in table if value != _NAMED)}",
            "Set values, background_value and ignore_value of this entry of data.labels",
        )
        raise_faults([fault])
    labels = np.full(volume.shape, IGNORE, np.uint8)
    for value in found:
        labels[volume == value] = table[value]
    # What a viewer cropped away is what it writes where nothing is drawn; beyond any other file nothing is known.
    outside = table[0.0] if file.cropped or source.kind == "masks" else IGNORE
    return onto_image(labels, file, image, outside, IGNORE if source.kind in STROKES else None)


def read_boxes(path: Path, case: CaseFiles, dataset: CaseDataset, source: LabelSource | None = None) -> np.ndarray:
    """Return bool (T, X, Y, Z), the filled boxes of each class on the grid of the image.

    Args:
        path: The file.
        case: Whose it is.
        dataset: Gives the classes.
        source: Settings; where it gives `values`, or where the file names its segments, a voxel holds the value of one
            class, as viewers write it. Else it holds a bit per class.
    """
    image = read_header(case.image)
    file = read_label_file(path, image)
    if (source is not None and source.values is not None) or file.names:
        values = class_values(source or LabelSource(kind="boxes"), dataset)
        volume = onto_image(by_class_values(file, dataset.classes, values), file, image)
        return np.stack([volume == value for value in values])
    volume = onto_image(file.array, file, image)
    classes = len(dataset.classes)
    if volume.min() < 0 or volume.max() >= 2**classes or (volume != np.rint(volume)).any():
        found = f"values from {volume.min():g} to {volume.max():g}"
        remedy = "A box volume adds 1 for the first class, 2 for the second, 4 for the third (`unia-med weaken --help`)"
        raise_faults([DataFault(path, found, f"whole numbers from 0 to {2**classes - 1}", remedy)])
    return decode_boxes(volume, classes)


def named_background(file: LabelFile) -> str | None:
    """Return the name of the segment in which a file marks background, or None."""
    return next((name for name in file.names.values() if is_background_name(name)), None)


def class_values(source: LabelSource, dataset: CaseDataset) -> list[int]:
    """Return the value of each class in files of weak labels, in the order of the classes."""
    values = dict(zip(dataset.classes, dataset.class_values, strict=True))
    if source.values is not None:
        if set(source.values) != set(values):
            raise UserError(
                f"values are given for {sorted(source.values)}, the classes are {sorted(values)}",
                where="data.labels: values",
                remedy="Give one value per class",
            )
        values = dict(source.values)
    return [values[name] for name in dataset.classes]


def _file_of(case: CaseFiles, source: LabelSource, endings: Sequence[str]) -> Path | None:
    if source.folder is None and source.suffix is None and source.kind in case.labels:
        return case.labels[source.kind]
    folder = source.folder or case.image.parent
    # In a folder of its own a label may bear the name of the case; next to the image that is the image.
    names = [f"{case.name if source.folder else case.name.rpartition('/')[2]}{ending}" for ending in endings]
    names += [case.name] if source.folder else []
    paths = (folder / f"{name}{suffix}" for name in names for suffix in LABEL_SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def _values(source: LabelSource, dataset: CaseDataset) -> dict[float, int]:
    """Return the label of each value that a file may hold; what is given wins over what is assumed."""
    others = dataset.own_values if source.values is None else ()
    table: dict[float, int] = {0.0: IGNORE}  # unless background or a class has this value
    table |= {float(value): BACKGROUND for value in others}  # classes that nobody asked for
    table |= {float(value): label for label, value in enumerate(class_values(source, dataset), start=1)}
    if source.background_value is not None:
        table[float(source.background_value)] = BACKGROUND
    if source.ignore_value is not None:
        table[float(source.ignore_value)] = IGNORE
    elif source.kind != "masks":
        table.setdefault(float(not_annotated(dataset)), IGNORE)
    given = {float(value) for value in (*class_values(source, dataset), source.background_value) if value is not None}
    return table if float(IGNORE) in given else table | {float(IGNORE): IGNORE}


def _names_of(values: Sequence[float], volume: np.ndarray, file: LabelFile) -> str:
    """Return the names of the segments that have values, in brackets; nothing where the file has none."""
    stored = [int(file.array[volume == value][0]) for value in values]
    names = [file.names[value] for value in stored if value in file.names]
    return f" ({', '.join(names[:8])})" if names else ""
