"""Which series of a study is the stack of slices that a model expects: by geometry and phases, names mean nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unia_med.data.io.dicom.candidate import Candidate
from unia_med.data.io.dicom.choice import choices
from unia_med.data.io.dicom.join import several_contrasts
from unia_med.data.io.dicom.stack import SAME_PLACE_MM, Instance, normal_of
from unia_med.errors import UserError
from unia_med.registry import STACKS, resolve, with_installed

_PARALLEL = 0.02  # largest difference of a component of the directions of slices that count as parallel
_AS_GOOD = 0.75  # a stack that covers this share of what the longest one covers is as complete


@dataclass(frozen=True)
class StackKind:
    """A stack of slices, in numbers of geometry.

    Attributes:
        title: what it is called in messages.
        modality: of DICOM, such as "MR".
        axis_lps: direction of its normal in the body, either way: towards left, back and head.
        most_degrees: angle between normal and `axis_lps` up to which it is taken for this kind.
        least_slices: parallel ones.
        most_gap_mm: from slice to slice.
        least_cover_mm: from the first slice to the last.
        pixel_mm: smallest and largest size of a pixel.
        cine_phases: from which on it is a cine; cines are taken before single images.
    """

    title: str
    modality: str
    axis_lps: tuple[float, float, float]
    most_degrees: float
    least_slices: int
    most_gap_mm: float
    least_cover_mm: float
    pixel_mm: tuple[float, float]
    cine_phases: int


@dataclass(frozen=True)
class Geometry:
    """What the headers of a candidate say of its shape.

    Attributes:
        slices: places along the normal.
        phases: images at most places.
        gap_mm: usual distance of slices; 0 of a single one.
        cover_mm: from the first slice to the last.
        pixel_mm: larger side of a pixel.
        normal: unit vector, LPS.
    """

    slices: int
    phases: int
    gap_mm: float
    cover_mm: float
    pixel_mm: float
    normal: np.ndarray

    @classmethod
    def of(cls, instances: Sequence[Instance]) -> Geometry | None:
        """Return that of parallel images; None of others, and of images without a place.

        Args:
            instances: of a candidate.
        """
        if any(
            item.position is None or item.orientation is None or item.pixel_spacing_mm is None for item in instances
        ):
            return None
        directions = np.array([item.directions for item in instances])
        if np.abs(directions - directions[0]).max() > _PARALLEL:
            return None
        normal = normal_of(instances[0])
        depths = np.sort([float(normal @ item.place) for item in instances])
        starts = np.flatnonzero(np.diff(depths, prepend=-np.inf) > SAME_PLACE_MM)
        counts = np.diff([*starts, len(depths)])
        gaps = np.diff(depths[starts])
        gap = float(np.median(gaps)) if len(gaps) else 0.0
        cover = float(depths[-1] - depths[0])
        return cls(len(starts), int(np.median(counts)), gap, cover, max(instances[0].pixel_mm), normal)

    def degrees_from(self, axis: Sequence[float]) -> float:
        """Angle between the normal and an axis, 0 to 90.

        Args:
            axis: LPS, of any length.
        """
        cosine = abs(float(self.normal @ np.asarray(axis))) / float(np.linalg.norm(axis) * np.linalg.norm(self.normal))
        return float(np.degrees(np.arccos(min(1.0, cosine))))


def expected_stack(classes: Sequence[str]) -> StackKind | None:
    """Return the stack that a model of these classes expects, by `unia_med.registry.STACKS`; None where none does.

    Args:
        classes: of the labels 1, 2, 3, ...
    """
    tables = with_installed(STACKS, "unia_med.stacks")
    found = (resolve(tables, name)(classes) for name in tables)
    return next((kind for kind in found if kind is not None), None)


def fitting(found: Sequence[Candidate], kind: StackKind) -> tuple[list[Candidate], dict[str, list[Candidate]]]:
    """Return the candidates of a kind, the best first, and the others by what is wrong with them.

    A cine is better than single images, an original than a derived image, then one that covers much, of steady
    precession, of more slices, finer pixels, more phases, and of equal ones the later.

    Args:
        found: of a study.
        kind: what is wanted.
    """
    faults: dict[str, list[Candidate]] = defaultdict(list)
    good = []
    for candidate in found:
        reason = misfit(candidate, kind)
        faults[reason].append(candidate) if reason else good.append(candidate)
    longest = max((_geometry(candidate).cover_mm for candidate in good), default=0.0)
    good.sort(key=lambda candidate: _rank(candidate, kind, longest), reverse=True)
    return good, dict(faults)


def misfit(candidate: Candidate, kind: StackKind) -> str:
    """Return why a candidate is not of a kind, in a few words; empty where it is.

    Args:
        candidate: a series, or several.
        kind: what is wanted.
    """
    first, shape = candidate.instances[0], Geometry.of(candidate.instances)
    if plane := off_plane(candidate, kind):
        return plane
    if shape is None:
        return "no parallel slices with a place"
    if first.mosaic:
        return "mosaics, which dcm2niix takes apart"
    if shape.slices < kind.least_slices or shape.cover_mm < kind.least_cover_mm:
        return "too few slices"
    if shape.gap_mm > kind.most_gap_mm:
        return "slices too far apart"
    if not kind.pixel_mm[0] <= shape.pixel_mm <= kind.pixel_mm[1]:
        return "pixels of another size"
    if not first.is_magnitude:
        return "no magnitudes"
    if shape.phases > 1 and several_contrasts(candidate.instances):
        return "several contrasts"
    return "inversion recovery" if shape.phases == 1 and first.inversion_ms else ""


def off_plane(candidate: Candidate, kind: StackKind) -> str:
    """Return what is wrong with the modality or the plane of a candidate; empty where nothing is.

    Args:
        candidate: a series, or several.
        kind: what is wanted.
    """
    modality = candidate.instances[0].modality
    if modality and modality != kind.modality:
        return f"{modality} images"
    shape = Geometry.of(candidate.instances)
    return "another plane" if shape and shape.degrees_from(kind.axis_lps) > kind.most_degrees else ""


def reasons(
    taken: Candidate, others: Sequence[Candidate], faults: Mapping[str, Sequence[Candidate]], kind: StackKind
) -> str:
    """Return what was taken, why, and why the rest was not.

    Args:
        taken: the stack.
        others: that fit, too.
        faults: the rest, as `fitting` gives it.
        kind: what was wanted.
    """
    shape = _geometry(taken)
    phases = f"{shape.phases} phases" if shape.phases > 1 else "one phase"
    text = (
        f"{taken.called} taken as {kind.title}: {shape.slices} parallel slices {shape.gap_mm:.3g} mm apart, {phases}, "
        f"pixels of {shape.pixel_mm:.2g} mm, {shape.degrees_from(kind.axis_lps):.0f} degrees from the usual axis"
    )
    left = _listed({"fits too, but is less complete or earlier": others, **faults})
    return f"{text}. Left out: {left}; --series names another" if left else text


def no_fitting(
    found: Sequence[Candidate], faults: Mapping[str, Sequence[Candidate]], kind: StackKind, where: Path
) -> UserError:
    """Return the fault that no series is of the kind.

    Args:
        found: of a study.
        faults: as `fitting` gives them.
        kind: what was wanted.
        where: for the message.
    """
    what = f"holds {len(found)} series and no {kind.title}: {_listed(faults)}"
    return UserError(what, where, f"Name one with --series {choices(found)}")


def _listed(some: Mapping[str, Sequence[Candidate]]) -> str:
    return "; ".join(f"{why} ({', '.join(dict.fromkeys(map(_short, which)))})" for why, which in some.items() if which)


def _short(candidate: Candidate) -> str:
    return candidate.called.removeprefix("series ")


def _geometry(candidate: Candidate) -> Geometry:
    shape = Geometry.of(candidate.instances)
    assert shape is not None
    return shape


def _rank(candidate: Candidate, kind: StackKind, longest_mm: float) -> tuple:
    first, shape = candidate.instances[0], _geometry(candidate)
    return (
        shape.phases >= kind.cine_phases,
        not first.derived,
        shape.cover_mm >= _AS_GOOD * longest_mm,
        first.steady,
        shape.slices,
        -round(shape.pixel_mm, 1),
        shape.phases,
        max(candidate.numbers, default=-1),
    )
