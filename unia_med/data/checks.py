"""Faults of a data set are gathered while walking through it and reported together, once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unia_med.errors import UserError

GRID_TOLERANCE_MM = 0.1
"""How far apart the worst corners of two volumes may lie that share a grid: rounding of a header, not a shift."""


@dataclass(frozen=True)
class DataFault:
    """One thing that is wrong with a data set, told so that the user can mend it.

    Args:
        file: File, folder or case at fault.
        found: What is there, e.g. "shape (40, 36, 3)".
        expected: What should be there, e.g. "(40, 36, 4) as in the image".
        remedy: What the user can do about it.
    """

    file: Path | str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: found {self.found}, expected {self.expected}. {self.remedy}"


class FaultsError(UserError):
    """Several faults of a data set, or one, as one error; `faults` are those it tells."""

    faults: tuple[DataFault, ...] = ()


def faults_of(error: UserError, file: Path | str) -> tuple[DataFault, ...]:
    """Return the faults that an error tells, to be told with others."""
    return error.faults if isinstance(error, FaultsError) else (as_fault(error, file),)


def as_fault(error: UserError, file: Path | str, expected: str = "a readable volume") -> DataFault:
    """Return an error of one file as a fault, to be told with the others."""
    return DataFault(error.where or file, error.what, expected, error.remedy or "Copy the file again")


def corner_distance_mm(shape: Sequence[int], one: np.ndarray, other: np.ndarray) -> float:
    """Return how far apart, in mm, two affines put the same corner of a volume, at the worst corner.

    Args:
        shape: (X, Y, Z) of the volume.
        one: 4x4 affine.
        other: 4x4 affine.

    Example:
        >>> shifted = np.eye(4); shifted[0, 3] = 2.5
        >>> corner_distance_mm((4, 4, 4), np.eye(4), shifted)
        2.5
    """
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*((0, size - 1) for size in shape[:3]))])
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def grid_difference(
    shape: Sequence[int], affine: np.ndarray, other_shape: Sequence[int], other_affine: np.ndarray
) -> tuple[str, str] | None:
    """Return what the second of two volumes has and what the first has, or None where they share a grid.

    Args:
        shape: (X, Y, Z, ...) of the first.
        affine: its 4x4 affine.
        other_shape: of the second; only three axes count.
        other_affine: of the second.
    """
    if tuple(shape[:3]) != tuple(other_shape[:3]):
        return f"shape {tuple(other_shape)}", str(tuple(shape[:3]))
    apart = corner_distance_mm(shape, affine, other_affine)
    if apart > GRID_TOLERANCE_MM:
        return f"a corner {apart:.2f} mm away by its affine", f"at most {GRID_TOLERANCE_MM} mm"
    return None


def raise_faults(faults: Sequence[DataFault], where: Path | str | None = None) -> None:
    """Return raises one `UserError` that lists every fault; returns quietly when there is none.

    Args:
        faults: All faults found, in the order in which they are to be listed.
        where: The data set or file as a whole, named at the head of the message.
    """
    if not faults:
        return
    if len(faults) == 1:
        only = faults[0]
        error = FaultsError(f"found {only.found}, expected {only.expected}", where=only.file, remedy=only.remedy)
    else:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        # The remedy is part of the text, since it belongs on a line of its own below the list.
        what = f"{len(faults)} faults in the data:{lines}\nMend all of these, then start again."
        error = FaultsError(what, where=where)
    error.faults = tuple(faults)
    raise error
