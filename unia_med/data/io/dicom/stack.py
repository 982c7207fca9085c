"""From the headers of a DICOM series to a regular grid of slices and time frames, by geometry and not by file name.

Attributes are those of DICOM PS3.3, C.7.6.2 (image plane), C.7.6.18.1 and C.8.13.1 (cardiac synchronisation, MR).
Messages name images by number and place: paths, names and dates may identify the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unia_med.errors import UserError

SAME_PLACE_MM = 0.05
"""Slices nearer to each other than this lie at one place."""

SPACING_TOLERANCE = 0.05
"""Largest deviation of a slice distance from the median one, relative; more is no rounding of a header."""

SHIFT_TOLERANCE_PX = 0.5
"""Largest in-plane shift of a slice against the straight line through all, in pixels."""

_ANGLE_TOLERANCE = 1e-3
_FEW = 3
_WIDE_GAP = 2.0  # distance of slices over their thickness
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Instance:
    """Position of one DICOM file in space and time; None where its header does not say.

    Attributes:
        path: the file.
        sop_uid: SOP Instance UID.
        series_uid: Series Instance UID.
        study_uid: Study Instance UID.
        frame_of_reference: Frame of Reference UID.
        series_number: number of the series on the scanner.
        description: series description.
        number: instance number.
        size: rows, columns.
        position: of the first pixel's centre, mm in LPS axes.
        orientation: direction of rising columns, then of rising rows, unit vectors in LPS axes.
        pixel_spacing_mm: distance between rows, between columns.
        slice_spacing_mm: distance between slices, or else the slice thickness.
        trigger_ms: time since the R wave.
        temporal_position: index of the phase.
        interval_ms: time from phase to phase as the scanner gives it.
        contrast: what distinguishes images at one place and time: image type, echo time, inversion time, b-value.
        frames: frames in the file; more than 1 in enhanced multi-frame objects.
        samples: numbers per pixel; 3 in colour.
        pixels: whether there are any.
        transfer_syntax: UID of the pixels' encoding.
        thickness_mm: slice thickness.
        inverted: whether the highest value is black (MONOCHROME1).
        sop_class: SOP Class UID.
        image_type: what made the image, such as ("ORIGINAL", "PRIMARY", "M").
        patient: a digest that tells patients apart and nothing else; empty where no header says.
        index: of the frame in a multi-frame file; None of a file of one image.
        slope: with `intercept`, brings stored values to the scanner's.
        intercept: see `slope`.
        modality: "MR", "CT", ...
        inversion_ms: inversion time.
        steady: whether the sequence is one of steady state (SequenceVariant SS), as cines are.
        derived: whether it was computed of other images, such as a map or a reformatted plane.
        pixel_attribute: keyword of the attribute that the pixel spacing is from.
        assumed: attributes of its pixels that the header lacks, for which the usual value is taken.
        mosaic: whether it shows all slices of a volume side by side.
    """

    path: Path
    sop_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference: str | None
    series_number: int | None
    description: str
    number: int | None
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing_mm: tuple[float, ...] | None
    slice_spacing_mm: float | None = None
    trigger_ms: float | None = None
    temporal_position: float | None = None
    interval_ms: float | None = None
    contrast: tuple[str, ...] = ()
    frames: int = 1
    samples: int = 1
    pixels: bool = True
    transfer_syntax: str = ""
    thickness_mm: float | None = None
    inverted: bool = False
    sop_class: str = ""
    image_type: tuple[str, ...] = ()
    patient: str = ""
    index: int | None = None
    slope: float = 1.0
    intercept: float = 0.0
    modality: str = ""
    inversion_ms: float | None = None
    steady: bool = False
    derived: bool = False
    pixel_attribute: str = "PixelSpacing"
    assumed: tuple[str, ...] = ()
    mosaic: bool = False

    @property
    def is_magnitude(self) -> bool:
        """Whether it shows magnitudes, not phases, velocities or parts of complex numbers, by its image type."""
        kind = self.image_type[2].upper() if len(self.image_type) > 2 else ""
        return kind.split("_")[0] not in ("P", "R", "I", "PHASE", "VELOCITY", "REAL", "IMAGINARY")

    @property
    def place(self) -> np.ndarray:
        """Return `position` as an array, of an image that is known to have one."""
        assert self.position is not None
        return np.asarray(self.position, np.float64)

    @property
    def directions(self) -> np.ndarray:
        """Return `orientation` as rows (2, 3), of an image that is known to have one."""
        assert self.orientation is not None
        return np.asarray(self.orientation, np.float64).reshape(2, 3)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Return `pixel_spacing_mm` of an image that is known to have one."""
        assert self.pixel_spacing_mm is not None
        rows, columns = self.pixel_spacing_mm
        return rows, columns


@dataclass(frozen=True)
class Stack:
    """Instances on a regular grid.

    Attributes:
        grid: instances by frame and slice; slices rise along the normal (row direction x column direction).
        affine: 4x4 matrix from (column, row, slice) to RAS millimetres.
        time_step_s: from frame to frame; None where there is one frame, or no header says.
        notes: what the user should know and is no fault.
    """

    grid: tuple[tuple[Instance, ...], ...]
    affine: np.ndarray
    time_step_s: float | None
    notes: tuple[str, ...]

    @property
    def modality(self) -> str:
        """What the header calls the kind of image: "MR", "CT", ...; may be empty."""
        return self.grid[0][0].modality


def stack_instances(instances: Sequence[Instance], where: Path) -> Stack:
    """Return the grid of a series.

    Args:
        instances: of one series, or of several that hold one slice each, in any order.
        where: for messages.

    Raises:
        UserError: pixels or geometry are missing, slices are missing or unevenly spaced, phases are incomplete.
    """
    _check_each(instances, where)
    _check_alike(instances, where)
    places = _places(instances)
    _check_counts(places, where)
    positions = np.array([place[0].place for place in places], np.float64)
    step, notes = _slice_step(positions, instances[0], where)
    notes = (*notes, *_wide_gaps(step, instances[0], len(positions)), *_assumptions(instances))
    places, time_step, more = _in_time(places, where)
    grid = tuple(tuple(place[frame] for place in places) for frame in range(len(places[0])))
    return Stack(grid, _affine(instances[0], positions[0], step), time_step, (*notes, *more))


def normal_of(instance: Instance) -> np.ndarray:
    """Return unit normal of an instance's plane, LPS axes.

    Args:
        instance: with an orientation.
    """
    directions = instance.directions
    return np.cross(directions[0], directions[1])


def _check_each(instances: Sequence[Instance], where: Path) -> None:
    """Faults that single files can have."""
    total = len(instances)
    needed = {
        "Image Position (Patient)": "position",
        "Image Orientation (Patient)": "orientation",
        "Pixel Spacing": "pixel_spacing_mm",
    }
    if many := [item for item in instances if item.frames > 1 and item.index is None]:
        what = f"{len(many)} of {total} files are multi-frame objects that do not say where each frame lies"
        raise UserError(what, where, "Export the original images; ultrasound clips and captures have no place")
    if tiled := [item for item in instances if item.mosaic]:
        what = f"{len(tiled)} of {total} images are mosaics, all slices of a volume side by side in one picture"
        raise UserError(what, where, "Convert the series to NIfTI with dcm2niix, which takes them apart, and give that")
    if colour := [item for item in instances if item.samples != 1]:
        raise UserError(f"{len(colour)} of {total} images are in colour", where, "Give the grey-value series")
    if empty := [item for item in instances if not item.pixels]:
        what = f"{len(empty)} of {total} files have no pixels (Pixel Data): {_numbers(empty)}"
        raise UserError(what, where, "Export the series again, with its images")
    lacking = {tag: [i for i in instances if getattr(i, field) is None] for tag, field in needed.items()}
    if found := [f"{tag} ({len(which)} of {total} images)" for tag, which in lacking.items() if which]:
        remedy = "Export the original images; screenshots and secondary captures have no place in the patient"
        raise UserError(f"geometry is missing: {', '.join(found)}", where, remedy)
    for item in instances:
        directions = item.directions
        if np.abs(directions @ directions.T - np.eye(2)).max() > _ANGLE_TOLERANCE or min(item.pixel_mm) <= 0:
            what = "row and column directions are no unit vectors at right angles, or a pixel has no size"
            raise UserError(f"{_numbers([item])}: {what}", where, "Export the series again")


def _check_alike(instances: Sequence[Instance], where: Path) -> None:
    """Faults between files: all slices of a volume share size, pixel spacing, directions and frame of reference."""
    if len(sizes := sorted({item.size for item in instances})) > 1:
        found = ", ".join(f"{rows} x {columns}" for rows, columns in sizes)
        raise UserError(f"images of different sizes in one series: {found} (rows x columns)", where, _SPLIT)
    spacings = sorted({tuple(round(float(mm), 4) for mm in item.pixel_mm) for item in instances})
    if len(spacings) > 1:
        found = ", ".join(f"{a:g} x {b:g}" for a, b in spacings)
        raise UserError(f"mixed pixel spacing in one series: {found} mm", where, _SPLIT)
    first = instances[0].directions
    if turned := [i for i in instances if np.abs(i.directions - first).max() > _ANGLE_TOLERANCE]:
        what = f"slices in different directions in one series (e.g. a localiser): {len(turned)} differ from the first"
        raise UserError(what, where, _SPLIT)
    if len(_frames_of_reference(instances)) > 1 and not _is_careless(instances):
        raise UserError("the images have different Frames of Reference, so their places do not compare", where, _SPLIT)


def _frames_of_reference(instances: Sequence[Instance]) -> set[str]:
    return {item.frame_of_reference for item in instances if item.frame_of_reference}


def _is_careless(instances: Sequence[Instance]) -> bool:
    """Whether each image or slice has a Frame of Reference of its own, as careless anonymisation leaves them."""
    return len(_frames_of_reference(instances)) >= max(_FEW, len(_places(instances)))


_SPLIT = "Export each stack of parallel slices as a series of its own"


def _places(instances: Sequence[Instance]) -> list[list[Instance]]:
    """Instances by slice location, rising along the normal."""
    normal = normal_of(instances[0])
    depth = {id(item): float(normal @ item.place) for item in instances}
    places: list[list[Instance]] = []
    for item in sorted(instances, key=lambda item: depth[id(item)]):
        if places and depth[id(item)] - depth[id(places[-1][0])] < SAME_PLACE_MM:
            places[-1].append(item)
        else:
            places.append([item])
    return places


def _check_counts(places: Sequence[Sequence[Instance]], where: Path) -> None:
    counts = np.array([len(place) for place in places])
    if (counts == (usual := int(np.bincount(counts).argmax()))).all():
        return
    odd = ", ".join(f"slice {z + 1} has {counts[z]}" for z in np.flatnonzero(counts != usual)[:6])
    raise UserError(
        f"images are missing or double: {usual} at most slice positions, but {odd}",
        where,
        "Export the series again, complete, with each image once",
    )


def _slice_step(positions: np.ndarray, first: Instance, where: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Vector (LPS mm) from slice to slice, and notes."""
    normal = normal_of(first)
    if len(positions) == 1:
        if first.slice_spacing_mm:
            return normal * first.slice_spacing_mm, ()
        return normal, ("one slice without a thickness: 1 mm is assumed, so volumes cannot be trusted",)
    depths = positions @ normal
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > SPACING_TOLERANCE * usual)
    if len(odd):
        raise _uneven(depths, gaps, usual, odd, where)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    line = positions[0] + np.arange(len(positions))[:, None] * step
    shift = (positions - line) - np.outer((positions - line) @ normal, normal)
    worst = float(np.linalg.norm(shift, axis=1).max())
    if worst > SHIFT_TOLERANCE_PX * min(first.pixel_mm):
        what = f"slices are shifted against one another in plane, by up to {worst:.1f} mm"
        raise UserError(what, where, "Give the series resampled to one stack, e.g. as NIfTI")
    return step, ()


def _wide_gaps(step: np.ndarray, first: Instance, slices: int) -> tuple[str, ...]:
    distance, thickness = float(np.linalg.norm(step)), first.thickness_mm
    if slices < 2 or not thickness or distance <= _WIDE_GAP * thickness:
        return ()
    return (f"slices of {thickness:g} mm lie {distance:.3g} mm apart; volumes take what lies between for granted",)


def _assumptions(instances: Sequence[Instance]) -> tuple[str, ...]:
    notes = []
    if names := dict.fromkeys(name for item in instances for name in item.assumed):
        notes.append(f"the headers lack {', '.join(names)}: the usual values are taken")
    if others := {item.pixel_attribute for item in instances} - {"PixelSpacing"}:
        notes.append(f"the headers lack PixelSpacing: {', '.join(sorted(others))} is taken for it")
    if _is_careless(instances):
        notes.append("each image has a Frame of Reference of its own; their places are compared all the same")
    return tuple(notes)


def _uneven(depths: np.ndarray, gaps: np.ndarray, usual: float, odd: np.ndarray, where: Path) -> UserError:
    ratios = gaps[odd] / usual
    shown = ", ".join(f"{depths[z]:.1f} and {depths[z + 1]:.1f} mm" for z in odd[:4])
    if (np.abs(ratios - ratios.round()) < SPACING_TOLERANCE * ratios).all() and (ratios.round() >= 2).all():
        missing = int((ratios.round() - 1).sum())
        verb = "slices are" if missing > 1 else "slice is"
        return UserError(
            f"{missing} {verb} missing: slices lie {usual:g} mm apart, but none between {shown} along the normal",
            where,
            "Export the series again, complete",
        )
    return UserError(
        f"mixed slice spacing: {gaps.min():g} to {gaps.max():g} mm apart (usually {usual:g}), e.g. between {shown}",
        where,
        "Export stacks of one spacing each, or resample to one spacing and give NIfTI",
    )


def _in_time(places: list[list[Instance]], where: Path) -> tuple[list[list[Instance]], float | None, tuple[str, ...]]:
    """Phases of each place in order, seconds from phase to phase, and notes."""
    if len(places[0]) == 1:
        return places, None, ()
    for place in places:
        if len({item.contrast for item in place}) > 1:
            what = "several images at one place that differ in contrast (image type, echo or inversion time, b-value)"
            raise UserError(what, where, "Export one contrast as a series of its own; it is no cine")
    key = next((key for key in _ORDERS if _orders(key, places)), None)
    if key is None:
        what = f"{len(places[0])} images at each place, and no Trigger Time, Temporal Position or number orders them"
        raise UserError(what, where, "Export the series again, each image once")
    ordered = [sorted(place, key=lambda item: key(item) or 0.0) for place in places]
    step, notes = _time_step(ordered, key is _trigger)
    return ordered, step, notes


def _trigger(item: Instance) -> float | None:
    return item.trigger_ms


_ORDERS: tuple[Callable[[Instance], float | None], ...] = (
    _trigger,
    lambda item: item.temporal_position,
    lambda item: item.number,
)
"""What orders phases, the surest first."""


def _orders(key: Callable[[Instance], float | None], places: Sequence[Sequence[Instance]]) -> bool:
    """Whether a number is known for all images and never twice at one place."""
    found = [[key(item) for item in place] for place in places]
    return all(None not in place and len(set(place)) == len(place) for place in found)


def _time_step(places: Sequence[Sequence[Instance]], triggered: bool) -> tuple[float | None, tuple[str, ...]]:
    if triggered:
        times = np.array([[item.trigger_ms for item in place] for place in places], np.float64)
        steps = (times[:, -1] - times[:, 0]) / (times.shape[1] - 1)
        step, notes = float(steps.mean()), []
        if np.ptp(steps) > 0.1 * step:
            spread = f"{steps.min():.1f} to {steps.max():.1f} ms"
            notes.append(f"frames last {spread} by slice; their mean, {step:.1f} ms, is used")
        gaps = np.diff(times, axis=1) / steps[:, None]
        if gaps.max() > 1.5:
            notes.append("frames are unevenly spaced in time; phases may be missing")
        return step / 1000, tuple(notes)
    known = [item.interval_ms for place in places for item in place if item.interval_ms]
    if known:
        return float(np.mean(known)) / 1000, ()
    return None, ("the time from frame to frame is unknown: 1 is written, without a unit",)


def _affine(first: Instance, origin: np.ndarray, step: np.ndarray) -> np.ndarray:
    """From (column, row, slice) to RAS mm; DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, with axes turned."""
    along_row, along_column = first.directions
    between_rows, between_columns = first.pixel_mm
    affine = np.eye(4)
    affine[:3] = np.stack((along_row * between_columns, along_column * between_rows, step, origin), axis=1)
    # Rounded as a NIfTI file stores it, so that a series and its conversion are resampled to the very same voxels.
    return (_LPS_TO_RAS @ affine).astype(np.float32).astype(np.float64)


def _numbers(instances: Sequence[Instance]) -> str:
    shown = ", ".join("?" if item.number is None else str(item.number) for item in instances[:6])
    return f"image {shown}" + (", ..." if len(instances) > 6 else "")
