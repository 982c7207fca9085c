"""Calibration of confidence, and how well uncertainty finds errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

BINS = 15
"""Bins of a reliability diagram, as in Guo et al. 2017."""

SHARES = (0.01, 0.05, 0.10)
"""Shares of most uncertain voxels that are looked at."""


@dataclass(frozen=True)
class Reliability:
    """Voxels sorted by confidence into bins of equal width over [0, 1]; two of them can be added.

    Attributes:
        count: (M,) voxels per bin.
        confidence: (M,) sum of their confidences.
        correct: (M,) how many of them are right.
    """

    count: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.count + other.count, self.confidence + other.confidence, self.correct + other.correct)

    def mean_confidence(self) -> np.ndarray:
        """(M,) mean confidence of each bin; NaN where a bin is empty."""
        return _ratio(self.confidence, self.count)

    def accuracy(self) -> np.ndarray:
        """(M,) share of right voxels in each bin; NaN where a bin is empty."""
        return _ratio(self.correct, self.count)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Confidence against truth (Guo et al. 2017, section 2).

    Args:
        confidence: probability of the predicted class, any shape, in [0, 1].
        correct: bool, the same shape; whether that class is the true one.
        bins: M; bin m holds confidences in (m/M, (m+1)/M], the first one 0 too.
    """
    confidence, correct = np.ravel(confidence).astype(np.float64), np.ravel(correct).astype(bool)
    if confidence.shape != correct.shape:
        raise ValueError(f"{confidence.size} confidences for {correct.size} voxels")
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return Reliability(
        np.bincount(place, minlength=bins),
        np.bincount(place, confidence, minlength=bins),
        np.bincount(place, correct, minlength=bins).astype(np.int64),
    )


def expected_calibration_error(table: Reliability) -> float | None:
    """Mean over voxels of the gap between a bin's confidence and its accuracy (Guo et al. 2017, eq. 3).

    Returns:
        A number in [0, 1], 0 being perfect; None when there is no voxel.

    >>> expected_calibration_error(reliability(np.array([0.9, 0.9]), np.array([True, False])))
    0.4
    """
    total = int(table.count.sum())
    return float(np.abs(table.confidence - table.correct).sum() / total) if total else None


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Chance that a positive has a larger score than a negative, where equal scores count half.

    Args:
        scores: any shape, such as uncertainties.
        positive: bool, the same shape, such as wrong voxels.

    Returns:
        A number in [0, 1]; None where there are no positives or no negatives.

    >>> area_under_roc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True]))
    0.875
    """
    from scipy.stats import rankdata

    scores, positive = np.ravel(scores), np.ravel(positive).astype(bool)
    if scores.shape != positive.shape:
        raise ValueError(f"{scores.size} scores for {positive.size} voxels")
    count, others = np.count_nonzero(positive), np.count_nonzero(~positive)
    if not count or not others:
        return None
    rank_sum = rankdata(scores)[positive].sum()
    return float((rank_sum - count * (count + 1) / 2) / (count * others))


def errors_among_most_uncertain(
    uncertainty: np.ndarray, wrong: np.ndarray, shares: Sequence[float] = SHARES
) -> np.ndarray:
    """Return the number of wrong voxels among the most uncertain ones.

    Where voxels of equal uncertainty straddle a limit, they count by the share of them that fits: what picking among
    them at random would find on average.

    Args:
        uncertainty: any shape; larger is less certain.
        wrong: bool, the same shape.
        shares: parts of all voxels that are looked at, in [0, 1].

    Returns:
        (len(shares),) wrong voxels found, as float because of ties.

    >>> errors_among_most_uncertain(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]), [0.25, 0.5])
    array([1. , 1.5])
    """
    values, wrong = np.ravel(uncertainty), np.ravel(wrong).astype(bool)
    if values.shape != wrong.shape:
        raise ValueError(f"{values.size} uncertainties for {wrong.size} voxels")
    levels, place = np.unique(values, return_inverse=True)
    looked_at = np.cumsum(np.bincount(place, minlength=len(levels))[::-1])
    found = np.cumsum(np.bincount(place[wrong], minlength=len(levels))[::-1])
    limits = np.asarray(shares, np.float64) * values.size
    return np.interp(limits, np.concatenate([[0], looked_at]), np.concatenate([[0], found]))


@dataclass
class ErrorSearch:
    """Errors found in the most uncertain voxels of volume after volume.

    Attributes:
        shares: parts of each volume that are looked at.
        found: (len(shares),) wrong voxels found so far.
        wrong: wrong voxels so far.
    """

    shares: tuple[float, ...] = SHARES
    found: np.ndarray = field(default_factory=lambda: np.zeros(len(SHARES)))
    wrong: int = 0

    def add(self, uncertainty: np.ndarray, wrong: np.ndarray) -> None:
        """Count a volume in.

        Args:
            uncertainty: larger is less certain.
            wrong: bool, the same shape.
        """
        self.found = self.found + errors_among_most_uncertain(uncertainty, wrong, self.shares)
        self.wrong += int(np.count_nonzero(wrong))

    def fractions(self) -> list[float | None]:
        """Share of all wrong voxels that was found, per entry of `shares`; None when nothing was wrong."""
        return [float(found / self.wrong) if self.wrong else None for found in self.found]


def neighbourhood(
    labels: Sequence[np.ndarray], spacing_mm: Sequence[float], margin_mm: float = 10.0
) -> tuple[slice, ...]:
    """Return the box round everything that some label volumes mark, grown by a margin within the slices.

    Most voxels of a scan are background of which any network is certain; over all of them a calibration error says
    little. This is where the question is open.

    Args:
        labels: volumes (X, Y, Z), 0 being background.
        spacing_mm: voxel size along X, Y, Z.
        margin_mm: added on each side along X and Y; none along Z.

    Returns:
        Three slices; the whole volume when nothing is marked.
    """
    marked = np.any([np.asarray(volume) > 0 for volume in labels], axis=0)
    if not marked.any():
        return tuple(slice(0, size) for size in marked.shape)
    box = []
    for axis, positions in enumerate(np.nonzero(marked)):
        margin = int(np.ceil(margin_mm / spacing_mm[axis])) if axis < 2 else 0
        box.append(slice(max(0, int(positions.min()) - margin), int(positions.max()) + 1 + margin))
    return tuple(box)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
