"""Trains and scores several configs on one data set under the same conditions, and writes the table that compares them.

Every row is trained, predicted and scored by the verbs `train` (or a recipe), `predict` and `evaluate`; the command
that does the same is printed, so that a figure of the table can be had by hand too. Finished work is not repeated,
interrupted work is taken up again.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unia_med.errors import UserError, suggestion
from unia_med.files import read_json, write_text
from unia_med.names import number_of
from unia_med.run_files import RunFiles

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.config.teacher import TeacherConfig


@dataclass(frozen=True)
class Entry:
    """One row of the comparison.

    Attributes:
        name: of the row and of its folder.
        config: shipped config or file; a recipe where `recipe` is set. For a row that is part of another, its name.
        labels: what it learns from, for the table.
        knowledge: what else it was given, for the table.
        part: folder within the run of the row `config`, such as `prior`: the row is that model and trains nothing.
        recipe: `config` is a recipe of `unia-med pipeline`, and `part` the stage whose model is scored.
        overrides: further settings, as for `--set`.
        work: what does the work in this row, where the name of the method would mislead, for the table.
    """

    name: str
    config: str
    labels: str
    knowledge: str = "-"
    part: str = ""
    recipe: bool = False
    overrides: tuple[str, ...] = ()
    work: str = ""


@dataclass(frozen=True)
class Result:
    """Score of one row and seed.

    Attributes:
        entry: the row.
        seed: of the run.
        iterations: of the run and of its teacher on synthetic slices, or of a recipe's stages up to the one scored.
        dice: Dice (P, T) per patient, the mean of its volumes, and class; NaN where a class was not scored.
        classes: T names.
    """

    entry: Entry
    seed: int
    iterations: int
    dice: np.ndarray
    classes: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean over classes of the mean over patients."""
        return float(np.nanmean(np.nanmean(self.dice, 0)))


class Comparison:
    """All runs of a comparison, within one folder: `runs/`, `masks/`, `scores/` and the tables.

    Args:
        root: the data set.
        output: the folder.
        scale: factor on all iterations; below 1 for a quick look.
        split: part of the data set that is scored.
        settings: further settings of every run, as for `--set`.
    """

    def __init__(
        self,
        root: Path,
        output: Path,
        scale: float = 1.0,
        split: str = "val",
        settings: Sequence[str] = (),
    ) -> None:
        self.root, self.output, self.split, self.scale = root, output, split, scale
        self.settings = tuple(settings)

    def result(self, entry: Entry, seed: int, entries: Mapping[str, Entry]) -> Result:
        """Train what is not yet trained, score what is not yet scored, and return the scores.

        Args:
            entry: the row.
            seed: of its run.
            entries: all rows by name, for those that are a part of another.
        """
        owner = entries[entry.config] if entry.part and not entry.recipe else entry
        scores = self._scores(entry, seed)
        if not scores.is_file():
            model = self._train(owner, seed) / entry.part
            self._score(entry, seed, model, scores)
        table = read_json(scores, "Remove it, and call again")
        dice = patient_means(table["cases"], table["classes"])
        return Result(entry, seed, self._budget(entry, owner), dice, tuple(table["classes"]))

    def reference(self, iterations: int, full: Entry) -> Entry:
        """Full supervision of the same number of iterations; `full` itself where it has as many.

        Args:
            iterations: already scaled.
            full: the row of full supervision.
        """
        if self._budget(full, full) == iterations:
            return full
        exact = f"training.iterations={max(1, round(iterations / self.scale))}"
        return replace(full, name=f"{full.name}_{iterations}", overrides=(*full.overrides, exact))

    def _train(self, entry: Entry, seed: int) -> Path:
        run = self.output / "runs" / f"{entry.name}_seed{seed}"
        if self._scores(entry, seed).is_file():
            return run
        settings = self._settings(entry, seed)
        if entry.recipe:
            _say("pipeline", entry.config, "--output", run, settings=settings)
            _run_recipe(entry.config, run, settings)
        else:
            train_once(entry.config, run, settings)
        return run

    def _scores(self, entry: Entry, seed: int) -> Path:
        return self.output / "scores" / f"{entry.name}_seed{seed}.json"

    def _score(self, entry: Entry, seed: int, model: Path, scores: Path) -> None:
        from unia_med import api

        masks = self.output / "masks" / f"{entry.name}_seed{seed}"
        _say("predict", "--model", model, "--input", self.root, "--split", self.split, "--output", masks)
        failed = [case for case in api.predict(model, self.root, masks, split=self.split) if case.error is not None]
        _refuse_failed({case.name: str(case.error) for case in failed}, "predicted")
        config = next(path for folder in (model, model.parent) if (path := RunFiles(folder).config).is_file())
        folders = ("--predictions", masks, "--labels", self.root)
        _say("evaluate", *folders, "--config", config, "--split", self.split, "--output", scores)
        found = api.evaluate(masks, self.root, config=config, split=self.split)
        _refuse_failed(found.faults, "scored")
        found.write(scores)

    def _settings(self, entry: Entry, seed: int) -> list[str]:
        settings = [f"data.root={self.root}", f"seed={seed}", *self.settings, *entry.overrides]
        if entry.recipe:
            budgets = self._stage_budgets(entry).items()
            return [*settings, *(f"stages.{name}.training.iterations={count}" for name, count in budgets)]
        config = self._config(entry)
        iterations = scaled(config.training.iterations, self.scale)
        settings += [f"training.iterations={iterations}", f"training.validate_every={iterations}"]
        if (teacher := _trained_teacher(config)) is not None:
            settings.append(f"prior.{teacher[0]}.iterations={scaled(teacher[1].iterations, self.scale)}")
        return settings

    def _config(self, entry: Entry) -> RunConfig:
        from unia_med.config.load import load_config

        return load_config(entry.config, [*self.settings, *entry.overrides])

    def _stage_budgets(self, entry: Entry) -> dict[str, int]:
        """Return iterations of each training stage of a recipe."""
        from unia_med.config.load import parse_config
        from unia_med.pipeline.recipe import load_recipe, merged

        recipe = load_recipe(entry.config)
        own = {stage.name: merged(recipe.shared, stage.settings) for stage in recipe.stages if stage.step == "train"}
        trainings = {name: parse_config({"training": values.get("training", {})}) for name, values in own.items()}
        return {name: scaled(config.training.iterations, self.scale) for name, config in trainings.items()}

    def _budget(self, entry: Entry, owner: Entry) -> int:
        if owner.recipe:
            stages = self._stage_budgets(owner)
            return sum(list(stages.values())[: list(stages).index(entry.part) + 1])
        config = self._config(owner)
        prior = _trained_teacher(config)
        teacher = scaled(prior[1].iterations, self.scale) if prior is not None else 0
        return teacher if entry.part else teacher + scaled(config.training.iterations, self.scale)


def _trained_teacher(config: RunConfig) -> tuple[str, TeacherConfig] | None:
    """Return the name and settings of the teacher that a run trains; none where it starts from a model."""
    return None if config.training.start_from is not None else config.prior.teacher()


def train_once(config: str, run: Path, settings: Sequence[str]) -> None:
    """Train a run, or go on with it where it was begun, and print the command that does the same.

    Args:
        config: shipped config or file.
        run: its folder.
        settings: as for `--set`.

    Raises:
        KeyboardInterrupt: it was interrupted, after a checkpoint.
    """
    from unia_med import api
    from unia_med.engine.interrupt import Interrupted

    resume = RunFiles(run).config.is_file()
    _say("train", "--config", config, "--output", run, *["--resume"] * resume, settings=settings)
    try:
        api.train(config, run, set=settings, resume=resume)
    except Interrupted as stop:
        raise KeyboardInterrupt from stop


def _run_recipe(recipe: str, run: Path, settings: Sequence[str]) -> None:
    from unia_med.pipeline.recipe import load_recipe
    from unia_med.pipeline.runner import run_recipe

    if run_recipe(load_recipe(recipe, settings), run):  # only a stage that was interrupted gives a code
        raise KeyboardInterrupt


def _refuse_failed(reasons: Mapping[str, str], done: str) -> None:
    if reasons:
        listing = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
        raise UserError(f"{number_of(len(reasons), 'case')} could not be {done}:{listing}", "comparison")


def _say(command: str, *arguments: str | Path, settings: Sequence[str] = ()) -> None:
    """Print the command line that does the same."""
    more = [text for setting in settings for text in ("--set", setting)]
    print(f"unia-med {shlex.join([command, *map(str, arguments), *more])}", flush=True)


def scaled(iterations: float, scale: float) -> int:
    """Return iterations times a factor, at least 1."""
    return max(1, round(iterations * scale))


def patient_means(cases: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> np.ndarray:
    """Dice (P, T) of each patient, the mean over its volumes, from the cases that `unia-med evaluate` writes.

    The volumes of a patient are named `PATIENT_...`.

    Args:
        cases: entries with `case` and `dice` by class; a class in neither mask has None.
        classes: T names.

    Example:
        >>> cases = [{"case": f"p1_frame0{i}", "dice": {"liver": d}} for i, d in ((1, 0.5), (9, 0.7))]
        >>> patient_means(cases, ["liver"]).tolist()
        [[0.6]]
    """
    patients: dict[str, list[list[float]]] = {}
    for case in cases:
        row = [np.nan if case["dice"][name] is None else case["dice"][name] for name in classes]
        patients.setdefault(case["case"].split("_")[0], []).append(row)
    return np.array([_column_means(np.array(rows, dtype=float)) for rows in patients.values()])


def _column_means(rows: np.ndarray) -> list[float]:
    known = ~np.isnan(rows)
    return [float(rows[known[:, k], k].mean()) if known[:, k].any() else float("nan") for k in range(rows.shape[1])]


def select(entries: Sequence[Entry], names: Sequence[str] | None) -> list[Entry]:
    """Return the rows that are asked for, in the order of the table.

    Args:
        entries: all rows.
        names: wanted ones; None for all.

    Raises:
        UserError: a name that no row has.
    """
    known = {entry.name for entry in entries}
    for name in names or ():
        if name not in known:
            raise UserError(f"no row '{name}'", where="--only", remedy=suggestion(name, known))
    return [entry for entry in entries if names is None or entry.name in names]


def compare(comparison: Comparison, entries: Sequence[Entry], wanted: Sequence[Entry], seeds: Sequence[int]) -> None:
    """Run the wanted rows and their references, writing `table.md` and `table.csv` after each.

    Args:
        comparison: where and how.
        entries: all rows; the one called `full` is full supervision.
        wanted: rows to run.
        seeds: of the runs.
    """
    by_name = {entry.name: entry for entry in entries}
    results: list[Result] = []
    references: dict[int, list[Result]] = {}
    for entry in wanted:
        found = [comparison.result(entry, seed, by_name) for seed in seeds]
        results += found
        budget = found[0].iterations
        if budget not in references:
            full = comparison.reference(budget, by_name["full"])
            references[budget] = [comparison.result(full, seed, by_name) for seed in seeds]
        write_tables(comparison.output, results, references)


def write_tables(output: Path, results: Sequence[Result], references: Mapping[int, Sequence[Result]]) -> None:
    """Write `table.md` (a row per entry) and `table.csv` (a row per entry and seed).

    Args:
        output: folder.
        results: in the order of the table; the seeds of an entry together.
        references: full supervision by number of iterations.
    """
    classes = list(dict.fromkeys(name for result in results for name in result.classes))
    write_text(output / "table.md", to_markdown(results, references, classes))
    write_text(output / "table.csv", to_csv(results, references, classes))


def to_markdown(results: Sequence[Result], references: Mapping[int, Sequence[Result]], classes: Sequence[str]) -> str:
    """Write a Markdown row per entry: mean and standard deviation over patients, both averaged over seeds.

    The mean of every seed and the ratio of the mean to full supervision with as many iterations follow.
    """
    heads = ["row", "labels", "extra knowledge", "iterations", *classes, "mean", "by seed", "of full"]
    lines = [line(heads), line(["---"] * len(heads))]
    for entry in dict.fromkeys(result.entry for result in results):
        ours = [result for result in results if result.entry == entry]
        ratio = _ratio(ours, references)
        title = f"{entry.name}: {entry.work}" if entry.work else entry.name
        cells = [title, entry.labels, entry.knowledge, str(ours[0].iterations)]
        cells += [_spread(ours, name) for name in classes]
        cells += [f"**{np.mean([r.mean for r in ours]):.3f}**", " / ".join(f"{r.mean:.3f}" for r in ours)]
        lines.append(line([*cells, "-" if ratio is None else f"{ratio:.3f}"]))
    return "\n".join(lines) + "\n"


def to_csv(results: Sequence[Result], references: Mapping[int, Sequence[Result]], classes: Sequence[str]) -> str:
    """Return a row per entry and seed, with mean and standard deviation over patients per class."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [f"{name} {kind}" for name in classes for kind in ("mean", "std")]
    writer.writerow(["row", "labels", "extra knowledge", "iterations", "seed", *columns, "mean", "of full"])
    for result in results:
        values = [value for name in classes for value in (_statistics(result, name) or ("", ""))]
        ratio = _ratio([result], references)
        entry = result.entry
        start = [entry.name, entry.labels, entry.knowledge, result.iterations, result.seed]
        writer.writerow([*start, *values, result.mean, "" if ratio is None else ratio])
    return stream.getvalue()


def _ratio(ours: Sequence[Result], references: Mapping[int, Sequence[Result]]) -> float | None:
    """Of the means over the same seeds; None where other classes were scored, as with merged ones."""
    seeds, classes = {result.seed for result in ours}, ours[0].classes
    full = [r.mean for r in references.get(ours[0].iterations, ()) if r.seed in seeds and r.classes == classes]
    return float(np.mean([result.mean for result in ours]) / np.mean(full)) if len(full) == len(ours) else None


def _statistics(result: Result, name: str) -> tuple[float, float] | None:
    if name not in result.classes:
        return None
    column = result.dice[:, result.classes.index(name)]
    return float(np.nanmean(column)), float(np.nanstd(column))


def _spread(ours: Sequence[Result], name: str) -> str:
    found = [statistics for result in ours if (statistics := _statistics(result, name)) is not None]
    if not found:
        return "-"
    mean, deviation = np.mean(found, 0)
    return f"{mean:.3f} ± {deviation:.3f}"


def line(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"
