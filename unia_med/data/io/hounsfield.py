"""Whether an image is of the kind that a model learned from: CT by its values (air at -1000 HU) or its header."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from unia_med.data.io.volume import Volume

_LOG = logging.getLogger(__name__)

_DARK = -300
_LEAST_DARK = 0.01
"""Share of voxels below `_DARK`, air or lung, that a CT has at least."""
_AIR_OR_LUNG = (-1150, -600)
"""Where the median of these voxels lies."""
_LOWEST = -1150
_MOST_BELOW = 0.001
"""Share of voxels below `_LOWEST` that a CT has at most, but for a constant outside of its field of view."""
_TISSUE = (-200, 200)
_LEAST_TISSUE = 0.5
"""Share of the other voxels that are fat, water or muscle."""
_LEAST_OF_BODY = 0.4
"""Share of the voxels of a body, with what of lung is not as dark as air, that are fat, water or muscle."""
_GAP = (-650, -250)
_MOST_IN_GAP = 0.25
"""Share of the voxels of a body that lie between lung and fat, where there is little but borders."""
_BODY = -850
_STARTS = (0, 1024, 1000)
"""What stands for water: 0, or in files without the intercept, in which air is 0, one of the others."""
_USUAL = ("MR", "CT")
"""Modalities of DICOM that models learn from as a rule; of others (PT, NM, US, ...) is said what they are."""
_EVERY = 4
"""One voxel in so many is looked at along each axis within slices."""


_NO_KIND = ("", "OT", "SC")
"""Modalities that do not say what an image shows: other, and secondary capture."""


def ct_by_header(modality: str) -> bool | None:
    """Return whether a DICOM header says that an image is CT; None where it says nothing of the kind.

    Args:
        modality: (0008,0060), or empty.

    Example:
        >>> ct_by_header("CT"), ct_by_header("MR"), ct_by_header("OT")
        (True, False, None)
    """
    stated = modality.strip().upper()
    return None if stated in _NO_KIND else stated == "CT"


def looks_like_ct(array: np.ndarray) -> bool:
    """Return whether an image is CT by its values, with air in it; see `water_of_ct`.

    Args:
        array: (X, Y, Z), as stored and rescaled.

    Example:
        >>> looks_like_ct(np.array([[[-1000.0], [40.0]]])), looks_like_ct(np.array([[[0], [400]]]))
        (True, False)
    """
    return water_of_ct(array) is not None


def water_of_ct(array: np.ndarray) -> int | None:
    """Return the value of water in a CT: 0 of Hounsfield units, 1024 or 1000 without their intercept; None of others.

    MR that is stored with a sign reaches as far down, but its values are spread where a CT has next to none: below air,
    and between lung and fat.

    Args:
        array: (X, Y, Z), as stored and rescaled.

    Example:
        >>> water_of_ct(np.array([[[0], [1064]]])), water_of_ct(np.array([[[-900], [-400]]]))
        (1024, None)
    """
    seen = array[::_EVERY, ::_EVERY] if min(array.shape[:2]) >= 2 * _EVERY else array
    values = np.asarray(seen, np.float32).ravel()
    if not values.size:
        return None
    starts = _STARTS if values.min() >= 0 else _STARTS[:1]
    return next((start for start in starts if _in_hounsfield(values - start)), None)


def _in_hounsfield(values: np.ndarray) -> bool:
    dark, rest = values[values < _DARK], values[values >= _DARK]
    if len(dark) < _LEAST_DARK * len(values) or not len(rest):
        return False
    inside = dark[dark != dark.min()] if dark.min() < _LOWEST else dark  # the lowest may be no air, but a constant
    if not len(inside):
        return False
    low, high = _AIR_OR_LUNG
    below = np.count_nonzero(inside < _LOWEST) / len(values)
    body = values[values > _BODY]
    tissue = _share(rest, *_TISSUE) >= _LEAST_TISSUE and _share(body, *_TISSUE) >= _LEAST_OF_BODY
    air = low <= np.median(inside) <= high and below <= _MOST_BELOW
    return bool(air and tissue and _share(body, *_GAP) <= _MOST_IN_GAP)


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(np.count_nonzero((values > low) & (values < high))) / max(1, len(values))


def compared(frames: Iterable[Volume], ct: bool | None, path: Path | None, modality: str = "") -> Iterator[Volume]:
    """Return frames as they are, and say where a model gets CT and learned from others, or the other way round.

    Args:
        frames: of one image.
        ct: whether the model learned from CT; None where that is not known.
        path: of the image, for the message.
        modality: what a DICOM header says; empty where there is none.
    """
    first = iter((True,))

    def looked_at(frame: Volume) -> Volume:
        if next(first, False) and ct is not None:
            _compare(frame, ct, path, modality)
        return frame

    return map(looked_at, frames)  # a generator would keep the voxels of a frame until the next one


def _compare(frame: Volume, ct: bool, path: Path | None, modality: str) -> None:
    lowest = float(frame.array.min())
    by_values = f"by its values, down to {lowest:g}"
    stated, water = ct_by_header(modality), water_of_ct(frame.array)
    found = water is not None if stated is None else stated
    said = f"{'CT' if found else 'no CT'} {by_values}" if stated is None else f"{modality.upper()} by its header"
    where = path or "the image"
    if found and not ct:
        _LOG.warning("%s: %s; the model learned from images that are no CT. Do not trust its mask", where, said)
    elif stated is not None and modality.upper() not in _USUAL and not ct:
        _LOG.warning("%s: %s; look whether the model learned from such images before you trust its mask", where, said)
    elif ct and not found:
        _LOG.warning("%s: %s; the model learned from CT in Hounsfield units. Do not trust its mask", where, said)
    elif ct and water:
        said = f"a CT in which water is about {water}, so without its intercept of -{water}"
        _LOG.warning(
            "%s: %s; the model learned from Hounsfield units. Subtract it, or do not trust its mask", where, said
        )
