"""Plausibility of measured indices: limits beyond any disease, and usual ranges of adults.

Ranges hold normal adults of Kawel-Boehm et al. (J Cardiovasc Magn Reson 2020) and dilated, hypertrophic and abnormal
right ventricles of ACDC with a margin; children and animals lie outside, which is said and stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from unia_med.cardiac.indices import CardiacIndices
from unia_med.errors import UserError

LARGEST_VENTRICLE_ML = 1000.0
LARGEST_MASS_G = 1500.0
LARGEST_WALL_MM = 60.0

USUAL_EDV_ML = (30.0, 450.0)
USUAL_EF_PERCENT = (10.0, 85.0)
USUAL_MASS_G = (30.0, 400.0)
USUAL_WALL_MM = (3.0, 25.0)
USUAL_RATIO = (1 / 3, 3.0)

_REMEDY = (
    "Are these masks of a heart, and are classes (--classes) and spacing right? Only LV, MYO and RV of short-axis "
    "slices are measured"
)


def refuse_impossible(found: CardiacIndices) -> None:
    """Raise a UserError where a volume, a mass or a wall is larger than that of any human heart.

    Args:
        found: indices of a patient.
    """
    for name, ventricle in found.ventricles.items():
        largest = max(found.volumes_ml[name])
        if largest > LARGEST_VENTRICLE_ML:
            raise UserError(f"a {name} of {largest:.0f} ml is no ventricle", remedy=_REMEDY)
        if ventricle.esv_ml is not None and ventricle.esv_ml > ventricle.edv_ml and name == "LV":
            remedy = "Correct ED and ES (--ed, --es, Info.cfg)"
            raise UserError(f"the LV is larger at ES ({ventricle.esv_ml:.0f} ml) than at ED", remedy=remedy)
    if found.mass_g is not None and found.mass_g > LARGEST_MASS_G:
        raise UserError(f"a myocardium of {found.mass_g:.0f} g is impossible", remedy=_REMEDY)
    if found.wall is not None and found.wall.mean_mm > LARGEST_WALL_MM:
        raise UserError(f"a wall of {found.wall.mean_mm:.0f} mm is impossible", remedy=_REMEDY)


def unusual(found: CardiacIndices) -> list[str]:
    """Return what lies outside the usual ranges of adults, each as a short sentence with its value and range.

    Args:
        found: indices of a patient.
    """
    return [
        f"{name} {value:.3g}{unit} (usual {low:.3g} to {high:.3g})"
        for name, value, unit, (low, high) in _judged(found)
        if value is not None and not low <= value <= high
    ]


def _judged(found: CardiacIndices) -> Iterator[tuple[str, float | None, str, tuple[float, float]]]:
    for name, ventricle in found.ventricles.items():
        yield f"{name} EDV", ventricle.edv_ml, " ml", USUAL_EDV_ML
        yield f"{name} EF", ventricle.ef_percent, " %", USUAL_EF_PERCENT
    yield "myocardial mass", found.mass_g, " g", USUAL_MASS_G
    yield "mean wall", found.wall and found.wall.mean_mm, " mm", USUAL_WALL_MM
    left, right = found.ventricles["LV"], found.ventricles.get("RV")
    if right is not None and left.edv_ml:
        yield "RV to LV EDV", right.edv_ml / left.edv_ml, "", USUAL_RATIO
