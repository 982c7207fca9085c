"""Values of a DICOM header, which may be empty, missing or none of their type."""

from __future__ import annotations

from typing import Any

import numpy as np

_EXACT, _ROUNDED = 1e-5, 0.02  # deviation of two directions from unit vectors at right angles


def stated(dataset: Any, name: str) -> Any:
    """Return the value of an attribute, or None where it is missing or cannot be read.

    Args:
        dataset: pydicom's.
        name: keyword of the attribute.
    """
    try:
        return dataset.get(name)
    except Exception:  # pydicom raises whatever it likes where bytes are no value of the type
        return None


def _float(value: Any) -> float:
    return float(value.replace(",", ".") if isinstance(value, str) else value)


def number(dataset: Any, name: str) -> float | None:
    """Return a finite number, or None; a decimal comma is read as a point.

    Args:
        dataset: pydicom's.
        name: keyword of the attribute.
    """
    try:
        value = _float(stated(dataset, name))
    except (TypeError, ValueError, OverflowError):
        return None
    return value if np.isfinite(value) else None


def whole(dataset: Any, name: str) -> int | None:
    """Return a number without its fraction, or None.

    Args:
        dataset: pydicom's.
        name: keyword of the attribute.
    """
    value = number(dataset, name)
    return None if value is None else int(value)


def vector(dataset: Any, name: str, length: int) -> tuple[float, ...] | None:
    """Return several finite numbers, or None.

    Args:
        dataset: pydicom's.
        name: keyword of the attribute.
        length: how many there must be.
    """
    try:
        values = tuple(_float(value) for value in stated(dataset, name))
    except (TypeError, ValueError, OverflowError):
        return None
    return values if len(values) == length and np.isfinite(values).all() else None


def directions(dataset: Any) -> tuple[float, ...] | None:
    """Return the directions of rising columns and rows, or None; rounded ones are unit vectors at right angles again.

    Args:
        dataset: pydicom's, with Image Orientation (Patient).
    """
    found = vector(dataset, "ImageOrientationPatient", 6)
    if found is None:
        return None
    rows = np.reshape(found, (2, 3))
    error = np.abs(rows @ rows.T - np.eye(2)).max()
    if not _EXACT < error <= _ROUNDED:
        return found
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    return tuple((left @ right).ravel().tolist())
