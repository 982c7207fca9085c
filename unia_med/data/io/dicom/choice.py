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
_SAME_DIRECTION = 1e-3
_LAST_NUMBER = re.compile(r"[\W_]*\d+[\W_]*$")  # "cine_sa_7", "cine sa (7)"


@dataclass(frozen=True)
class Candidate:
    """A series, or several that hold some slices of a stack each.

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

    @property
    def called(self) -> str:
        """Its numbers in words, which tell nothing of the patient."""
        numbers = self.numbers
        if not numbers:
            return "series without number"
        whole_range = len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1
        if whole_range:
            return f"series {numbers[0]} to {numbers[-1]}"
        return "series " + (", ".join(map(str, numbers)) if len(numbers) < 9 else f"{numbers[0]} to {numbers[-1]}")

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
        return text + (f" ({len(self.uids)} series together)" if len(self.uids) > 1 else "")


def candidates(instances: Sequence[Instance]) -> list[Candidate]:
    """Return the series of a folder by number; series that hold some slices each of one stack are one.

    Scanners often store each slice of a short-axis cine, a breath-hold, as a series of its own, or some slices. Such
    series are joined when they share study, directions, size and pixel spacing, and lie at two places or more; their
    descriptions are alike but for the last number, or else their contrast is and their places make one even stack. Of a
    repeated breath-hold the last counts; where the number of phases differs, each slice gets the usual number, those
    nearest in time.

    Args:
        instances: headers of all images.
    """
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for item in instances:
        by_series[item.series_uid].append(item)
    groups: dict[tuple, list[list[Instance]]] = defaultdict(list)
    found = []
    for series in by_series.values():
        if _is_parallel(series):
            groups[_kind(series)].append(series)
        else:
            found.append(Candidate(tuple(series)))
    for group in _across_names(groups):
        found.extend(_made_of(group))
    return sorted(found, key=lambda candidate: (candidate.numbers or [-1], min(candidate.uids)))


def _made_of(group: list[list[Instance]]) -> list[Candidate]:
    """Return the stacks that series of one kind make."""
    split = [_slices_of(series) for series in group]
    most = max(map(len, split))
    if most == 1:
        return _joined(group)
    pieces = [piece for pieces in split for piece in pieces]
    places = _by_place(pieces)
    # Series of several slices each: joined where they add to one another, not where a whole stack was taken again.
    if len(group) > 1 and len(places) > most and _is_even(places) and len(pieces[0]) > 1:
        return _joined(pieces)
    return [Candidate(tuple(series)) for series in group]


def _across_names(groups: dict[tuple, list[list[Instance]]]) -> list[list[list[Instance]]]:
    """Return groups of series; those that differ in description alone are one where their slices make an even stack."""
    alike: dict[tuple, list[list[list[Instance]]]] = defaultdict(list)
    for group in groups.values():
        first = group[0][0]
        key = (*_kind(group[0], named=False), first.contrast, first.steady, first.modality)
        alike[key].append(group)
    result = []
    for some in alike.values():
        pieces = [piece for group in some for series in group for piece in _slices_of(series)]
        apart = sum(len(_by_place([p for series in group for p in _slices_of(series)])) for group in some)
        places = _by_place(pieces)
        if len(some) > 1 and len(pieces[0]) > 1 and apart == len(places) and _is_even(places):
            result.append([series for group in some for series in group])
        else:
            result.extend(some)
    return result


def _slices_of(series: Sequence[Instance]) -> list[list[Instance]]:
    """Return the images of a series by place."""
    return [[item for one in place for item in one] for place in _by_place([[item] for item in series])]


def _is_even(places: Sequence[Sequence[Sequence[Instance]]]) -> bool:
    """Whether slices lie at equal distances, three at least."""
    apart = np.diff([float(normal_of(place[0][0]) @ place[0][0].place) for place in places])
    return len(places) > 2 and bool((np.abs(apart - np.median(apart)) < 0.05 * np.median(apart)).all())


def _joined(group: list[list[Instance]]) -> list[Candidate]:
    """Return one stack made of series of one slice each, or each series by itself where they make no stack."""
    places = _by_place(group)
    single = len(group[0]) == 1
    if len(places) < 2 or (single and not _is_even(places)):
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
    named = choices(found)
    if not fitting:
        raise UserError(f"no series {wanted}", where, f"These are there:{named.partition(':')[2]}")
    remedy = f"Name one by its UID:{named.partition(':')[2]}" if wanted else f"Name one with --series {named}"
    raise UserError(f"holds {len(found)} series", where, remedy)


def choices(found: Sequence[Candidate]) -> str:
    """Return "NUMBER:", or "UID:" where numbers do not tell series apart, and a line per series.

    Args:
        found: what is there.
    """
    numbers = [number for candidate in found for number in candidate.numbers]
    with_uid = len(set(numbers)) < len(numbers) or not all(candidate.numbers for candidate in found)
    listing = "".join(f"\n  {candidate.describe(with_uid)}" for candidate in found)
    return f"{'UID' if with_uid else 'NUMBER'}:{listing}"


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


def _is_parallel(series: Sequence[Instance]) -> bool:
    """Whether all images of a series have a place and share their directions."""
    if any(item.position is None or item.orientation is None for item in series):
        return False
    directions = np.array([item.orientation for item in series])
    return bool((np.ptp(directions, axis=0) < _SAME_DIRECTION).all())


def _kind(series: Sequence[Instance], named: bool = True) -> tuple:
    """Return what series of one stack share; with `named`, also their description but for its last number."""
    first = series[0]
    directions = tuple(np.round(first.directions, 3).ravel().tolist())
    name = _LAST_NUMBER.sub("", first.description.lower()) if named else ""
    spacing = None if first.pixel_spacing_mm is None else tuple(round(mm, 3) for mm in first.pixel_spacing_mm)
    cine = len(_slices_of(series)) < len(series)
    return first.study_uid, name, first.frame_of_reference, directions, first.size, spacing, cine
