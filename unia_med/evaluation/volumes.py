"""Scores folders of predicted volumes against folders of labels, without torch.

A case that cannot be scored is reported with its reason and never left out in silence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unia_med.data.io.geometry import GRID_TOLERANCE_MM, corner_distance_mm
from unia_med.data.io.read import read_volume
from unia_med.data.io.suffixes import volume_stem, volume_suffix
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.metrics.surface import HausdorffKind
from unia_med.metrics.table import CaseScores, score_case

PREDICTION_SUFFIXES = ("_seg", "_pred", "")
"""Endings of a prediction's name, in order of preference; the empty one is a file named like its case."""

LABEL_SUFFIX = "_gt"

NO_LABELS = ("_scribble", "_uncertainty", "_seg", "_pred", "_4d")
"""Endings of files that lie beside labels and are none."""


@dataclass(frozen=True)
class LabelScheme:
    """What the numbers in label files and in predictions mean.

    Attributes:
        names: classes that are scored; in predictions the first is 1, the second 2, ...
        values: in label files, the values of each scored class (several for merged classes).
        others: values of label files that count as background, beside 0.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    others: frozenset[int] = frozenset()

    @classmethod
    def plain(cls, names: Iterable[str]) -> LabelScheme:
        """Classes numbered 1, 2, 3, ... in labels as in predictions."""
        names = tuple(names)
        return cls(names, tuple((value,) for value in range(1, len(names) + 1)))

    def labels(self, array: np.ndarray) -> np.ndarray:
        """uint8 classes 0..T of a label file's voxels."""
        known = {0, *self.others, *itertools.chain.from_iterable(self.values)}
        _check_values(array, known, "the label")
        labels = np.zeros(array.shape, np.uint8)
        for number, values in enumerate(self.values, start=1):
            labels[np.isin(array, values)] = number
        return labels

    def prediction(self, array: np.ndarray) -> np.ndarray:
        """uint8 classes 0..T of a prediction's voxels."""
        _check_values(array, set(range(len(self.names) + 1)), "the prediction")
        return array.astype(np.uint8)


@dataclass
class Evaluation:
    """Score of the cases that could be scored, and the reasons why others could not.

    Attributes:
        scores: in order of the cases; each frame of a 4D volume is a case of its own, `NAME#t01` being the first.
        faults: reason by case.
        unused: predictions for which there was no label.
    """

    scores: list[CaseScores] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    unused: list[Path] = field(default_factory=list)


def find_labels(folder: Path) -> dict[str, Path]:
    """Label files by case, searched in sub-folders too.

    Where any file is called `X_gt`, the `X_gt` are the labels (of cases X) and all other files are not, as in ACDC's
    folders, where images lie beside them. Otherwise every volume is a label.

    Args:
        folder: folder of labels, or one label file.
    """
    files = _volumes(folder, "labels")
    marked = [path for path in files if volume_stem(path).endswith(LABEL_SUFFIX)]
    labels: dict[str, Path] = {}
    for path in marked or files:
        stem = volume_stem(path)
        if not marked and stem.endswith(NO_LABELS):
            continue
        case = stem.removesuffix(LABEL_SUFFIX)
        if case in labels:
            raise UserError(f"two labels of case {case}: {labels[case]} and this", path, "Remove or rename one")
        labels[case] = path
    return labels


def find_predictions(folder: Path) -> dict[str, list[Path]]:
    """Prediction files by case, of the preferred ending; more than one path means that the name is not unique.

    Args:
        folder: folder of predictions, or one file.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for path in _volumes(folder, "predictions"):
        stem = volume_stem(path)
        if stem.endswith(("_uncertainty", LABEL_SUFFIX)):
            continue
        suffix = next(suffix for suffix in PREDICTION_SUFFIXES if stem.endswith(suffix))
        name = stem.removesuffix(suffix)
        inside = Path(name) if folder.is_file() else path.parent.relative_to(folder) / name
        # In a sub-folder a file goes by its path, for cases that are called "site1/scan", and by its name alone.
        for case in {name, inside.as_posix()}:
            found.setdefault(case, {}).setdefault(suffix, []).append(path)
    return {case: next(paths[s] for s in PREDICTION_SUFFIXES if s in paths) for case, paths in found.items()}


def evaluate(
    labels: Mapping[str, Path],
    predictions: Mapping[str, list[Path]],
    scheme: LabelScheme,
    hd95: HausdorffKind = "max",
) -> Iterator[tuple[str, list[CaseScores] | UserError]]:
    """Score case by case: per label its name and its scores (one per frame), or what is wrong with it.

    Args:
        labels: label file by case.
        predictions: prediction files by case.
        scheme: meaning of the values in both.
        hd95: definition of HD95.
    """
    for case, label in labels.items():
        try:
            yield case, _score_files(case, label, predictions.get(case, []), scheme, hd95)
        except UserError as error:
            yield case, error


def _score_files(
    case: str, label_path: Path, found: list[Path], scheme: LabelScheme, hd95: HausdorffKind
) -> list[CaseScores]:
    if not found:
        raise UserError("there is no prediction (a file X_seg, X or X_pred for case X)")
    if len(found) > 1:
        raise UserError(f"there are {len(found)} predictions: {', '.join(map(str, found))}", remedy="Keep one")
    label, prediction = read_volume(label_path), read_volume(found[0])
    _check_grid(prediction, label)
    true, predicted = scheme.labels(label.array), scheme.prediction(prediction.array)
    spacing = label.spacing_mm
    if true.ndim == 3:
        return [score_case(case, predicted, true, scheme.names, spacing, hd95)]
    names = (f"{case}#t{frame + 1:02d}" for frame in range(label.frames))
    return [
        score_case(name, predicted[..., t], true[..., t], scheme.names, spacing, hd95) for t, name in enumerate(names)
    ]


def _volumes(folder: Path, what: str) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, remedy=f"Check --{what}")
    files = sorted(p for p in folder.rglob("*") if volume_suffix(p) and not p.name.startswith(".") and p.is_file())
    if not files:
        raise UserError("holds no volume (.nii.gz, .nii, .nrrd, .mha, .mhd)", where=folder, remedy=f"Check --{what}")
    return files


def _check_values(array: np.ndarray, known: set[int], what: str) -> None:
    foreign = sorted(set(np.unique(array).tolist()) - known)
    if foreign:
        shown = ", ".join(f"{value:g}" for value in foreign[:6]) + (", ..." if len(foreign) > 6 else "")
        raise UserError(
            f"{what} holds the values {shown}, expected {', '.join(map(str, sorted(known)))}",
            remedy="Name its classes by --config, or give the right files",
        )


def _check_grid(prediction: Volume, label: Volume) -> None:
    if prediction.shape != label.shape:
        raise UserError(
            f"the prediction has shape {prediction.shape}, the label {label.shape}",
            remedy="Bring the prediction to the grid of its image and label, by nearest neighbour",
        )
    apart = corner_distance_mm(label.shape, prediction.affine, label.affine)
    if apart > GRID_TOLERANCE_MM:
        raise UserError(
            f"prediction and label lie up to {apart:.2f} mm apart by their affines",
            remedy="Write the prediction with its image's affine",
        )
