"""Wall thickness in the 17 segments of the left ventricle (Cerqueira et al., Circulation 2002) from short-axis slices.

Base, middle and apex are thirds of the slices that show the cavity; the base is the end where the heart is larger.
Seen from the apex, segments are counted against the clock, so that side and order follow from the right ventricle and
from the geometry of the file; no orientation of the patient is asked for. The middle of the septum, where the right
ventricle touches the wall, is the border of segments 2 and 3; sectors are 60 degrees wide, and 90 at the apex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from unia_med.cardiac.wall import thickness_points
from unia_med.data.io.volume import Volume

_SIX = ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
NAMES = (
    *(f"basal {name}" for name in _SIX),
    *(f"mid {name}" for name in _SIX),
    *(f"apical {name}" for name in ("anterior", "septal", "inferior", "lateral")),
    "apex",
)
"""Names of the segments 1 to 17."""

_LEAST_SLICES = 3
_TOUCHING_MM = 3.0  # beyond the nearest pixel of the right ventricle, how far from the wall others still border it


def segment_thickness(frame: Volume, values: Mapping[str, int]) -> tuple[float | None, ...] | None:
    """Return the mean thickness in mm of the segments 1 to 17; None for a segment that no slice shows.

    The apex (17) is the wall beyond the cavity, along the axis, in steps of the slice distance.

    Args:
        frame: label volume (X, Y, Z); slices are short-axis and lie along Z.
        values: label of LV, MYO and RV.

    Returns:
        None where a class is missing, where fewer than three slices show the cavity with its wall, or where no right
        ventricle determines the side.
    """
    if not {"LV", "MYO", "RV"} <= set(values):
        return None
    cavity, wall, right = (frame.array == values[name] for name in ("LV", "MYO", "RV"))
    shown = np.flatnonzero(cavity.any((0, 1)) & wall.any((0, 1)))
    spacing = frame.spacing_mm
    if len(shown) < _LEAST_SLICES:
        return None
    order = shown if _base_comes_first(cavity | wall | right, shown) else shown[::-1]
    side = _side_of_right_ventricle(cavity, cavity | wall, right, order, spacing[:2])
    if side is None:
        return None
    handed = np.sign(np.linalg.det(frame.affine[:3, :3])) * (1 if order[-1] > order[0] else -1)
    found: list[list[np.ndarray]] = [[] for _ in NAMES]
    for place, z in enumerate(order):
        level = int(3 * place / len(order))
        points, thickness = thickness_points(cavity[..., z], wall[..., z], spacing[:2])
        angles = np.degrees(handed * (_angles(points - _middle(cavity[..., z], spacing[:2])) - side))
        for number in range(6 if level < 2 else 4):
            found[6 * level + number].append(thickness[_sector(angles, level) == number])
    means = [float(np.concatenate(parts).mean()) if sum(map(len, parts)) else None for parts in found[:-1]]
    return (*means, _apex(wall, order, spacing[2]))


def _sector(angles: np.ndarray, level: int) -> np.ndarray:
    """Return numbers of sectors from the anterior one on; angles in degrees from the septum, against the clock."""
    width, start = (60, 120) if level < 2 else (90, 135)
    return np.floor((angles + start) / width).astype(int) % (360 // width)


def _base_comes_first(heart: np.ndarray, shown: np.ndarray) -> bool:
    """Whether the first slices hold more of the heart: true of the base in all 160 volumes of ACDC looked at."""
    areas = heart[..., shown].sum((0, 1))
    half = len(shown) // 2
    return bool(areas[:half].sum() >= areas[-half:].sum())


def _side_of_right_ventricle(
    cavity: np.ndarray, heart: np.ndarray, right: np.ndarray, order: np.ndarray, spacing: Sequence[float]
) -> float | None:
    """Angle in radians of the middle of the septum, the mean over the slices at base and middle that show it."""
    directions = []
    for z in order[: -(len(order) // 3) or None]:
        if right[..., z].any():
            distance = ndimage.distance_transform_edt(~heart[..., z], sampling=spacing)
            border = right[..., z] & (distance <= distance[right[..., z]].min() + _TOUCHING_MM)
            points = np.argwhere(border) * spacing
            directions.append(_middle_of_arc(_angles(points - _middle(cavity[..., z], spacing))))
    if not directions:
        return None
    return float(np.angle(np.exp(1j * np.array(directions)).mean()))


def _middle_of_arc(angles: np.ndarray) -> float:
    """Return the middle of the smallest arc that holds all angles (radians)."""
    ordered = np.sort(angles)
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    widest = int(gaps.argmax())
    start = ordered[(widest + 1) % len(ordered)]
    return float(start + (2 * np.pi - gaps[widest]) / 2)


def _middle(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    middle: np.ndarray = np.argwhere(mask).mean(0) * spacing
    return middle


def _angles(offsets: np.ndarray) -> np.ndarray:
    angles: np.ndarray = np.arctan2(offsets[:, 1], offsets[:, 0])
    return angles


def _apex(wall: np.ndarray, order: np.ndarray, distance_mm: float) -> float | None:
    last = int(order[-1])
    beyond = wall[..., last + 1 :] if order[-1] > order[0] else wall[..., :last][..., ::-1]
    capped = np.asarray(beyond.any((0, 1)))
    count = len(capped) if capped.all() else int(capped.argmin())
    return count * distance_mm or None
