"""Scores predicted label PNGs against masks: mIoU, precision, recall and confusion ratio over all images together."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.data.io.image import read_mask
from unia_med.errors import UserError
from unia_med.files import write_text
from unia_med.labels import IGNORE
from unia_med.metrics.confusion import METRICS, ConfusionMatrix, RegionScores, region_scores

PREDICTION_ENDINGS = ("_seg", "_pred", "")
"""Endings of a prediction's name, in order of preference; the empty one is a file named like its image."""

BACKGROUND_NAME = "background"


@dataclass
class ImageEvaluation:
    """Score of the images that could be scored, and the reasons why others could not.

    Attributes:
        counts: int64 (K, K) confusion matrix; row: true class, column: predicted class.
        images: how many were scored.
        faults: reason by image.
    """

    counts: np.ndarray
    images: int = 0
    faults: dict[str, str] = field(default_factory=dict)


def holds_images(folder: Path) -> bool:
    """Whether a path is a PNG or a folder of PNGs, in which case masks are images and not volumes."""
    if folder.is_file():
        return folder.suffix.lower() == ".png"
    return folder.is_dir() and any(path.suffix.lower() == ".png" for path in folder.iterdir())


def find_label_images(folder: Path) -> dict[str, Path]:
    """Mask PNGs by name, those directly in the folder; an ending `_gt` is no part of the name.

    Args:
        folder: as `SegmentationClass`, or one file.
    """
    return {path.stem.removesuffix("_gt"): path for path in _pngs(folder)}


def find_predicted_images(folder: Path) -> dict[str, Path]:
    """Predicted PNGs by image name, of the preferred ending.

    Args:
        folder: folder of predictions, or one file.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in _pngs(folder):
        if not path.stem.endswith("_uncertainty"):
            ending = next(ending for ending in PREDICTION_ENDINGS if path.stem.endswith(ending))
            found.setdefault(path.stem.removesuffix(ending), {})[ending] = path
    return {name: next(paths[e] for e in PREDICTION_ENDINGS if e in paths) for name, paths in found.items()}


def evaluate_images(
    labels: Mapping[str, Callable[[], np.ndarray]], predictions: Mapping[str, Path], classes: int, seen: Iterable[str]
) -> ImageEvaluation:
    """Return counts the pixels of all images; what cannot be scored is told by name and never left out in silence.

    Args:
        labels: what reads the true labels (H, W) of an image, 0..T with IGNORE, by name.
        predictions: predicted PNG by name.
        classes: T, without background.
        seen: the names in the order of work, as a progress bar gives them.
    """
    import torch

    matrix = ConfusionMatrix(classes + 1)
    done = ImageEvaluation(matrix.counts())
    for name in seen:
        try:
            predicted = _prediction(name, predictions, classes)
            true = labels[name]()
            if predicted.shape != true.shape:
                raise UserError(f"the prediction has size {predicted.shape}, the label {true.shape}")
        except UserError as error:
            done.faults[name] = str(error)
            continue
        matrix.add(torch.from_numpy(predicted), torch.from_numpy(true))
        done.images += 1
    done.counts = matrix.counts()
    return done


def mask_labels(path: Path, values: Sequence[Sequence[int]], others: Iterable[int] = ()) -> np.ndarray:
    """Labels (H, W) of a mask PNG, 0..T with IGNORE.

    Args:
        path: the mask.
        values: values of each class, several for merged ones.
        others: values that count as background, beside 0.
    """
    mask = read_mask(path).array[:, :, 0]
    known = {0, IGNORE, *others, *(value for several in values for value in several)}
    foreign = sorted(set(np.unique(mask).tolist()) - known)
    if foreign:
        shown = ", ".join(map(str, foreign[:6]))
        raise UserError(f"label values {shown} are no class", where=path, remedy="Name the classes by --config")
    labels = np.zeros(mask.shape, np.uint8)
    for number, several in enumerate(values, start=1):
        labels[np.isin(mask, several)] = number
    labels[mask == IGNORE] = IGNORE
    return labels


def summary(classes: Sequence[str], done: ImageEvaluation) -> dict[str, Any]:
    """Return the table as plain types, in the shape that `evaluate` writes as JSON.

    `mean` is over the classes that occur in the true masks, background too; `undefined` counts those of them that have
    no value of a metric and are missing in its mean.

    Args:
        classes: names of the T classes without background.
        done: what was counted.
    """
    found: RegionScores = region_scores(done.counts)
    names = (BACKGROUND_NAME, *classes)
    rows = {
        name: {metric: getattr(found, metric)[index] for metric in METRICS} | {"occurs": found.occurs[index]}
        for index, name in enumerate(names)
    }
    return {
        "images": done.images,
        "classes": rows,
        "mean": {metric: found.mean(metric) for metric in METRICS},
        "undefined": {metric: found.undefined(metric) for metric in METRICS},
        "confusion_matrix": done.counts.tolist(),
    }


def write_summary(table: Mapping[str, Any], path: Path) -> None:
    """Write what `summary` gave, as CSV when the suffix is `.csv` and as JSON otherwise; whole or not at all."""
    text = _csv(table) if path.suffix.lower() == ".csv" else json.dumps(table, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def _csv(table: Mapping[str, Any]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["class", *METRICS])
    rows = {**table["classes"], "mean": table["mean"], "undefined": table["undefined"]}
    for name, row in rows.items():
        writer.writerow([name, *("" if row[metric] is None else repr(row[metric]) for metric in METRICS)])
    return stream.getvalue()


def _prediction(name: str, predictions: Mapping[str, Path], classes: int) -> np.ndarray:
    if name not in predictions:
        raise UserError(f"there is no prediction (a file {name}_seg.png or {name}.png)")
    predicted = read_mask(predictions[name]).array[:, :, 0]
    if predicted.max(initial=0) > classes:
        what = f"the prediction holds the value {predicted.max()}, expected 0 to {classes}"
        raise UserError(what, where=predictions[name], remedy="Name the classes by --config")
    return predicted


def _pngs(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, remedy="Check --predictions and --labels")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith("."))
    if not found:
        raise UserError("holds no PNG", where=folder, remedy="Check --predictions and --labels")
    return found
