"""Whether an image is of the kind that a model learned from: CT by its values (air at -1000 HU) or its header."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from unia_med.data.io.volume import Volume

_LOG = logging.getLogger(__name__)

_AIR = -900
_LEAST_AIR = 0.01
"""Share of voxels below `_AIR` from which an image is CT."""
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
    """Return whether values are in Hounsfield units, with air in the image.

    Args:
        array: (X, Y, Z), as stored and rescaled.

    Example:
        >>> looks_like_ct(np.array([[[-1000.0], [40.0]]])), looks_like_ct(np.array([[[0], [1200]]]))
        (True, False)
    """
    seen = array[::_EVERY, ::_EVERY] if min(array.shape[:2]) >= 2 * _EVERY else array
    return bool(np.mean(seen < _AIR) >= _LEAST_AIR and seen.max() > _AIR)


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
    stated = ct_by_header(modality)
    found = looks_like_ct(frame.array) if stated is None else stated
    said = f"{'CT' if found else 'no CT'} {by_values}" if stated is None else f"{modality.upper()} by its header"
    where = path or "the image"
    if found and not ct:
        _LOG.warning("%s: %s; the model learned from images that are no CT. Do not trust its mask", where, said)
    elif stated is not None and modality.upper() not in _USUAL and not ct:
        _LOG.warning("%s: %s; look whether the model learned from such images before you trust its mask", where, said)
    elif ct and not found:
        _LOG.warning("%s: %s; the model learned from CT in Hounsfield units. Do not trust its mask", where, said)
