"""Scores case by case: Dice and surface distances of each volume, picture or frame by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.metrics.overlap import dice
from unia_med.metrics.surface import HausdorffKind
from unia_med.metrics.table import CaseScores, LengthUnit, Scores, score_case


@dataclass
class CaseAccumulator:
    """Gathers Dice, HD95 and ASD per class of one case after the other.

    Attributes:
        classes: Names of the T classes; None where they are not known: then they are `class 1`, `class 2`, ... up to
            the largest value that any case holds.
        hd95: Definition of HD95, see `metrics.surface.hausdorff95`.
        distances: Whether distances are wanted; Dice alone is faster.
    """

    classes: Sequence[str] | None
    hd95: HausdorffKind = "max"
    distances: bool = True
    _cases: list[CaseScores] = field(default_factory=list)

    def add(
        self, case: str, predicted: np.ndarray, true: np.ndarray, spacing: Sequence[float], unit: LengthUnit = "mm"
    ) -> None:
        """Score one case.

        Args:
            case: Its name.
            predicted: Labels 0..T, (X, Y, Z), or (H, W) of a picture.
            true: The same shape; IGNORE where nothing is known, which counts as background in both.
            spacing: Size of a voxel along each axis.
            unit: Of the spacing.
        """
        known = true != IGNORE
        if not known.all():
            predicted, true = np.where(known, predicted, BACKGROUND), np.where(known, true, BACKGROUND)
        names = self.classes
        if names is None:
            names = numbered_names(max(int(predicted.max(initial=0)), int(true.max(initial=0))))
        if self.distances:
            self._cases.append(score_case(case, predicted, true, names, spacing, self.hd95, unit))
        else:
            found: Scores = {name: dice(predicted == k, true == k) for k, name in enumerate(names, start=1)}
            nothing: Scores = dict.fromkeys(names)
            self._cases.append(CaseScores(case, found, nothing, dict(nothing), unit))

    @property
    def cases(self) -> list[CaseScores]:
        """Scores of the cases so far; classes that a case lacks have none."""
        names = self.names
        return [_filled(case, names) for case in self._cases]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes so far."""
        if self.classes is not None:
            return tuple(self.classes)
        return numbered_names(max((len(case.dice) for case in self._cases), default=0))

    def means(self) -> dict[str, float]:
        """Return the mean Dice over cases by class; NaN for a class that no case holds."""
        rows = np.array([[case.dice[name] for name in self.names] for case in self.cases], dtype=float)
        return dict(zip(self.names, column_means(rows.reshape(-1, len(self.names))), strict=True))

    def extend(self, cases: Sequence[CaseScores]) -> None:
        """Add the scores of another accumulator, such as that of another process."""
        self._cases.extend(cases)


def numbered_names(count: int) -> tuple[str, ...]:
    """Return default names of classes, `class 1`, `class 2`, ...

    Example:
        >>> numbered_names(2)
        ('class 1', 'class 2')
    """
    return tuple(f"class {value}" for value in range(1, count + 1))


def column_means(table: np.ndarray) -> list[float]:
    """Return the means of columns over what is not NaN; NaN where nothing is."""
    return [
        float(np.mean(column[~np.isnan(column)])) if (~np.isnan(column)).any() else float("nan") for column in table.T
    ]


def _filled(case: CaseScores, names: Sequence[str]) -> CaseScores:
    if len(case.dice) == len(names):
        return case
    dice, hd95, asd = ({name: scores.get(name) for name in names} for scores in (case.dice, case.hd95, case.asd))
    return replace(case, dice=dice, hd95=hd95, asd=asd)
