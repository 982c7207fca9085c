"""Numbers of a DICOM header, which may be empty, missing or no numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def number(dataset: Any, name: str) -> float | None:
    """Return a finite number, or None.

    Args:
        dataset: pydicom's.
        name: keyword of the attribute.
    """
    try:
        value = float(dataset.get(name))
    except (TypeError, ValueError):
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
        values = tuple(float(value) for value in dataset.get(name))
    except (TypeError, ValueError):
        return None
    return values if len(values) == length and np.isfinite(values).all() else None
