"""Scores of predicted hearts by class, group, phase and level, and the error of the ejection fraction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from unia_med.metrics.overlap import dice

CLASSES = ("RV", "MYO", "LV")
"""In the order of the labels 1, 2, 3."""

LEVELS = ("base", "middle", "apex")
"""Thirds of the slices in which something is annotated, from the first slice on."""


class ScoredVolume(NamedTuple):
    """One volume of a patient: uint8 masks (X, Y, Z) as predicted and as annotated.

    Attributes:
        patient: the patient's name.
        group: diagnosis, such as `NOR`.
        phase: `ED` or `ES`.
        found: predicted labels.
        true: annotated labels.
    """

    patient: str
    group: str
    phase: str
    found: np.ndarray
    true: np.ndarray


def heart_scores(volumes: Sequence[ScoredVolume]) -> dict[str, Any]:
    """Return all scores as plain values.

    Args:
        volumes: both phases of each patient.
    """
    groups = sorted({volume.group for volume in volumes})
    by_phase = {phase: [volume for volume in volumes if volume.phase == phase] for phase in ("ED", "ES")}
    return {
        "volumes": len(volumes),
        "dice": dice_by_class(volumes),
        "dice_of_all_voxels": dice_of_all_voxels(volumes),
        "heart": dice_of_the_heart(volumes),
        "by_group": {group: dice_by_class([one for one in volumes if one.group == group]) for group in groups},
        "by_phase": {phase: dice_by_class(part) for phase, part in by_phase.items()},
        "by_level": {phase: dice_by_level(part) for phase, part in by_phase.items()},
        "size": {phase: size_ratios(part) for phase, part in by_phase.items()},
        "no_heart_found": sum(not volume.found.any() for volume in volumes),
        "fraction_error_points": fraction_errors(volumes),
    }


def dice_by_class(volumes: Sequence[ScoredVolume]) -> dict[str, float]:
    """Return the mean 3D Dice of volumes per class, and the mean over classes."""
    table = np.array([[dice(one.found == k, one.true == k) for k in (1, 2, 3)] for one in volumes], float)
    means = np.nanmean(table, 0)
    return dict(zip((*CLASSES, "mean"), np.round([*means, means.mean()], 4).tolist(), strict=True))


def dice_of_all_voxels(volumes: Iterable[ScoredVolume]) -> dict[str, float]:
    """Return Dice per class over the voxels of all volumes together, as some papers count it."""
    table = np.array([[_overlap(one.found == k, one.true == k) for k in (1, 2, 3)] for one in volumes]).sum(0)
    return dict(zip(CLASSES, np.round(table[:, 0] / np.maximum(table[:, 1], 1), 4).tolist(), strict=True))


def dice_of_the_heart(volumes: Sequence[ScoredVolume]) -> dict[str, float]:
    """Return Dice of all classes taken as one: the mean of volumes, and over the voxels of all volumes together."""
    table = np.array([_overlap(one.found > 0, one.true > 0) for one in volumes])
    mean, (both, total) = (table[:, 0] / np.maximum(table[:, 1], 1)).mean(), table.sum(0)
    return {"mean": round(float(mean), 4), "all_voxels": round(float(both / max(total, 1)), 4)}


def dice_by_level(volumes: Iterable[ScoredVolume]) -> dict[str, dict[str, float]]:
    """Return Dice per class and level, over the pixels of all volumes together."""
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, 2)))
    for volume in volumes:
        slices = np.flatnonzero((volume.true > 0).any((0, 1)))
        for level, part in zip(LEVELS, np.array_split(slices, len(LEVELS)), strict=True):
            sums[level] += [_overlap(volume.found[..., part] == k, volume.true[..., part] == k) for k in (1, 2, 3)]
    ratios = {level: np.round(table[:, 0] / np.maximum(table[:, 1], 1), 3).tolist() for level, table in sums.items()}
    return {level: dict(zip(CLASSES, row, strict=True)) for level, row in ratios.items()}


def size_ratios(volumes: Iterable[ScoredVolume]) -> dict[str, float]:
    """Return predicted over annotated voxels per class; above 1 the prediction is too large."""
    counts = np.array([[[(one.found == k).sum(), (one.true == k).sum()] for k in (1, 2, 3)] for one in volumes]).sum(0)
    return dict(zip(CLASSES, np.round(counts[:, 0] / np.maximum(counts[:, 1], 1), 3).tolist(), strict=True))


def fraction_errors(volumes: Iterable[ScoredVolume]) -> dict[str, float]:
    """Return the error of the LV ejection fraction in points: mean absolute, median absolute, and bias."""
    pools: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for volume in volumes:
        pools[volume.patient][volume.phase] = int((volume.found == 3).sum()), int((volume.true == 3).sum())
    errors = [_fraction(beat, 0) - _fraction(beat, 1) for beat in pools.values()]
    values = {"mean": np.mean(np.abs(errors)), "median": np.median(np.abs(errors)), "bias": np.mean(errors)}
    return {name: round(float(value), 2) for name, value in values.items()}


def _fraction(beat: dict[str, tuple[int, int]], side: int) -> float:
    return 100 * (1 - beat["ES"][side] / max(beat["ED"][side], 1))


def _overlap(found: np.ndarray, true: np.ndarray) -> tuple[int, int]:
    """Return twice the common pixels, and the sum of both sizes."""
    return 2 * int((found & true).sum()), int(found.sum()) + int(true.sum())


Turn = Callable[[np.ndarray], np.ndarray]
VIEWS: dict[str, tuple[Turn, Turn]] = {
    "plain": (lambda a: a, lambda a: a),
    "turned": (lambda a: np.rot90(a, 1), lambda a: np.rot90(a, -1)),
    "turned_180": (lambda a: np.rot90(a, 2), lambda a: np.rot90(a, -2)),
    "turned_270": (lambda a: np.rot90(a, 3), lambda a: np.rot90(a, -3)),
    "mirrored": (lambda a: a[:, ::-1], lambda a: a[:, ::-1]),
}
"""Changes of the stored array (X, Y, ...) before a prediction, and back for its mask: a heart in any direction."""
