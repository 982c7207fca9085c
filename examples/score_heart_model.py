"""Score a heart model on ACDC: Dice by class, diagnosis, phase and level, ejection fractions, turned and mirrored.

Run: python examples/score_heart_model.py cardiac-sax ACDC --views plain turned mirrored --output scores.json
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.files import write_json
from unia_med.inference.predictor import Predictor
from unia_med.runs import Run

CLASSES = ("RV", "MYO", "LV")
Turn = Callable[[np.ndarray], np.ndarray]
VIEWS: dict[str, tuple[Turn, Turn]] = {
    "plain": (lambda a: a, lambda a: a),
    "turned": (lambda a: np.rot90(a, 1), lambda a: np.rot90(a, -1)),
    "turned_180": (lambda a: np.rot90(a, 2), lambda a: np.rot90(a, -2)),
    "turned_270": (lambda a: np.rot90(a, 3), lambda a: np.rot90(a, -3)),
    "mirrored": (lambda a: a[:, ::-1], lambda a: a[:, ::-1]),
}
"""What is done to the stored array before the prediction, and back to its mask."""


class Scored(NamedTuple):
    """One volume: its case, group and phase, and masks (X, Y, Z) as predicted and as annotated."""

    patient: str
    group: str
    phase: str
    found: np.ndarray
    true: np.ndarray


def volumes(root: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Yield patient, group, phase and image of every end-diastolic and end-systolic volume below a folder."""
    for info in sorted(root.rglob("Info.cfg")):
        facts = dict(line.split(": ", 1) for line in info.read_text(encoding="utf-8").splitlines() if ": " in line)
        for phase in ("ED", "ES"):
            name = f"{info.parent.name}_frame{int(facts[phase]):02d}.nii.gz"
            yield info.parent.name, facts["Group"], phase, info.parent / name


def scored(predictor: Predictor, root: Path, view: str) -> Iterator[Scored]:
    """Yield every volume with its prediction, seen in one view."""
    there, back = VIEWS[view]
    for patient, group, phase, path in volumes(root):
        image = read_volume(path)
        seen = Volume(np.ascontiguousarray(there(image.array)), image.affine)
        found = np.ascontiguousarray(back(predictor.predict_volume(seen).labels))
        truth = read_volume(path.with_name(path.name.replace(".nii.gz", "_gt.nii.gz")))
        yield Scored(patient, group, phase, found, np.asarray(truth.array))


def dice(found: np.ndarray, true: np.ndarray) -> float:
    """Return 3D Dice; NaN where both are empty."""
    total = int(found.sum()) + int(true.sum())
    return float("nan") if total == 0 else 2 * int((found & true).sum()) / total


def by_class(cases: list[Scored]) -> dict[str, float]:
    """Return the mean Dice of volumes per class, and their mean."""
    table = np.array([[dice(c.found == k, c.true == k) for k in (1, 2, 3)] for c in cases])
    means = np.nanmean(table, 0)
    return {
        name: round(float(value), 4) for name, value in zip((*CLASSES, "mean"), (*means, means.mean()), strict=True)
    }


def by_level(cases: list[Scored]) -> dict[str, dict[str, float]]:
    """Return Dice per class of thirds of the annotated slices, over the pixels of all volumes together."""
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, 2)))
    for case in cases:
        slices = np.flatnonzero((case.true > 0).any((0, 1)))
        for third, part in zip(("base", "middle", "apex"), np.array_split(slices, 3), strict=True):
            found, true = case.found[..., part], case.true[..., part]
            for k in (1, 2, 3):
                both = 2 * int(((found == k) & (true == k)).sum())
                sums[third][k - 1] += both, int((found == k).sum()) + int((true == k).sum())
    return {
        third: {name: round(float(both / max(total, 1)), 3) for name, (both, total) in zip(CLASSES, table, strict=True)}
        for third, table in sums.items()
    }


def areas(cases: list[Scored]) -> dict[str, float]:
    """Return predicted over annotated voxels per class."""
    counts = [
        (sum(int((c.found == k).sum()) for c in cases), sum(int((c.true == k).sum()) for c in cases)) for k in (1, 2, 3)
    ]
    return {name: round(found / true, 3) for name, (found, true) in zip(CLASSES, counts, strict=True)}


def fraction_error(cases: list[Scored]) -> dict[str, float]:
    """Return the error of the LV ejection fraction in points: mean absolute, median absolute, and bias."""
    pools: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for case in cases:
        pools[case.patient][case.phase] = int((case.found == 3).sum()), int((case.true == 3).sum())
    errors = []
    for beat in pools.values():
        found, true = (100 * (1 - beat["ES"][side] / max(beat["ED"][side], 1)) for side in (0, 1))
        errors.append(found - true)
    size = np.abs(errors)
    values = {"mean": size.mean(), "median": np.median(size), "bias": np.mean(errors)}
    return {name: round(float(value), 2) for name, value in values.items()}


def report(cases: list[Scored]) -> dict[str, Any]:
    """Return all scores of one view."""
    groups, phases = sorted({c.group for c in cases}), ("ED", "ES")
    return {
        "volumes": len(cases),
        "dice": by_class(cases),
        "by_group": {group: by_class([c for c in cases if c.group == group]) for group in groups},
        "by_phase": {phase: by_class([c for c in cases if c.phase == phase]) for phase in phases},
        "by_level": {phase: by_level([c for c in cases if c.phase == phase]) for phase in phases},
        "areas": {phase: areas([c for c in cases if c.phase == phase]) for phase in phases},
        "no_heart_found": sum(not c.found.any() for c in cases),
        "fraction_error_points": fraction_error(cases),
    }


def main() -> None:
    """Score the views that were asked for, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run folder, or the name of a shipped model")
    parser.add_argument("data", type=Path, help="folder of the data set, with patientNNN/ below it")
    parser.add_argument("--views", nargs="+", choices=sorted(VIEWS), default=["plain"], help="turned copies, too")
    parser.add_argument("--tta", action="store_true", help="average over the scales of the config")
    parser.add_argument("--output", type=Path, help="write all scores as JSON")
    arguments = parser.parse_args()
    predictor = Run.open(arguments.model).predictor(tta=arguments.tta)
    found = {view: report(list(scored(predictor, arguments.data, view))) for view in arguments.views}
    for view, scores in found.items():
        print(view, *(f"{key}: {value}" for key, value in scores.items()), sep="\n  ")
    if arguments.output is not None:
        write_json(arguments.output, found)


if __name__ == "__main__":
    main()
