"""Names of the parts of a heart outside this package."""

from __future__ import annotations

from collections.abc import Sequence

CODES = {
    "RV": ("53085002", "Right ventricle"),
    "MYO": ("49848007", "Myocardium of left ventricle"),
    "LV": ("87878005", "Left ventricle"),
    "LA": ("82471001", "Left atrium"),
    "RA": ("73829009", "Right atrium"),
    "AORTA": ("15825003", "Aorta"),
    "HEART": ("80891009", "Heart"),
}
"""SNOMED CT code and meaning by class name in capitals (DICOM PS3.16, CID 7151)."""


def label_note(classes: Sequence[str]) -> str | None:
    """Return a warning where another public model numbers the same classes in another way, else None.

    Args:
        classes: names of the labels 1, 2, 3, ...
    """
    if list(classes) != ["RV", "MYO", "LV"]:
        return None
    return (
        "This is the order of ACDC. MONAI's own short-axis bundle (`ventricular_short_axis_3label`) counts the other "
        "way round: 1 LV, 2 MYO, 3 RV. Do not mix masks of the two."
    )
