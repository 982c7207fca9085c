"""Volumes per frame, end diastole and end systole, and the clinical indices derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unia_med.cardiac.segments import segment_thickness
from unia_med.cardiac.wall import WallThickness, wall_thickness
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError

DENSITY_G_PER_ML = 1.05
"""Of myocardium, as cardiac MR reporting takes it (Schulz-Menger et al., J Cardiovasc Magn Reson 2020)."""

ACDC_VALUES = {"RV": 1, "MYO": 2, "LV": 3}
"""Label values where nothing else is said."""


@dataclass(frozen=True)
class Phases:
    """Where in the sequence of frames the ventricle is fullest and emptiest.

    Attributes:
        diastole: index of end diastole (ED), from 0.
        systole: index of end systole (ES); None where there is one frame only.
    """

    diastole: int
    systole: int | None


@dataclass(frozen=True)
class PhaseChoice:
    """Phases as a reader states them; None: chosen by the volumes.

    Attributes:
        diastole: index of end diastole, from 0.
        systole: index of end systole.
    """

    diastole: int | None = None
    systole: int | None = None


FOUND = PhaseChoice()
"""Nothing is stated: both phases are found from the volumes."""


@dataclass(frozen=True)
class VentricleIndices:
    """Indices of one ventricle; None where the masks do not hold them.

    Attributes:
        edv_ml: end-diastolic volume.
        esv_ml: end-systolic volume.
        stroke_volume_ml: their difference.
        ef_percent: stroke volume over end-diastolic volume; None where that is zero.
    """

    edv_ml: float
    esv_ml: float | None
    stroke_volume_ml: float | None
    ef_percent: float | None


@dataclass(frozen=True)
class CardiacIndices:
    """Indices of one patient.

    Attributes:
        volumes_ml: by class, one number per frame.
        phases: the frames of ED and ES, found from the LV or stated.
        ventricles: of LV and, where the labelling has it, RV; RV at the frames of the LV's ED and ES.
        mass_g: of the myocardium at ED; None without myocardium.
        wall: its thickness at ED; None where no slice shows cavity and myocardium.
        walls_mm: mean thickness per frame; None where no slice shows both.
        segments_ed_mm: thickness at ED of the segments 1 to 17 (`segments.NAMES`), see `segment_thickness`.
        segments_es_mm: the same at ES.
    """

    volumes_ml: Mapping[str, tuple[float, ...]]
    phases: Phases
    ventricles: Mapping[str, VentricleIndices]
    mass_g: float | None
    wall: WallThickness | None
    walls_mm: tuple[float | None, ...] = ()
    segments_ed_mm: tuple[float | None, ...] | None = None
    segments_es_mm: tuple[float | None, ...] | None = None


def measure(
    frames: Iterable[Volume], values: Mapping[str, int] = ACDC_VALUES, choice: PhaseChoice = FOUND
) -> CardiacIndices:
    """Return indices of a patient's frames; three frames are in memory at a time.

    Args:
        frames: label volumes (X, Y, Z) in order of time; slices are short-axis and lie along Z.
        values: label of each class; LV is needed, MYO and RV are used where they are named.
        choice: ED and ES where they are known; by default the frames with the largest and the smallest LV.

    Raises:
        UserError: a label is not named, no frame holds any LV, or a stated phase does not exist.

    Example:
        >>> labels = np.zeros((10, 10, 2), np.uint8)
        >>> labels[2:7, 2:8] = 3
        >>> found = measure([Volume(labels, np.diag([2.0, 2.0, 8.0, 1.0]))])
        >>> round(found.ventricles["LV"].edv_ml, 2)  # 60 voxels of 32 mm3
        1.92
    """
    volumes: list[dict[str, float]] = []
    walls: list[WallThickness | None] = []
    kept: dict[str, tuple[int, Volume]] = {}
    for index, frame in enumerate(frames):
        volumes.append(class_volumes_ml(frame, values))
        walls.append(_wall(frame, values))
        left = [volume["LV"] for volume in volumes]
        if _is_fullest(left) if choice.diastole is None else index == choice.diastole:
            kept["ED"] = index, frame
        if _is_emptiest(left) if choice.systole is None else index == choice.systole:
            kept["ES"] = index, frame
    curves = {name: tuple(found[name] for found in volumes) for name in volumes[0]} if volumes else {}
    phases = find_phases(curves.get("LV", ()), choice)
    ventricles: dict[str, VentricleIndices] = {
        name: _ventricle(curves[name], phases) for name in ("LV", "RV") if name in curves
    }
    muscle = curves["MYO"][phases.diastole] if "MYO" in curves else 0.0
    return CardiacIndices(
        curves,
        phases,
        ventricles,
        muscle * DENSITY_G_PER_ML or None,
        walls[phases.diastole],
        tuple(None if wall is None else wall.mean_mm for wall in walls),
        segment_thickness(kept["ED"][1], values),
        None if phases.systole is None else segment_thickness(kept["ES"][1], values),
    )


def _is_fullest(left_ml: Sequence[float]) -> bool:
    """Whether the last frame is the first of the fullest so far; frames without any LV are failures."""
    return left_ml[-1] > max(left_ml[:-1], default=0.0)


def _is_emptiest(left_ml: Sequence[float]) -> bool:
    return 0 < left_ml[-1] < min((volume for volume in left_ml[:-1] if volume > 0), default=np.inf)


def class_volumes_ml(frame: Volume, values: Mapping[str, int]) -> dict[str, float]:
    """Volume of each class in ml: its voxels times the size of one, which shear and rotation do not change.

    Args:
        frame: label volume (X, Y, Z).
        values: label of each class.
    """
    present, counts = np.unique(frame.array, return_counts=True)
    if unknown := sorted(set(present.tolist()) - {0, *values.values()}):
        shown = ", ".join(f"{value:g}" for value in unknown[:6])
        known = ", ".join(f"{name}={value}" for name, value in values.items())
        raise UserError(f"holds the labels {shown}, known are {known}", frame.path, "Name all classes with --classes")
    voxel_ml = abs(float(np.linalg.det(np.asarray(frame.affine, np.float64)[:3, :3]))) / 1000
    number = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return {name: number.get(value, 0) * voxel_ml for name, value in values.items()}


def find_phases(left_ml: Sequence[float], choice: PhaseChoice = FOUND) -> Phases:
    """ED is the frame with the largest LV, ES that with the smallest; frames without any LV are failures, not ES.

    Args:
        left_ml: LV volume per frame.
        choice: what is stated wins.
    """
    volumes = np.asarray(left_ml, np.float64)
    if not volumes.any():
        raise UserError("no frame holds any LV, so there is no end diastole", remedy="Check the mask and --classes")
    for index in (choice.diastole, choice.systole):
        if index is not None and not 0 <= index < len(volumes):
            raise UserError(f"ED or ES is frame {index + 1} of {len(volumes)}", remedy="Correct ED and ES")
    diastole = int(volumes.argmax()) if choice.diastole is None else choice.diastole
    if choice.systole is not None:
        return Phases(diastole, choice.systole)
    if len(volumes) == 1:
        return Phases(diastole, None)
    return Phases(diastole, int(np.where(volumes > 0, volumes, np.inf).argmin()))


def _ventricle(curve: Sequence[float], phases: Phases) -> VentricleIndices:
    full = curve[phases.diastole]
    if phases.systole is None:
        return VentricleIndices(full, None, None, None)
    empty = curve[phases.systole]
    return VentricleIndices(full, empty, full - empty, 100 * (full - empty) / full if full else None)


def _wall(frame: Volume, values: Mapping[str, int]) -> WallThickness | None:
    if "MYO" not in values:
        return None
    return wall_thickness(frame.array == values["LV"], frame.array == values["MYO"], frame.spacing_mm[:2])
