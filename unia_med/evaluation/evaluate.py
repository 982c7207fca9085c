"""Scores predicted masks against true ones, volumes and pictures alike: the one path of command and library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError, memory_checked, suggestion
from unia_med.evaluation.grids import on_one_grid
from unia_med.evaluation.images import SetAccumulator
from unia_med.evaluation.labels import LabelScheme, classes_next_to, parse_classes, plain_labels, with_dataset
from unia_med.evaluation.leaks import warnings
from unia_med.evaluation.pairs import Labels, find_predictions, predictions_of, read_labels, the_one
from unia_med.evaluation.run_values import with_values_of_run
from unia_med.evaluation.truth import Truth, segment_scheme, truths
from unia_med.evaluation.volumes import CaseAccumulator
from unia_med.files import at_home
from unia_med.metrics.surface import HausdorffKind
from unia_med.metrics.table import CaseScores, summarise, summarise_set, write_table
from unia_med.names import number_of

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig

Wanted = Literal["case", "set", "both"]
"""Scores of each case by itself, of all pixels of the set together, or both."""

_SHOWN_FAULTS = 10


@dataclass(eq=False)
class Evaluation(Mapping[str, Any]):
    """Scores of the cases that could be scored, and the reasons why others could not.

    As a mapping it is the table that `unia-med evaluate` writes as JSON: `scores["mean"]["dice"]["LIVER"]`.

    Attributes:
        table: What is written as JSON.
        cases: Scores case by case; each frame of a 4D volume is a case of its own, `NAME#t01` being the first.
        faults: Reason by case that could not be scored.
        unused: Predictions for which there was no label.
        hd95: Definition of HD95.
        notes: What a reader of the scores has to know, a sentence each.
    """

    table: dict[str, Any]
    cases: list[CaseScores] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    unused: list[Path] = field(default_factory=list)
    hd95: HausdorffKind = "max"
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, key: str) -> Any:
        return self.table[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the scored classes, without background."""
        return tuple(self.table["classes"])

    @property
    def scored(self) -> int:
        """How many cases were scored, a frame being one."""
        return len(self.cases) if "cases" in self.table else int(self.table["set"]["cases"])

    def write(self, path: Path | str) -> None:
        """Write the table as .json or .csv, by the suffix; the file appears whole or not at all.

        Args:
            path: The file.
        """
        check_output(path := at_home(path))
        write_table(self.table, path)

    def listing(self, most: int = _SHOWN_FAULTS) -> str:
        """Return the cases that could not be scored with their reasons, a line each."""
        lines = [f"\n  {case}: {reason}" for case, reason in list(self.faults.items())[:most]]
        more = f"\n  and {len(self.faults) - most} more" if len(self.faults) > most else ""
        return "".join(lines) + more

    def __repr__(self) -> str:
        """Return how many cases were scored, and the mean of each class."""
        parts = [number_of(self.scored, "case")]
        if "mean" in self.table:
            means = self.table["mean"]["dice"]
            parts += [f"Dice {', '.join(f'{name} {_shown(value)}' for name, value in means.items())}"]
        if "set" in self.table:
            parts += [f"mIoU {_shown(self.table['set']['iou']['mean'])}"]
        parts += [f"{len(self.faults)} could not be scored"] if self.faults else []
        return f"Evaluation({'; '.join(parts)})"


def evaluate(
    predictions: Path | str,
    labels: Path | str,
    *,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    config: RunConfig | Path | str | None = None,
    settings: Sequence[str] = (),
    split: str | None = None,
    hd95: HausdorffKind = "max",
    scores: Wanted | None = None,
    track: Callable[[Sequence[str]], Iterable[str]] = lambda cases: cases,
) -> Evaluation:
    """Score predicted masks against true ones; every case is scored or has a reason, none is left out in silence.

    Class names are those of `config`, of `classes`, of a `classes.json` next to the predictions, or of the segments
    in label files, in this order; else classes are called `class 1`, `class 2`, ... up to the largest value found.

    Args:
        predictions: Folder of masks, searched in sub-folders, or one file: `X_seg`, `X_pred` or `X` of case X.
        labels: Folder of true masks or one file: `X_gt` or `X`; or, with `config`, the folder of its data set.
        classes: Names of the label values 1, 2, 3, ...; or name by value.
        config: A run's config (the object, its file, or the name of a shipped one); it also says what values mean.
        settings: `key.sub=value` texts that win over a config file.
        split: `train`, `val` or `test`: score only these cases of the data set in `labels`. Needs `config`.
        hd95: `max`: the larger of the two directed 95th percentiles, as MONAI; `pooled`: that of both directions.
        scores: `case`: Dice, HD95 and ASD of each case; `set`: IoU, precision and recall over all pixels together;
            `both`. None: `case`, and for pictures `both`.
        track: Wraps the case names while they are worked off, to show progress.

    Raises:
        UserError: No case could be scored, or the request makes no sense.

    Example:
        `evaluate("masks/", "truth/", classes=["LIVER", "SPLEEN"])["mean"]["dice"]["LIVER"]`
    """
    _check_request(classes, config, split, hd95, scores)
    run = _config_of(config, settings)
    scheme = _scheme(run, classes, Path(predictions), Path(labels))
    found = find_predictions(Path(predictions))
    values = ""
    if run is None and classes is None:
        scheme, values = with_values_of_run(scheme, (paths[0] for paths in found.values()), Path(labels))
    truth = truths(Path(labels), scheme, run, split)
    mine = predictions_of(list(truth), found)
    scoring = _Scoring(scheme, hd95, scores)
    faults: dict[str, str] = {}
    for case in track(list(truth)):
        try:
            with memory_checked():
                scoring.add(case, the_one(case, mine[case]), truth[case])
        except UserError as error:
            faults[case] = str(error)
    scored = {case: paths[0] for case, paths in mine.items() if case not in faults}
    notes = [
        *([values] if values else []),
        *_notes(scoring),
        *warnings(scored, Path(config) if isinstance(config, str | Path) else None),
    ]
    used = {path for paths in mine.values() for path in paths}
    unused = sorted({path for paths in found.values() for path in paths} - used)
    done = Evaluation(scoring.table(), scoring.cases.cases, faults, unused, hd95, notes)
    if len(faults) == len(truth):
        raise UserError(f"no case could be scored:{done.listing()}", where=predictions)
    return done


def check_output(path: Path | None) -> None:
    """Refuse a file of a kind that cannot be written, before anything is read.

    Args:
        path: As for `Evaluation.write`; None: nothing will be written.
    """
    if path is not None and path.suffix.lower() not in (".json", ".csv"):
        raise UserError(f"the suffix is {path.suffix!r}", where=path, remedy="Use .json or .csv")


class _Scoring:
    """Gathers the wanted scores of one pair after the other."""

    def __init__(self, scheme: LabelScheme | None, hd95: HausdorffKind, wanted: Wanted | None) -> None:
        self.scheme, self.wanted = scheme, wanted
        self.cases = CaseAccumulator(None if scheme is None else scheme.names, hd95)
        self.set = SetAccumulator(None if scheme is None else len(scheme.names))
        self.moved: list[str] = []
        self._of_volumes = 0

    def add(self, case: str, prediction: Path, truth: Truth) -> None:
        """Score a pair of files; an unusable one raises before anything is counted."""
        predicted = self._prediction(prediction)
        grid = None
        if predicted.affine is not None:
            grid = VolumeInfo(tuple(predicted.array.shape), predicted.affine, prediction)
        true = truth(grid)
        found, real, place = on_one_grid(predicted, true)
        if true.affine is not None and place is not true:
            self.moved.append(case)
        self._of_volumes += place.unit == "mm"
        for name, one, other in _frames(case, found, real):
            if self.wanted != "set":
                self.cases.add(name, one, other, place.spacing, place.unit)
            if self.wanted in ("set", "both") or (self.wanted is None and place.unit == "px"):
                self.set.add(one, other)

    def table(self) -> dict[str, Any]:
        """Return the wanted scores as plain types."""
        names = self.cases.names if self.wanted != "set" else self._set_names()
        table: dict[str, Any] = {"classes": list(names)}
        if self.wanted != "set":
            table = summarise(names, self.cases.cases)
        if self.wanted in ("set", "both") or (self.wanted is None and not self._of_volumes and self.set.cases):
            found = summarise_set(names, self.set.scores(), self.set.cases)
            table["set"] = {**found, "confusion_matrix": self.set.counts.tolist()}
        return table

    def _set_names(self) -> tuple[str, ...]:
        from unia_med.evaluation.volumes import numbered_names

        return numbered_names(len(self.set.counts) - 1) if self.scheme is None else self.scheme.names

    def _prediction(self, path: Path) -> Labels:
        found = read_labels(path)
        return plain_labels(found, "the prediction") if self.scheme is None else self.scheme.prediction(found)


def _frames(case: str, predicted: np.ndarray, true: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    if true.ndim < 4:
        yield case, predicted, true
        return
    for index in range(true.shape[3]):
        yield f"{case}#t{index + 1:02d}", predicted[..., index], true[..., index]


def _check_request(classes: Any, config: Any, split: str | None, hd95: str, scores: str | None) -> None:
    if split is not None and config is None:
        raise UserError("--split needs a config", where="--split", remedy="Add --config")
    if classes is not None and config is not None:
        raise UserError("the config names the classes already", where="--classes", remedy="Leave out one of the two")
    if isinstance(classes, str):
        raise UserError(f"classes is the text {classes!r}", remedy=f"Give a list: classes={classes.split(',')!r}")
    for name, value, known in (
        ("hd95", hd95, get_args(HausdorffKind)),
        ("scores", scores, (None, *get_args(Wanted))),
        ("split", split, (None, "train", "val", "test")),
    ):
        if value not in known:
            raise UserError(f"unknown {name} {value!r}", remedy=suggestion(str(value), [k for k in known if k]))


def _config_of(config: RunConfig | Path | str | None, settings: Sequence[str]) -> RunConfig | None:
    if not isinstance(config, str | Path):
        return config
    from unia_med.config.load import load_config

    return load_config(config, settings)


def _scheme(config: RunConfig | None, classes: Any, predictions: Path, labels: Path) -> LabelScheme | None:
    if config is not None:
        return with_dataset(LabelScheme.configured(config.data), labels)
    if classes is not None:
        return with_dataset(parse_classes(classes), labels)
    return with_dataset(classes_next_to(predictions) or segment_scheme(labels), labels)


def _notes(scoring: _Scoring) -> list[str]:
    moved = scoring.moved
    if not moved:
        return []
    first = f"{moved[0]} and {len(moved) - 1} more" if len(moved) > 1 else moved[0]
    return [f"note: labels lie on another grid than their predictions and were brought there, nearest in mm: {first}"]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
