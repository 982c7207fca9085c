"""Faults of a data set are gathered while walking through it and reported together, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unia_med.errors import UserError


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


def raise_faults(faults: Sequence[DataFault], where: Path | str | None = None) -> None:
    """Raises one `UserError` that lists every fault; returns quietly when there is none.

    Args:
        faults: All faults found, in the order in which they are to be listed.
        where: The data set or file as a whole, named at the head of the message.
    """
    if not faults:
        return
    if len(faults) == 1:
        only = faults[0]
        raise UserError(f"found {only.found}, expected {only.expected}", where=only.file, remedy=only.remedy)
    lines = "".join(f"\n  - {fault}" for fault in faults)
    # The remedy is part of the text, since it belongs on a line of its own below the list.
    raise UserError(f"{len(faults)} faults in the data:{lines}\nMend all of these, then start again.", where=where)
