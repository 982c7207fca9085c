"""Which of several slices lie at equal distances: what remains when breath-holds were taken again elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOLERANCE = 0.05
"""Largest deviation from the lattice, in distances of its slices."""

_LEAST_MM = 1.0


def even_slices(depths_mm: Sequence[float], later: Sequence[float], least_mm: float = _LEAST_MM) -> list[int]:
    """Return positions of the slices of the most complete even stack, by rising depth.

    Of slices at one place, and of stacks as complete, the later one is taken. A stack may have gaps, which count
    against it: leaving out a slice that does not fit is better than a lattice that is half empty.

    Args:
        depths_mm: along the normal, in any order.
        later: what is larger of a slice that was taken later.
        least_mm: smallest distance; slices of one stack do not overlap.

    Returns:
        Nothing where no two slices are so far apart.

    Example:
        >>> even_slices([0, 10, 20, 23, 30, 30.2, 40], [1, 2, 3, 9, 4, 8, 5])
        [0, 1, 2, 5, 6]
    """
    depths, ranks = np.asarray(depths_mm, float), np.asarray(later, float)
    best, best_score = [], (0.0, 0.0, 0.0)
    ordered = np.unique(depths.round(3))
    for distance in np.unique(np.abs(ordered[:, None] - ordered[None]).round(3)):
        if distance < max(least_mm, _LEAST_MM):
            continue
        for start in ordered:
            members = _members(depths, ranks, start, distance)
            places = [round((depths[one] - start) / distance) for one in members]
            holes = places[-1] - places[0] + 1 - len(places)
            score = (float(len(places) - holes), float(distance), float(ranks[members].mean()))
            if score > best_score:
                best, best_score = members, score
    return best


def _members(depths: np.ndarray, ranks: np.ndarray, start: float, distance: float) -> list[int]:
    """Return positions on a lattice, one per place."""
    places = (depths - start) / distance
    on = np.flatnonzero(np.abs(places - places.round()) <= TOLERANCE)
    latest: dict[int, int] = {}
    for one in sorted(on.tolist(), key=lambda position: ranks[position]):
        latest[round(float(places[one]))] = one
    return [latest[place] for place in sorted(latest)]
