"""Checks a data set before training: the verb behind `unia-med inspect` and `unia_med.inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.data.checks import DataFault, faults_of
from unia_med.errors import UserError
from unia_med.inspection.advice import advise
from unia_med.inspection.faults import Walk, walk
from unia_med.inspection.report import ReportTable, as_plain, check_output, tables, write
from unia_med.inspection.statistics import describe
from unia_med.names import number_of

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.data.dataset import CaseDataset

_FIT = "Nothing stands out: labels and images look fit for training."
_TRIED = 3  # training cases whose labels are completed, a second or two each


@dataclass(frozen=True, repr=False)
class Inspection:
    """What was found in a data set.

    Attributes:
        title: names the data.
        report: everything as plain values, as in the JSON file.
        faults: what is wrong; empty for a sound data set.
        advice: what would help, a sentence or two each.
    """

    title: str
    report: dict[str, Any]
    faults: Sequence[DataFault]
    advice: Sequence[str]

    @property
    def cases(self) -> int:
        """How many cases the data set has."""
        return int(self.report["cases"]["all"])

    def tables(self) -> Iterator[ReportTable]:
        """Yield the tables that have something to show."""
        return tables(self.report)

    def write(self, path: Path | str) -> None:
        """Write the report, .json or .html.

        Args:
            path: the file.
        """
        check_output(Path(path))
        write(self.report, self.title, Path(path))

    def __repr__(self) -> str:
        """Return the cases, the faults and the advice, a line each."""
        lines = [f"{self.title}: {number_of(self.cases, 'case')}, {number_of(len(self.faults), 'fault')}"]
        return "\n".join(
            [*lines, *(f"  fault: {fault}" for fault in self.faults), *(f"  {text}" for text in self.advice)]
        )


def inspect_data(
    dataset: CaseDataset, config: RunConfig, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Check every case of a data set.

    Args:
        dataset: what `config.data` describes.
        config: of the run that shall learn from it.
        progress: called with the number of cases read, and of all.

    Raises:
        UserError: there is no case at all.
    """
    found = walk(dataset, config, progress or (lambda done, total: None))
    statistics = describe(found, config.data)
    if not found.faults:
        _try_intensities(dataset, found, config, statistics["labels"])
    advice = advise(statistics, config)
    if not advice:
        advice = ["Correct the faults first." if found.faults else _FIT]
    return Inspection(
        f"Inspection of {config.data.root}", as_plain(statistics, found.faults, advice), found.faults, advice
    )


def _try_intensities(dataset: CaseDataset, found: Walk, config: RunConfig, entries: list[dict[str, Any]]) -> None:
    """Add to the statistics of labels what `fill: intensity` makes of a few training cases, or why it cannot."""
    if not any(source.fill == "intensity" for source in config.data.labels):
        return
    from unia_med.data.weak_labels.load import intensity_samples  # reads slices by PyTorch, which is slow to import

    cases = [one.files for one in found.facts if found.parts.get(one.files.name) == "train"]
    names = config.data.classes
    for source, entry in zip(config.data.labels, entries, strict=True):
        if source.fill != "intensity":
            continue
        try:
            tried = intensity_samples(dataset, cases, config.data, source, config.seed, _TRIED)
        except UserError as error:
            found.faults.extend(faults_of(error, config.data.root or "data.root"))
            continue
        pairs = Counter((names[a - 1], names[b - 1]) for _, one in tried for a, b in one.alike)
        entry["by_intensity"] = {
            "cases": [name for name, _ in tried],
            "open_share": sum(one.open_share for _, one in tried) / max(len(tried), 1),
            "alike": [{"classes": list(pair), "cases": count} for pair, count in pairs.most_common()],
        }
