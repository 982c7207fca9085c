"""Voxels of validation cases on which a temperature is fitted.

They are drawn while the cases are scored, so that each case is segmented once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unia_med.labels import IGNORE
from unia_med.metrics.calibration import neighbourhood

VOXELS_PER_CASE = 20_000  # drawn at random; 40 volumes then give 800,000, and the fit takes seconds
MOST_VOXELS = 2_000_000  # of all cases, since thousands of pictures would fill the memory


class Voxels(NamedTuple):
    """Probabilities (N, K) float32 and true labels (N,) of random voxels near the structures of a case."""

    probabilities: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Kept:
    """Voxels of the cases of this process, of the validation at one step.

    Attributes:
        step: iterations that the method had done.
        cases: in the order of the cases.
    """

    step: int
    cases: list[Voxels]


def voxels_per_case(cases: int) -> int:
    """Return how many voxels of each of so many cases are drawn.

    Example:
        >>> voxels_per_case(40), voxels_per_case(5000)
        (20000, 400)
    """
    return min(VOXELS_PER_CASE, max(1, MOST_VOXELS // max(cases, 1)))


def draw_voxels(
    truth: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    spacing_mm: tuple[float, float, float],
    count: int,
    seed: int,
) -> Voxels:
    """Draw voxels in and round the structures of a case: elsewhere a network is certain, and right.

    Args:
        truth: (X, Y, Z) true labels with `IGNORE`.
        predicted: (X, Y, Z) labels as the network gives them.
        probabilities: (K, X, Y, Z) at temperature 1.
        spacing_mm: of the voxels.
        count: how many, at most.
        seed: of the run.
    """
    known = truth != IGNORE
    box = neighbourhood([truth * known, predicted], spacing_mm)
    everywhere = (slice(None), *box)
    labels, found = truth[box][known[box]], probabilities[everywhere][:, known[box]].T
    chosen = np.random.default_rng((seed, len(labels))).choice(len(labels), min(count, len(labels)), replace=False)
    return Voxels(np.ascontiguousarray(found[chosen]), labels[chosen])
