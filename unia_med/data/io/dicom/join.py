"""Joins DICOM series that hold some slices of a stack each, and splits series that mix several stacks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.data.io.dicom.candidate import Candidate
from unia_med.data.io.dicom.lattice import TOLERANCE, even_slices
from unia_med.data.io.dicom.stack import SAME_PLACE_MM, SHIFT_TOLERANCE_PX, Instance, normal_of

_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3  # relative
_MOST_PLACES = 60
_LEAST_DISTANCE = 0.75  # of slices over their thickness
_LEAST_PHASES, _LEAST_SHARE = 8, 0.6  # of a cine whose slices may differ in their number, of the usual one
_LEAST_FRAMES = 5  # at one place, which are a cine and not one image taken again and again
_NUMBERS = re.compile(r"\d+")
_LAST_NUMBER = re.compile(r"[\W_]*\d+[\W_]*$")  # "cine_sa_7", "cine sa (7)"


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
    by_series: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for item in _without_copies(instances):
        by_series[item.patient, item.series_uid or str(item.series_number)].append(item)
    groups: dict[tuple, list[list[Instance]]] = defaultdict(list)
    firsts: dict[tuple, list[Instance]] = defaultdict(list)
    found = []
    for series in by_series.values():
        if _is_parallel(series):
            kind = _kind(series)
            key = (*kind, _number_of_plane(series[0], firsts[kind]))
            groups[key].append(series)
        else:
            found.append(Candidate(tuple(series)))
    for group in _across_names(groups):
        found.extend(_made_of(group))
    return sorted(found, key=lambda candidate: (candidate.numbers or [-1], min(candidate.uids)))


def _without_copies(instances: Sequence[Instance]) -> list[Instance]:
    """Return the images, each once: exports that were sent twice have UIDs of their own, and all else in common."""
    found: dict[Any, Instance] = {}
    for item in instances:
        known = item.number is not None and item.position is not None and item.index is None
        same = replace(item, path=Path(), sop_uid="") if known else item
        found.setdefault(same, item)
    return list(found.values())


def _made_of(group: list[list[Instance]]) -> list[Candidate]:
    """Return the stacks that series of one kind make."""
    split = [_slices_of(series) for series in group]
    most = max(map(len, split))
    if most == 1:
        return _joined(_phases_of(group))
    pieces = [piece for pieces in split for piece in pieces]
    if len(pieces[0]) == 1:  # no cine: a stack of single images is one series
        return [Candidate(tuple(series)) for series in group]
    if len(group) == 1:
        return [_of_one(pieces)]
    kept, _ = _without_repeats(pieces)
    # Joined where series add to one another or repeat some slices, not where a whole stack was taken again.
    if len(kept) > most or sum(len(one) > most / 2 for one in split) == 1:
        return _joined(pieces)
    return [_of_one(one) for one in split]


def _phases_of(group: list[list[Instance]]) -> list[list[Instance]]:
    """Return series of one slice each; where every image of a cine is a series, the images of a slice together."""
    places = _by_place(group)
    if max(map(len, group)) > 1 or np.median([len(place) for place in places]) < _LEAST_FRAMES:
        return group
    found = []
    for place in places:
        items = [series[0] for series in place]
        if len({item.number for item in items}) < len(items):  # each is number 1 of its series
            items = [replace(item, number=item.series_number) for item in items]
        found.append(items)
    return found


def _of_one(slices: list[list[Instance]]) -> Candidate:
    """Return a cine of one series; where the number of phases differs a little, each slice gets the usual number."""
    counts = [len(one) for one in slices]
    usual = max(set(counts), key=lambda count: (counts.count(count), count))
    if min(counts) == max(counts) or usual < _LEAST_PHASES or min(counts) < _LEAST_SHARE * usual:
        return Candidate(tuple(item for one in slices for item in one))
    notes = (_uneven(counts, usual),)
    return Candidate(tuple(item for one in slices for item in _evened(one, usual)), notes)


def _uneven(counts: Sequence[int], usual: int) -> str:
    odd = ", ".join(f"slice {z + 1} has {count}" for z, count in enumerate(counts) if count != usual)
    return f"{usual} phases at most slices, but {odd}: those nearest in time are used"


def _across_names(groups: dict[tuple, list[list[Instance]]]) -> list[list[list[Instance]]]:
    """Return groups of series; those that differ in description alone are one where their slices make an even stack."""
    alike: dict[tuple, list[list[list[Instance]]]] = defaultdict(list)
    firsts: dict[tuple, list[Instance]] = defaultdict(list)
    for group in groups.values():
        first = group[0][0]
        key = (*_kind(group[0], named=False), first.image_type, first.steady, first.modality)
        numbered = (*key, _number_of_plane(first, firsts[key]))
        alike[numbered].append(group)
    result = []
    for some in alike.values():
        if _are_one(some):
            result.append([series for group in some for series in group])
            continue
        by_words: dict[str, list[list[list[Instance]]]] = defaultdict(list)
        for group in some:  # "1. cine 1/10", "2. cine 2/10", next to another stack at the same places
            by_words[_NUMBERS.sub("", group[0][0].description)].append(group)
        for few in by_words.values():
            result.extend([[series for group in few for series in group]] if _are_one(few) else few)
    return result


def _are_one(some: list[list[list[Instance]]]) -> bool:
    """Whether groups of series that differ in description make one even stack of slices."""
    pieces = [piece for group in some for series in group for piece in _slices_of(series)]
    apart = sum(len(_by_place([p for series in group for p in _slices_of(series)])) for group in some)
    places = _by_place(pieces)
    cine = len(some) > 1 and len(pieces[0]) > 1
    return cine and (apart == len(places) and _is_even(places) or _are_breath_holds(some, len(places)))


def _are_breath_holds(groups: Sequence[Sequence[Sequence[Instance]]], places: int) -> bool:
    """Whether series of one slice each, called in many ways, make no stack but together."""
    single = all(len(_slices_of(series)) == 1 for group in groups for series in group)
    return single and all(len(group) <= places / 2 for group in groups)


def _slices_of(series: Sequence[Instance]) -> list[list[Instance]]:
    """Return the images of a series by place."""
    return [[item for one in place for item in one] for place in _by_place([[item] for item in series])]


def _is_even(places: Sequence[Sequence[Sequence[Instance]]]) -> bool:
    """Whether slices lie at equal distances, three at least."""
    apart = np.diff([float(normal_of(place[0][0]) @ place[0][0].place) for place in places])
    return len(places) > 2 and bool((np.abs(apart - np.median(apart)) < 0.05 * np.median(apart)).all())


def _joined(group: list[list[Instance]]) -> list[Candidate]:
    """Return one stack made of series of one slice each, and what belongs to none by itself."""
    places, single = _by_place(group), len(group[0]) == 1
    if len(places) < 2:
        return [Candidate(tuple(series)) for series in group]
    kept, notes = (group, []) if len(places) == len(group) and _is_even(places) else _without_repeats(group)
    if len(kept) < 2 or (single and not _is_even(_by_place(kept))):
        return [Candidate(tuple(series)) for series in group]
    kept = sorted(kept, key=_depth)
    left = [series for series in group if not any(series is one for one in kept)]
    alone = [series for series in left if not _lies_at(series, kept)]
    counts = [len(series) for series in kept]
    usual = max(set(counts), key=lambda count: (counts.count(count), count))
    if len(set(counts)) > 1:
        notes.append(_uneven(counts, usual))
    chosen = [item for series in kept for item in _evened(series, usual)]
    return [Candidate(tuple(chosen), tuple(notes)), *(Candidate(tuple(series)) for series in alone)]


def _without_repeats(group: list[list[Instance]]) -> tuple[list[list[Instance]], list[str]]:
    """Return the slices of the most complete even stack, of repeated ones the last that fits, and notes."""
    first, normal = group[0][0], normal_of(group[0][0])
    if not 1 < len(_by_place(group)) <= _MOST_PLACES:
        return group, []
    depths = np.array([float(normal @ series[0].place) for series in group])
    aside = np.array([series[0].place for series in group]) - np.outer(depths, normal)
    shift = np.linalg.norm(aside - np.median(aside, axis=0), axis=1)
    straight = shift <= SHIFT_TOLERANCE_PX * min(first.pixel_mm)
    # A slice that was taken again with the image moved in plane does not fit on the others.
    ranks = [
        (series[0].series_number or 0) - (0 if fits else 1e9) for series, fits in zip(group, straight, strict=True)
    ]
    overlap = _LEAST_DISTANCE * (first.thickness_mm or 0.0)
    kept = [group[one] for one in even_slices(depths.tolist(), ranks, overlap)]
    if not kept:
        return group, []
    left = [series for series in group if not any(series is one for one in kept)]
    repeated = sum(_lies_at(series, kept) for series in left)
    notes = []
    if repeated:
        notes.append(f"{repeated} slice{' was' if repeated == 1 else 's were'} taken again; the last of each counts")
    elsewhere = sorted({series[0].series_number or 0 for series in left if not _lies_at(series, kept)})
    if elsewhere:
        notes.append(f"series {', '.join(map(str, elsewhere))} lie between the slices of the stack and are left out")
    return kept, notes


def _depth(series: Sequence[Instance]) -> float:
    return float(normal_of(series[0]) @ series[0].place)


def _lies_at(series: Sequence[Instance], others: Sequence[Sequence[Instance]]) -> bool:
    """Whether a slice lies at the depth of one of others."""
    normal = normal_of(series[0])
    depths = np.array([float(normal @ (other[0].place - series[0].place)) for other in others])
    distance = float(np.median(np.diff(np.sort(depths)))) if len(depths) > 1 else 0.0
    return bool(np.abs(depths).min() <= max(SAME_PLACE_MM, TOLERANCE * distance))


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


def parts(candidate: Candidate) -> list[Candidate]:
    """Return the stacks that one series mixes: of other planes, sizes or pixels, or of several contrasts at one place.

    Args:
        candidate: a series, or several.

    Returns:
        The candidate alone where it is one stack, or where images have no place.
    """
    if any(item.position is None or item.orientation is None for item in candidate.instances):
        return [candidate]
    planes: dict[Any, list[Instance]] = defaultdict(list)
    firsts: dict[Any, list[Instance]] = defaultdict(list)
    for item in candidate.instances:
        planes[item.size, _number_of_plane(item, firsts[item.size])].append(item)
    found: list[list[Instance]] = []
    for images in planes.values():
        by_contrast: dict[Any, list[Instance]] = defaultdict(list)
        mixed = several_contrasts(images)
        for item in images:
            by_contrast[item.contrast if mixed else ()].append(item)
        found.extend(by_contrast.values())
    return [candidate] if len(found) < 2 else [_of_one(_slices_of(images)) for images in found]


def several_contrasts(images: Sequence[Instance]) -> bool:
    """Whether images at one place differ in contrast; from breath-hold to breath-hold an echo time may.

    Args:
        images: parallel ones.
    """
    return any(len({item.contrast for item in one}) > 1 for one in _slices_of(images))


def _is_parallel(series: Sequence[Instance]) -> bool:
    """Whether all images of a series have a place and share their directions."""
    if any(item.position is None or item.orientation is None for item in series):
        return False
    directions = np.array([item.orientation for item in series])
    return bool((np.ptp(directions, axis=0) < _SAME_DIRECTION).all())


def _kind(series: Sequence[Instance], named: bool = True) -> tuple:
    """Return what series of one stack share; with `named`, also their description but for its last number."""
    first = series[0]
    name = _LAST_NUMBER.sub("", first.description.lower()) if named else ""
    cine = len(_slices_of(series)) < len(series)
    return first.patient, first.study_uid, name, first.frame_of_reference, first.size, cine


def _number_of_plane(image: Instance, firsts: list[Instance]) -> int:
    """Return which of some images has the directions and pixels of this one, which is added where none has."""
    for position, other in enumerate(firsts):
        alike = np.abs(image.directions - other.directions).max() < _SAME_DIRECTION
        if alike and _same_pixels(image, other):
            return position
    firsts.append(image)
    return len(firsts) - 1


def _same_pixels(one: Instance, other: Instance) -> bool:
    if one.pixel_spacing_mm is None or other.pixel_spacing_mm is None:
        return one.pixel_spacing_mm == other.pixel_spacing_mm
    return bool(np.allclose(one.pixel_spacing_mm, other.pixel_spacing_mm, rtol=_SAME_SPACING, atol=0))
