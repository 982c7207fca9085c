"""Scores of many cases, and the table, JSON and CSV made from them.

Nothing here lets a score rise because a model found less. A structure in one mask only has Dice 0, no distances, and
counts as a failure, printed next to the mean; a structure in neither mask has no score at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unia_med import files
from unia_med.metrics.confusion import METRICS as REGION_METRICS
from unia_med.metrics.confusion import RegionScores
from unia_med.metrics.overlap import dice
from unia_med.metrics.surface import (
    HausdorffKind,
    average_surface_distance,
    hausdorff95,
    surface_distances,
)
from unia_med.names import spreadsheet_text

LengthUnit = Literal["mm", "px"]
"""Unit of the distances of a case: mm where its files have a geometry, pixels where they have none."""

Scores = dict[str, float | None]

BACKGROUND_NAME = "background"

SET_ROW = "set"
"""Name of the CSV row that holds what is counted over all cases together."""


@dataclass(frozen=True)
class CaseScores:
    """Scores of one volume or image: one number, or None, per class name; distances in `unit`."""

    case: str
    dice: Scores
    hd95: Scores
    asd: Scores
    unit: LengthUnit = "mm"

    def failed(self, name: str) -> bool:
        """Whether class ``name`` is in one of the two masks only."""
        return self.dice[name] is not None and self.hd95[name] is None

    def values(self) -> dict[str, Scores]:
        """Return the scores by the name of their metric, such as `dice` and `hd95_mm`."""
        return {"dice": self.dice, f"hd95_{self.unit}": self.hd95, f"asd_{self.unit}": self.asd}


def score_case(
    case: str,
    prediction: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
    spacing: Sequence[float],
    hd95: HausdorffKind = "max",
    unit: LengthUnit = "mm",
) -> CaseScores:
    """Score one predicted volume against its label.

    Args:
        case: Name for the table.
        prediction: Integer volume (X, Y, Z), values 0 (background) to T.
        label: The same shape and codes.
        classes: The T class names; the first has value 1.
        spacing: Voxel size along X, Y, Z, in ``unit``.
        hd95: Definition of HD95, see ``hausdorff95``.
        unit: Of the distances.
    """
    scores = CaseScores(case, {}, {}, {}, unit)
    boxes = zip(*(_class_boxes(array, len(classes)) for array in (prediction, label)), strict=True)
    for value, (name, found) in enumerate(zip(classes, boxes, strict=True), start=1):
        box = _around(found)
        predicted, true = prediction[box] == value, label[box] == value
        scores.dice[name] = dice(predicted, true)
        distances = surface_distances(predicted, true, spacing)
        scores.hd95[name] = None if distances is None else hausdorff95(distances, hd95)
        scores.asd[name] = None if distances is None else average_surface_distance(distances)
    return scores


def _class_boxes(labels: np.ndarray, classes: int) -> list[tuple[slice, ...] | None]:
    """Return the box around each class, None for one that is absent; one look at all voxels for all classes."""
    from scipy.ndimage import find_objects  # slow to import

    return find_objects(labels, classes) if classes else []


def _around(boxes: Sequence[tuple[slice, ...] | None]) -> tuple[slice, ...]:
    """Return the box around boxes; an empty one where there is none."""
    present = [box for box in boxes if box is not None]
    if not present:
        return (slice(0, 0),)
    return tuple(slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*present, strict=True))


def summarise(classes: Sequence[str], cases: Iterable[CaseScores]) -> dict[str, Any]:
    """Return the table of cases as plain types, in the shape that ``evaluate`` writes as JSON.

    ``mean`` and ``std`` are over the cases that have a score. Their entry ``mean`` is, in ``mean``, the mean of the
    class means, and in ``std`` the spread of the cases' own class averages. ``std`` is the population's (no Bessel
    correction), as in numpy. ``failures`` counts, per class, the cases where it is in one mask only. A set of both
    units has both kinds of distance, each null where a case has the other.
    """
    rows = list(cases)
    metrics = _metrics(rows)
    nothing: Scores = dict.fromkeys(classes)
    columns = {metric: [row.values().get(metric, nothing) for row in rows] for metric in metrics}
    return {
        "classes": list(classes),
        "cases": [
            {"case": row.case, **{metric: dict(columns[metric][index]) for metric in metrics}}
            for index, row in enumerate(rows)
        ],
        "mean": {metric: _means(classes, columns[metric]) for metric in metrics},
        "std": {metric: _deviations(classes, columns[metric]) for metric in metrics},
        "failures": {name: sum(row.failed(name) for row in rows) for name in classes},
    }


def summarise_set(classes: Sequence[str], found: RegionScores, cases: int) -> dict[str, Any]:
    """Return the scores of all pixels counted together, as plain types: the entry ``set`` of the JSON.

    Per metric (IoU, precision, recall, FP / TP) and class, background being one; ``mean`` is over the classes that
    occur in the true masks, and ``undefined`` counts those of them that have no value and are missing in it.

    Args:
        classes: Names of the T classes without background.
        found: Of the confusion matrix.
        cases: How many were counted.
    """
    names = (BACKGROUND_NAME, *classes)
    metrics = {
        metric: {**dict(zip(names, getattr(found, metric), strict=True)), "mean": found.mean(metric)}
        for metric in REGION_METRICS
    }
    return {
        "cases": cases,
        **metrics,
        "occurs": dict(zip(names, found.occurs, strict=True)),
        "undefined": {metric: found.undefined(metric) for metric in REGION_METRICS},
    }


def write_table(table: Mapping[str, Any], path: Path) -> None:
    """Write a table, as CSV when the suffix is ``.csv`` and as JSON otherwise; the file appears whole or not at all."""
    if path.suffix.lower() == ".csv":
        files.write_text(path, to_csv(table))
    else:
        files.write_json(path, dict(table))


def to_csv(table: Mapping[str, Any]) -> str:
    """Return a row per case, then ``mean``, ``std`` and ``failures``, then ``set``; an empty cell is a null.

    A class named X has the columns ``X dice``, ``X hd95_mm`` and ``X asd_mm``; its failures stand below its Dice. What
    is counted over the whole set (``X iou``, ...) has columns of its own, with values in the row ``set``.
    """
    rows = [*_case_rows(table), *_set_rows(table)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writerow({name: spreadsheet_text(name) for name in columns})  # classes may be called like formulas, too
    writer.writerows(rows)
    return stream.getvalue()


def _case_rows(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "mean" not in table:
        return
    classes, metrics = table["classes"], list(table["mean"])
    rows = [*table["cases"], {"case": "mean", **table["mean"]}, {"case": "std", **table["std"]}]
    for row in rows:
        cells = {f"{name} {metric}": _cell(row[metric][name]) for metric in metrics for name in classes}
        yield {"case": spreadsheet_text(str(row["case"])), **cells}
    yield {"case": "failures", **{f"{name} dice": table["failures"][name] for name in classes}}


def _set_rows(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    found = table.get("set")
    if found is not None:
        cells = {f"{name} {m}": _cell(value) for m in REGION_METRICS for name, value in found[m].items()}
        yield {"case": SET_ROW, **cells}


def _metrics(rows: Sequence[CaseScores]) -> list[str]:
    """Names of the metrics that the cases have; those of mm where there is no case."""
    units = [unit for unit in ("mm", "px") if any(row.unit == unit for row in rows)] or ["mm"]
    return ["dice", *(f"{metric}_{unit}" for unit in units for metric in ("hd95", "asd"))]


def _cell(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    present = _present(values)
    return float(np.mean(present)) if present else None


def _deviation(values: Iterable[float | None]) -> float | None:
    present = _present(values)
    return float(np.std(present)) if present else None


def _means(classes: Sequence[str], rows: Sequence[Scores]) -> Scores:
    means: Scores = {name: _mean(row[name] for row in rows) for name in classes}
    return {**means, "mean": _mean(means.values())}


def _deviations(classes: Sequence[str], rows: Sequence[Scores]) -> Scores:
    deviations: Scores = {name: _deviation(row[name] for row in rows) for name in classes}
    return {**deviations, "mean": _deviation(_mean(row.values()) for row in rows)}
