"""A series of a DICOM folder, or several that hold some slices of one stack each."""

from __future__ import annotations

from dataclasses import dataclass

from unia_med.data.io.dicom.stack import Instance


@dataclass(frozen=True)
class Candidate:
    """A series, or several that hold some slices of a stack each.

    Attributes:
        instances: all of them, in no order.
        notes: what was done to make them one.
    """

    instances: tuple[Instance, ...]
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """Series numbers, rising."""
        return sorted({item.series_number for item in self.instances if item.series_number is not None})

    @property
    def uids(self) -> set[str]:
        """Series Instance UIDs."""
        return {item.series_uid for item in self.instances}

    @property
    def called(self) -> str:
        """Its numbers in words, which tell nothing of the patient."""
        runs: list[list[int]] = []
        for number in self.numbers:
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        texts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
        return f"series {', '.join(texts)}" if texts else "series without number"

    def describe(self, with_uid: bool) -> str:
        """One line for a list of series.

        Args:
            with_uid: include the UID, where numbers do not identify a series.
        """
        first, numbers = self.instances[0], self.numbers
        number = "without number" if not numbers else str(numbers[0])
        if len(numbers) > 1:
            number += f" to {numbers[-1]}"
        uid = f", {min(self.uids)}" if with_uid else ""
        sizes = sorted({f"{rows} x {columns}" for rows, columns in (item.size for item in self.instances)})
        places = len({item.position for item in self.instances})
        # No description of the series: people write names into it.
        text = f"series {number}: {first.modality or 'images'}, {len(self.instances)} of {' or '.join(sizes)}"
        text += f" at {places} place{'' if places == 1 else 's'}{uid}"
        return text + (f" ({len(self.uids)} series together)" if len(self.uids) > 1 else "")
