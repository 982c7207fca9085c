"""The grid that a config gets: slice axis, pixel size and crop, from the headers of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np

from unia_med.data.io.geometry import spacing_of
from unia_med.data.io.label_file import LabelFile
from unia_med.data.io.volume import VolumeInfo
from unia_med.project.meaning import drawn_axis

_LARGEST_SIDE = 192  # pixels that a slice may have on 2 CPU cores
_AXES = {"I": "axial", "S": "axial", "A": "coronal", "P": "coronal", "L": "sagittal", "R": "sagittal"}


def grid_of(headers: Sequence[VolumeInfo], pixels: bool) -> dict[str, Any]:
    """Return slice axis, spacing and size from the medians of the images, as far as 2 CPU cores can.

    Args:
        headers: of the images.
        pixels: they are taken as stored pixels, without millimetres.
    """
    axis, plane = _slice_axis(headers)
    if pixels:
        sides = np.array([header.shape[:2] for header in headers])
        height, width = (min(512, 16 * int(np.ceil(side / 16))) for side in np.median(sides, 0))
        return {"units": "pixels", "spacing_mm": None, "size": [height, width]}
    spacings = np.array([[spacing_of(header.affine)[a] for a in plane(header)] for header in headers])
    sizes = np.array([[header.shape[a] for a in plane(header)] for header in headers])
    extent = np.median(spacings * sizes, 0).max()
    spacing = max(float(np.median(spacings)), extent / _LARGEST_SIDE)
    side = int(np.clip(16 * np.ceil(extent / spacing / 16), 32, _LARGEST_SIDE))
    return {"slice_axis": axis, "spacing_mm": float(f"{spacing:.3g}"), "size": [side, side]}


def axis_note(drawn: Sequence[LabelFile]) -> list[str]:
    """Return a note where labels were drawn across another stored axis than the third.

    Args:
        drawn: some label files.
    """
    for file in drawn:
        best = drawn_axis(file.array != 0, file.affine)
        if best != 2:
            name = _AXES[nib.aff2axcodes(file.affine)[best]]
            return [f"labels were drawn in few slices across stored axis {best + 1}: if that is how they were drawn, "
                    f"set data.grid.slice_axis to {name}"]  # fmt: skip
    return []


def _slice_axis(headers: Sequence[VolumeInfo]) -> tuple[str, Any]:
    """Return the setting `slice_axis`, and a function from a header to the two stored axes of its slices."""
    codes = {"".join(nib.aff2axcodes(header.affine)) for header in headers}
    across = [int(np.argmax(spacing_of(header.affine))) for header in headers]
    flat = [min(spacing_of(h.affine)) * 1.3 > max(spacing_of(h.affine)) and h.shape[2] > 1 for h in headers]
    if len(codes) == 1 and all(even or axis == 2 for even, axis in zip(flat, across, strict=True)):
        return "stored", lambda header: (0, 1)
    votes = [_AXES[nib.aff2axcodes(header.affine)[axis]]
             for header, axis, even in zip(headers, across, flat, strict=True) if not even]  # fmt: skip
    name = max(set(votes), key=votes.count) if votes else "axial"

    def plane(header: VolumeInfo) -> tuple[int, ...]:
        directions = nib.aff2axcodes(header.affine)
        through = next(axis for axis, code in enumerate(directions) if _AXES[code] == name)
        return tuple(axis for axis in range(3) if axis != through)

    return name, plane
