"""Chooses the series of a DICOM folder to read, and joins series that make one stack."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unia_med.data.io.dicom.stack import SAME_PLACE_MM, Instance, normal_of
from unia_med.errors import UserError

_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_LONGEST_RANGE = 10_000
_LAST_NUMBER = re.compile(r"[\W_]*\d+[\W_]*$")  # "cine_sa_7", "cine sa (7)"


@dataclass(frozen=True)
class Candidate:
    """A series, or several series that hold one slice of a cine each.

    Attributes:
        instances: all of them, in no order.
        notes: what was done to make them one.
    """

    instances: tuple[Instance, ...]
    notes: tuple[str, ...] = ()

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
            with_uid: include the UID, where numbers do not identify a series.
        """
        first, numbers = self.instances[0], self.numbers
        number = "without number" if not numbers else str(numbers[0])
        if len(numbers) > 1:
            number += f" to {numbers[-1]}"
        uid = f", {min(self.uids)}" if with_uid else ""
        sizes = sorted({f"{rows} x {columns}" for rows, columns in (item.size for item in self.instances)})
        places = len({item.position for item in self.instances})
        # No description of the series: people write names into it.
        text = f"series {number}: {first.modality or 'images'}, {len(self.instances)} of {' or '.join(sizes)}"
        text += f" at {places} place{'' if places == 1 else 's'}{uid}"
        return text + (f" ({len(self.uids)} series of one slice each)" if len(self.uids) > 1 else "")


def candidates(instances: Sequence[Instance]) -> list[Candidate]:
    """Return the series of a folder by number; series of one slice each that belong together are one.

    Scanners often store each slice of a short-axis cine, a breath-hold, as a series of its own. Such series are joined
    when they share study, description but for its last number, directions, size and pixel spacing, and lie at two
    places or more. Of a repeated breath-hold the last counts; where the number of phases differs, each slice gets the
    usual number, those nearest in time.

    Args:
        instances: headers of all images.
    """
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for item in instances:
        by_series[item.series_uid].append(item)
    joinable: dict[tuple, list[list[Instance]]] = defaultdict(list)
    found = []
    for series in by_series.values():
        if _is_one_place(series):
            joinable[_kind(series)].append(series)
        else:
            found.append(Candidate(tuple(series)))
    for group in joinable.values():
        found.extend(_joined(group))
    return sorted(found, key=lambda candidate: (candidate.numbers or [-1], min(candidate.uids)))


def _joined(group: list[list[Instance]]) -> list[Candidate]:
    """Return one stack made of series of one slice each, or each series by itself where they make no stack."""
    places = _by_place(group)
    apart = np.diff([float(normal_of(place[0][0]) @ place[0][0].place) for place in places])
    single = len(group[0]) == 1
    even = len(places) > 2 and bool((np.abs(apart - np.median(apart)) < 0.05 * np.median(apart)).all())
    if len(places) < 2 or (single and not even):
        return [Candidate(tuple(series)) for series in group]
    notes = []
    repeated = len(group) - len(places)
    if repeated:
        notes.append(f"{repeated} slice{' was' if repeated == 1 else 's were'} taken again; the last of each counts")
    kept = [max(place, key=lambda series: series[0].series_number or -1) for place in places]
    counts = [len(series) for series in kept]
    usual = max(set(counts), key=lambda count: (counts.count(count), count))
    if len(set(counts)) > 1:
        odd = ", ".join(f"slice {z + 1} has {count}" for z, count in enumerate(counts) if count != usual)
        notes.append(f"{usual} phases at most slices, but {odd}: those nearest in time are used")
    chosen = [item for series in kept for item in _evened(series, usual)]
    return [Candidate(tuple(chosen), tuple(notes))]


def _by_place(group: list[list[Instance]]) -> list[list[list[Instance]]]:
    """Series by the place of their slice, rising along the normal."""
    normal = normal_of(group[0][0])
    places: list[list[list[Instance]]] = []
    for series in sorted(group, key=lambda series: float(normal @ series[0].place)):
        if places and float(normal @ (series[0].place - places[-1][0][0].place)) <= SAME_PLACE_MM:
            places[-1].append(series)
        else:
            places.append([series])
    return places


def _evened(series: list[Instance], count: int) -> list[Instance]:
    """Return the wanted number of phases, spread evenly over the beat, with their times."""
    if len(series) == count:
        return series
    ordered = sorted(series, key=lambda item: (item.trigger_ms or 0.0, item.temporal_position or 0.0, item.number or 0))
    last = ordered[-1].trigger_ms
    picked = [ordered[round(index * (len(ordered) - 1) / max(1, count - 1))] for index in range(count)]
    return [
        replace(
            item,
            trigger_ms=None if last is None else (ordered[0].trigger_ms or 0.0) + index * last / max(1, count - 1),
            temporal_position=float(index + 1),
            number=index + 1,
        )
        for index, item in enumerate(picked)
    ]


def choose(found: Sequence[Candidate], wanted: str | None, where: Path) -> Candidate:
    """Return the series to read.

    Args:
        found: at least one.
        wanted: series number or UID, or numbers such as "40-51,60"; None when there should be one only.
        where: for messages.

    Raises:
        UserError: there are several, or none fits; the message lists them.
    """
    if wanted is None:
        fitting = list(found)
    else:
        fitting = [c for c in found if wanted in c.uids] or _numbered(found, wanted, where)
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


def _numbered(found: Sequence[Candidate], wanted: str, where: Path) -> list[Candidate]:
    """Return the candidates of a series number, or the one that several numbers make together."""
    numbers = _series_numbers(wanted)
    if numbers is None:
        return []
    if len(numbers) == 1:
        return [candidate for candidate in found if numbers & set(candidate.numbers)]
    instances = [item for candidate in found for item in candidate.instances if item.series_number in numbers]
    missing = sorted(numbers - {item.series_number for item in instances})
    if missing and "-" not in wanted:
        raise UserError(f"no series {', '.join(map(str, missing))}", where, "Correct --series")
    parts = candidates(instances)
    return parts if len(parts) < 2 else [Candidate(tuple(instances))]


def _series_numbers(text: str) -> set[int] | None:
    """Return the numbers of a list such as "40-51,60"; None where it is not a list of numbers.

    Example:
        >>> sorted(_series_numbers("3-5,9") or ()), _series_numbers("1.2.840")
        ([3, 4, 5, 9], None)
    """
    numbers: set[int] = set()
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            return None
        first, last = int(found[1]), int(found[2] or found[1])
        if last - first > _LONGEST_RANGE:
            return None
        numbers.update(range(first, last + 1))
    return numbers


def _is_one_place(series: Sequence[Instance]) -> bool:
    if any(item.position is None or item.orientation is None for item in series):
        return False
    positions = np.array([item.position for item in series])
    return bool((np.ptp(positions, axis=0) < SAME_PLACE_MM).all())


def _kind(series: Sequence[Instance]) -> tuple:
    """Return what series of one stack share."""
    first = series[0]
    directions = tuple(np.round(first.directions, 3).ravel().tolist())
    named = _LAST_NUMBER.sub("", first.description.lower())
    spacing = None if first.pixel_spacing_mm is None else tuple(round(mm, 3) for mm in first.pixel_spacing_mm)
    return first.study_uid, named, first.frame_of_reference, directions, first.size, spacing, len(series) > 1
