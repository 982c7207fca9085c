"""Which series of a DICOM folder is meant, and which series together make one stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unia_med.data.io.dicom.stack import SAME_PLACE_MM, Instance, normal_of
from unia_med.errors import UserError


@dataclass(frozen=True)
class Candidate:
    """A series, or several that hold one slice of a cine each.

    Attributes:
        instances: all of them, in no order.
    """

    instances: tuple[Instance, ...]

    @property
    def numbers(self) -> list[int]:
        """Series numbers, rising."""
        return sorted({item.series_number for item in self.instances if item.series_number is not None})

    @property
    def uids(self) -> set[str]:
        """Series Instance UIDs."""
        return {item.series_uid for item in self.instances}

    def describe(self, with_uid: bool) -> str:
        """One line for a list of series.

        Args:
            with_uid: say the UID too, where numbers do not tell series apart.
        """
        first, numbers = self.instances[0], self.numbers
        number = "without number" if not numbers else str(numbers[0])
        if len(numbers) > 1:
            number += f" to {numbers[-1]}"
        uid = f", {min(self.uids)}" if with_uid else ""
        sizes = sorted({f"{rows} x {columns}" for rows, columns in (item.size for item in self.instances)})
        text = f"series {number}: {first.description!r}, {len(self.instances)} images of {' or '.join(sizes)}{uid}"
        return text + (f" ({len(self.uids)} series of one slice each)" if len(self.uids) > 1 else "")


def candidates(instances: Sequence[Instance]) -> list[Candidate]:
    """Return the series of a folder by number; cine series of one slice each that belong together are one.

    Scanners often store each slice of a short-axis cine, a breath-hold, as a series of its own. Such series are joined
    when they share study, description, directions, size, pixel spacing and number of phases (two or more), and no two
    lie at one place.

    Args:
        instances: headers of all images.
    """
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for item in instances:
        by_series[item.series_uid].append(item)
    joinable: dict[tuple, list[list[Instance]]] = defaultdict(list)
    found = []
    for series in by_series.values():
        if len(series) > 1 and _is_one_place(series):
            joinable[_kind(series)].append(series)
        else:
            found.append(Candidate(tuple(series)))
    for group in joinable.values():
        if _are_apart(group):
            found.append(Candidate(tuple(item for series in group for item in series)))
        else:
            found.extend(Candidate(tuple(series)) for series in group)
    return sorted(found, key=lambda candidate: (candidate.numbers or [-1], min(candidate.uids)))


def choose(found: Sequence[Candidate], wanted: str | None, where: Path) -> Candidate:
    """Return the one that is meant.

    Args:
        found: at least one.
        wanted: series number or UID; None when there should be one only.
        where: for messages.

    Raises:
        UserError: there are several, or none fits; the message lists them.
    """
    if wanted is None:
        fitting = list(found)
    else:
        fitting = [c for c in found if wanted in c.uids] or [c for c in found if wanted in map(str, c.numbers)]
    if len(fitting) == 1:
        return fitting[0]
    numbers = [number for candidate in found for number in candidate.numbers]
    with_uid = len(set(numbers)) < len(numbers) or not all(candidate.numbers for candidate in found)
    listing = "".join(f"\n  {candidate.describe(with_uid)}" for candidate in found)
    if fitting:
        what = f"holds {len(found)} series"
        remedy = "Name one by its UID:" if wanted else f"Name one with --series {'UID' if with_uid else 'NUMBER'}:"
    else:
        what, remedy = f"no series {wanted}", "These are there:"
    raise UserError(what, where, remedy + listing)


def _is_one_place(series: Sequence[Instance]) -> bool:
    if any(item.position is None or item.orientation is None for item in series):
        return False
    positions = np.array([item.position for item in series])
    return bool((np.ptp(positions, axis=0) < SAME_PLACE_MM).all())


def _kind(series: Sequence[Instance]) -> tuple:
    """Return what series of one stack share."""
    first = series[0]
    directions = tuple(np.round(first.directions, 3).ravel().tolist())
    return first.study_uid, first.description, first.frame_of_reference, directions, first.size, len(series)


def _are_apart(group: Sequence[Sequence[Instance]]) -> bool:
    normal = normal_of(group[0][0])
    depths = np.sort([float(normal @ series[0].place) for series in group])
    return bool((np.diff(depths) > SAME_PLACE_MM).all())
