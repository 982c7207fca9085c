"""The choice: cases that stand for many doubted ones that nothing labelled or chosen is like, and slices apart.

Greedy facility location (Nemhauser et al., 1978) over cases weighted by their doubt. A choice by distance alone, as in
k-centre, takes outliers first, from which a network with few labels learns least (Hacohen et al., ICML 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unia_med.selection.doubt import Look

APART = 3
"""Slices nearer to each other than this show much the same."""


def distances(looks: Sequence[Look]) -> np.ndarray:
    """Distance (N, N) between cases: of their coarse images and of their coarse masks, each with a mean of 1.

    Args:
        looks: of N cases.
    """
    total = np.zeros((len(looks), len(looks)))
    for part in ("image", "mask"):
        rows = np.stack([getattr(one, part) for one in looks]).astype(np.float64)
        found = np.linalg.norm(rows[:, None] - rows[None], axis=2)
        total += found / (found.mean() or 1.0)
    return total


def choose_cases(
    doubts: Sequence[float], between: np.ndarray, labelled: Sequence[int], patients: Sequence[str], count: int
) -> list[tuple[int, float]]:
    """Return the chosen cases in order, each with its distance to the nearest labelled or earlier chosen one.

    Each is the one that most reduces the sum over all cases of doubt times distance to the nearest labelled or chosen
    case. A second case of a patient is chosen only when all patients have one. Without anything labelled the first
    distance is infinite.

    Args:
        doubts: of N cases, in [0, 1].
        between: (N, N) distances.
        labelled: positions of the cases that have labels; they are not chosen.
        patients: of the N cases.
        count: how many to choose; fewer where there are not as many.
    """
    open_cases = [index for index in range(len(doubts)) if index not in set(labelled)]
    weights = np.asarray(doubts, np.float64)
    nearest = between[:, list(labelled)].min(1) if labelled else np.full(len(doubts), np.inf)
    chosen: list[tuple[int, float]] = []
    while open_cases and len(chosen) < count:
        taken = {patients[index] for index, _ in chosen}
        fresh = [index for index in open_cases if patients[index] not in taken] or open_cases
        remaining = weights @ np.minimum(nearest[:, None], between[:, fresh])
        best = fresh[int(np.argmin(remaining))]
        chosen.append((best, float(nearest[best])))
        open_cases.remove(best)
        nearest = np.minimum(nearest, between[:, best])
    return chosen


def choose_slices(doubt: np.ndarray, count: int) -> list[int]:
    """Return the most doubted slices of a volume in rising order, neighbours of a chosen one counting less.

    Args:
        doubt: (Z,) of each slice.
        count: how many; all where the volume has no more.
    """
    chosen: list[int] = []
    while len(chosen) < min(count, len(doubt)):
        weights = np.ones(len(doubt))
        for z in chosen:
            weights = np.minimum(weights, np.abs(np.arange(len(doubt)) - z) / APART)
        scores = doubt * weights
        scores[chosen] = -1.0
        chosen.append(int(scores.argmax()))
    return sorted(chosen)
