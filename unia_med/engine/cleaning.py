"""Post-processing chosen on validation masks: what raises the mean Dice of cases that a network did not train on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unia_med.inference.postprocess import postprocess
from unia_med.labels import BACKGROUND, IGNORE
from unia_med.metrics.overlap import dice

LEAST_GAIN = 0.001
"""Rise of the mean Dice from which a step is worth having; less is chance, and every step can delete what is true."""

_LARGEST = (False, True, "foreground")
_OPTIONS: list[dict[str, Any]] = [
    {"largest_component": largest, "fill_holes": fill, "slice_gaps": gaps}
    for largest, fill, gaps in itertools.product(_LARGEST, (False, True), (False, True))
]


@dataclass(frozen=True)
class Cleaning:
    """What was chosen.

    Attributes:
        steps: settings of `inference.postprocess`, classes by name.
        dice: mean Dice with it, over cases and then classes.
        plain: mean Dice of the masks as the networks gave them.
        cases: number of masks it was chosen on.
    """

    steps: dict[str, Any]
    dice: float
    plain: float
    cases: int

    def __str__(self) -> str:
        """Return one line for the log."""
        chosen = {name.replace("_", " "): value for name, value in self.steps.items() if value}
        text = "; ".join(f"{name} of {', '.join(v)}" if isinstance(v, list) else name for name, v in chosen.items())
        scores = f"mean Dice {self.dice:.3f}, without any {self.plain:.3f}"
        return f"post-processing chosen on {self.cases} validation masks: {text or 'none'} ({scores})"


def choose_cleaning(pairs: Iterable[tuple[np.ndarray, np.ndarray]], classes: Sequence[str]) -> Cleaning:
    """Return the steps with the highest mean Dice, the fewer where the gain is small; none unless they help.

    The largest component is judged class by class, since it changes the Dice of no other class.

    Args:
        pairs: predicted and true labels (X, Y, Z) of each case, slices along the third axis; true ones may be IGNORE.
        classes: names of the labels 1, 2, 3, ...
    """
    tables = np.array([_scores(predicted, true, len(classes)) for predicted, true in pairs])  # (cases, options, T)
    with np.errstate(invalid="ignore"):
        counts = (~np.isnan(tables)).sum(0)
        means = np.where(counts, np.nansum(tables, 0) / np.maximum(counts, 1), np.nan)  # (options, T)
    found = [_judged(option, means, classes) for option in range(len(_OPTIONS))]
    plain = best = found[0]
    for steps, score in sorted(found, key=lambda one: _length(one[0])):
        if score > best[1] + LEAST_GAIN:
            best = (steps, score)
    return Cleaning(best[0], float(best[1]), float(plain[1]), len(tables))


def _judged(option: int, means: np.ndarray, classes: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Return the steps of an option, with the largest component of those classes alone that gain, and their score."""
    steps = dict(_OPTIONS[option])
    row = means[option]
    if steps["largest_component"] is True:
        without = means[_OPTIONS.index({**steps, "largest_component": False})]
        gains = row > without + LEAST_GAIN
        row = np.where(gains, row, without)
        steps["largest_component"] = [name for name, gain in zip(classes, gains, strict=True) if gain] or False
    known = row[~np.isnan(row)]
    return steps, float(known.mean()) if known.size else 0.0


def _length(steps: dict[str, Any]) -> int:
    return sum(len(value) if isinstance(value, list) else bool(value) for value in steps.values())


def _scores(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Dice (options, T) of one case; NaN where neither holds the class."""
    known = true != IGNORE
    rows = []
    for steps in _OPTIONS:
        cleaned = np.where(known, postprocess(predicted, **steps), BACKGROUND)
        found = [dice(cleaned == label, true == label) for label in range(1, classes + 1)]
        rows.append([np.nan if value is None else value for value in found])
    return np.array(rows)
