"""Scores of many cases, and the table, JSON and CSV made from them.

Nothing here lets a score rise because a model found less. A structure in one mask only has Dice 0, no distances, and
counts as a failure, printed beside the mean; a structure in neither mask has no score at all.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.files import write_text
from unia_med.metrics.overlap import dice
from unia_med.metrics.surface import (
    HausdorffKind,
    average_surface_distance_mm,
    hausdorff95_mm,
    surface_distances,
)

METRICS = ("dice", "hd95_mm", "asd_mm")
Scores = dict[str, float | None]


@dataclass(frozen=True)
class CaseScores:
    """Score of one volume: one number, or None, per class name."""

    case: str
    dice: Scores
    hd95_mm: Scores
    asd_mm: Scores

    def failed(self, name: str) -> bool:
        """Whether class ``name`` is in one of the two masks only."""
        return self.dice[name] is not None and self.hd95_mm[name] is None


def score_case(
    case: str,
    prediction: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
    spacing_mm: Sequence[float],
    hd95: HausdorffKind = "max",
) -> CaseScores:
    """Score of one predicted volume against its label.

    Args:
        case: name for the table.
        prediction: integer volume (X, Y, Z), values 0 (background) to T.
        label: the same shape and codes.
        classes: the T class names; the first has value 1.
        spacing_mm: voxel size along X, Y, Z.
        hd95: definition of HD95, see ``hausdorff95_mm``.
    """
    scores = CaseScores(case, {}, {}, {})
    for value, name in enumerate(classes, start=1):
        predicted, true = prediction == value, label == value
        scores.dice[name] = dice(predicted, true)
        distances = surface_distances(predicted, true, spacing_mm)
        scores.hd95_mm[name] = None if distances is None else hausdorff95_mm(distances, hd95)
        scores.asd_mm[name] = None if distances is None else average_surface_distance_mm(distances)
    return scores


def summarise(classes: Sequence[str], cases: Iterable[CaseScores]) -> dict[str, Any]:
    """Return the whole table as plain types, in the shape that ``evaluate`` writes as JSON.

    ``mean`` and ``std`` are over the cases that have a score. Their entry ``mean`` is, in ``mean``, the mean of the
    class means, and in ``std`` the spread of the cases' own class averages. ``std`` is the population's (no Bessel
    correction), as in numpy. ``failures`` counts, per class, the cases where it is in one mask only.
    """
    rows = list(cases)
    return {
        "classes": list(classes),
        "cases": [{"case": row.case, **{metric: dict(getattr(row, metric)) for metric in METRICS}} for row in rows],
        "mean": {metric: _means(classes, [getattr(row, metric) for row in rows]) for metric in METRICS},
        "std": {metric: _deviations(classes, [getattr(row, metric) for row in rows]) for metric in METRICS},
        "failures": {name: sum(row.failed(name) for row in rows) for name in classes},
    }


def write_table(table: Mapping[str, Any], path: Path) -> None:
    """Write what ``summarise`` gave, as CSV when the suffix is ``.csv`` and as JSON otherwise.

    The file appears whole or not at all.
    """
    text = to_csv(table) if path.suffix.lower() == ".csv" else json.dumps(table, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def to_csv(table: Mapping[str, Any]) -> str:
    """One row per case, then ``mean``, ``std`` and ``failures``; an empty cell is a null.

    A class named X has the columns ``X dice``, ``X hd95_mm`` and ``X asd_mm``; its failures stand below its Dice.
    """
    classes = table["classes"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", *(f"{name} {metric}" for metric in METRICS for name in classes)])
    rows = [*table["cases"], {"case": "mean", **table["mean"]}, {"case": "std", **table["std"]}]
    for row in rows:
        writer.writerow([row["case"], *(_cell(row[metric][name]) for metric in METRICS for name in classes)])
    blanks = [""] * (len(classes) * (len(METRICS) - 1))
    writer.writerow(["failures", *(table["failures"][name] for name in classes), *blanks])
    return stream.getvalue()


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
