"""The slices of a study that a short-axis model expects."""

from __future__ import annotations

from collections.abc import Sequence

from unia_med.data.io.dicom.kind import StackKind

SHORT_AXIS = StackKind(
    title="short-axis cine",
    modality="MR",
    # The long axis of the left ventricle points to the left, to the front and to the feet, about equally; hearts that
    # stand or lie are 20 to 30 degrees off. Planes along that axis are 90 degrees off, axial, coronal and sagittal ones
    # 48 to 60.
    axis_lps=(0.66, -0.55, -0.51),
    most_degrees=42.0,
    # Tagging, mapping and perfusion are taken of three or four slices, often 20 mm apart.
    least_slices=5,
    most_gap_mm=16.0,
    least_cover_mm=35.0,
    pixel_mm=(0.4, 4.0),
    cine_phases=8,
)


def stack_kind(classes: Sequence[str]) -> StackKind | None:
    """Return the stack that a model with these classes expects: short-axis slices for one that knows a left ventricle.

    Args:
        classes: of the labels 1, 2, 3, ...
    """
    return SHORT_AXIS if "LV" in {name.upper() for name in classes} else None
