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

SEGMENT_CODES = (
    ("264850008", "left ventricle basal anterior segment"),
    ("396482007", "left ventricle basal anteroseptal segment"),
    ("396646008", "left ventricle basal inferoseptal segment"),
    ("264846001", "left ventricle basal inferior segment"),
    ("396652009", "left ventricle basal inferolateral segment"),
    ("396654005", "left ventricle basal anterolateral segment"),
    ("264848000", "left ventricle mid anterior segment"),
    ("396647004", "left ventricle mid anteroseptal segment"),
    ("396649001", "left ventricle mid inferoseptal segment"),
    ("264847005", "left ventricle mid inferior segment"),
    ("396655006", "left ventricle mid inferolateral segment"),
    ("396656007", "left ventricle mid anterolateral segment"),
    ("264844003", "left ventricle apical anterior segment"),
    ("264845002", "left ventricle apical septal segment"),
    ("264849008", "left ventricle apical inferior segment"),
    ("264853005", "left ventricle apical lateral segment"),
    ("128564006", "Apex of left ventricle"),
)
"""SNOMED CT code and meaning of the wall's segments 1 to 17 (DICOM PS3.16, CID 3717)."""


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
