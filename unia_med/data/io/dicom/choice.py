"""Chooses the series of a DICOM folder to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unia_med.data.io.dicom.candidate import Candidate
from unia_med.data.io.dicom.join import candidates
from unia_med.data.io.dicom.stack import Instance
from unia_med.errors import UserError

_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_LONGEST_RANGE = 10_000


def choose(
    found: Sequence[Candidate], wanted: str | None, where: Path, instances: Sequence[Instance] = ()
) -> Candidate:
    """Return the series to read.

    Args:
        found: at least one.
        wanted: series number or UID, or numbers such as "40-51,60"; None when there should be one only.
        where: for messages.
        instances: of the folder, those too that no candidate took, such as a breath-hold that was taken again later.

    Raises:
        UserError: there are several, or none fits; the message lists them.
    """
    if wanted is None:
        fitting = list(found)
    else:
        fitting = [c for c in found if wanted in c.uids] or _numbered(found, wanted, where, instances)
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


def _numbered(found: Sequence[Candidate], wanted: str, where: Path, instances: Sequence[Instance]) -> list[Candidate]:
    """Return the candidates of a series number, or the one that several numbers make together."""
    numbers = _series_numbers(wanted)
    if numbers is None:
        return []
    whole = [candidate for candidate in found if numbers & set(candidate.numbers)] if len(numbers) == 1 else []
    if whole:
        return whole
    everything = instances or [item for candidate in found for item in candidate.instances]
    named = [item for item in everything if item.series_number in numbers]
    missing = sorted(numbers - {item.series_number for item in named})
    if missing and "-" not in wanted and len(numbers) > 1:
        raise UserError(f"no series {', '.join(map(str, missing))}", where, "Correct --series")
    parts = candidates(named)
    return parts if len(parts) < 2 or len(numbers) == 1 else [Candidate(tuple(named))]


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
