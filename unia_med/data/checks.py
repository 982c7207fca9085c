"""Faults of a data set are gathered while walking through it and reported together, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unia_med.errors import UserError


@dataclass(frozen=True)
class DataFault:
    """One fault of a data set, with what the user can do about it.

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
    """One or several faults of a data set as one error; `faults` holds them."""

    faults: tuple[DataFault, ...] = ()


def faults_of(error: UserError, file: Path | str) -> tuple[DataFault, ...]:
    """Return the faults that an error holds, to be reported with others."""
    return error.faults if isinstance(error, FaultsError) else (as_fault(error, file),)


def as_fault(error: UserError, file: Path | str, expected: str = "a readable volume") -> DataFault:
    """Return an error of one file as a fault, to be reported with others."""
    return DataFault(error.where or file, error.what, expected, error.remedy or "Copy the file again")


def raise_faults(faults: Sequence[DataFault], where: Path | str | None = None) -> None:
    """Raise one `UserError` that lists every fault; returns quietly when there is none.

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
        what = f"{len(faults)} faults in the data:{lines}\nCorrect all of these, then start again."
        error = FaultsError(what, where=where)
    error.faults = tuple(faults)
    raise error
