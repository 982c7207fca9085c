"""What an organ's part of a report says of one patient: HTML for the page, numbers for the table of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Quantity:
    """One number measured in predicted masks and, where there are any, in true ones.

    Attributes:
        name: with the phase or side, as in `LV EF`.
        unit: as printed after the number.
        found: of the predicted masks; None where they do not hold it.
        true: of the true masks; None where they do not hold it.
        tolerance: largest error that needs no second look, in `unit`; None: any.
    """

    name: str
    unit: str
    found: float | None
    true: float | None
    tolerance: float | None = None

    @property
    def error(self) -> float | None:
        """Found minus true; None where one of them is missing."""
        return None if self.found is None or self.true is None else self.found - self.true

    @property
    def too_far(self) -> bool:
        """Whether the error is larger than the tolerance."""
        return self.error is not None and self.tolerance is not None and abs(self.error) > self.tolerance


@dataclass(frozen=True)
class PatientFindings:
    """All that is said of one patient.

    Attributes:
        html: for patients that are shown in detail; may be empty.
        quantities: in the order of the table's columns.
        notes: what is unusual, each a short phrase.
        events: words for frames by their number, such as ED.
    """

    html: str = ""
    quantities: tuple[Quantity, ...] = ()
    notes: tuple[str, ...] = ()
    events: Mapping[int, str] = field(default_factory=dict)
