"""Trains UniA with its modules switched on one after another, and measures what each of them does.

No row has an anatomical prior. The steps before the decoder begins are the same for all rows but for the uncertainty
branch; they are trained once per seed, as the CAM baseline, and every row goes on from there. That is cheaper, and rows
of a seed then differ by their modules alone. Every run is trained by the verb `train`, with the command that is
printed. Finished rows are kept, interrupted ones are taken up again.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.config.unia import UniaConfig
from unia_med.errors import UserError
from unia_med.files import write_json, write_text
from unia_med.pipeline.ablation_measures import MEASURES, WITHIN, measure
from unia_med.pipeline.ablation_measures import within as measure_within
from unia_med.pipeline.comparison import line, scaled, train_once
from unia_med.pipeline.lanes import Lane, run_lanes
from unia_med.run_files import RunFiles

RECIPE = object()
"""In place of a value: what the task's config says."""

STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "CAM baseline",
        {
            "method.mask": "off",
            "method.weights.distribution": 0.0,
            "method.label_source": "P1",
            "method.gates.agreement": 1.0,
            "method.gates.trust_cam": 1.0,
            "method.weights.affinity": 0.0,
            "method.weights.token_contrast": 0.0,
        },
    ),
    ("+ uncertainty inference", {"method.mask": "plain", "method.weights.distribution": RECIPE}),
    ("+ soft masking", {"method.mask": RECIPE}),
    ("+ PAR", {"method.label_source": "P2"}),
    ("+ affinity", {"method.label_source": "F"}),
    ("+ mutual complementing", {"method.gates.agreement": RECIPE, "method.gates.trust_cam": RECIPE}),
    ("+ contrastive affinity loss", {"method.weights.affinity": RECIPE}),
    ("+ token contrast", {"method.weights.token_contrast": RECIPE}),
)
"""The rows from top to bottom, and what each changes of the row above it."""

LOOKED_INTO = ("+ mutual complementing", "+ token contrast")
"""The rows whose networks are looked into, too: before affinity is learned, and the whole method."""

START = {"method.weights.segmentation": 0.0, "method.weights.dense_energy": 0.0}
"""What the common start of a seed's rows has in place of the first row's: no decoder yet."""


@dataclass(frozen=True)
class Row:
    """One row of the ablation.

    Attributes:
        name: what it adds.
        settings: in place of the task's, all changes up to this row.
    """

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """What is to be found, from slice tags alone.

    Attributes:
        name: of the task.
        config: shipped config or file.
        write: writes the data set into a folder; None where its place is given.
        as_one: all classes are scored as one object, for classes that tags cannot separate.
        settings: in place of the config's, such as its budget.
    """

    name: str
    config: str
    write: Callable[[Path], object] | None = None
    as_one: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def rows() -> list[Row]:
    """Return the rows, each with all that the rows above it have."""
    found, settings = [], dict[str, Any]()
    for name, changes in STEPS:
        settings |= changes
        found.append(Row(name, {key: value for key, value in settings.items() if value is not RECIPE}))
    return found


class Ablation:
    """All runs of an ablation, within one folder: `data/`, `runs/`, `scores/` and the tables.

    Args:
        output: the folder.
        scale: factor on all iterations; below 1 for a quick look.
        roots: places of data sets by task, for those that are not written here.
    """

    def __init__(self, output: Path, scale: float = 1.0, roots: Mapping[str, Path] | None = None) -> None:
        self.output, self.scale, self.roots = output, scale, dict(roots or {})

    def run(self, tasks: Sequence[Task], wanted: Sequence[Row], seeds: Sequence[int], at_once: int = 1) -> None:
        """Train and score every row; the tables are written after each row.

        Args:
            tasks: to be solved.
            wanted: rows, in this order.
            seeds: of each task.
            at_once: how many seeds of tasks are worked on at the same time, each in a process of its own.
        """
        pairs = [(task, seed) for task in tasks for seed in seeds]
        if at_once == 1:
            for task, seed in pairs:
                for row in wanted:
                    self.scores(task, row, seed)
                    self.within(task, row, seed)
                    self.write_tables(tasks, wanted, seeds)
            return
        for task in tasks:
            self.root(task)  # before two seeds would write it at the same time
        lanes = [
            Lane(f"{task.name}, seed {seed}", functools.partial(self._all_scores, task, wanted, seed), log)
            for task, seed in pairs
            for log in [self.output / "logs" / f"{task.name}_seed{seed}.txt"]
        ]
        finished = -1

        def look() -> None:
            nonlocal finished
            places = [self._place(task, row, seed) for task, seed in pairs for row in wanted]
            if (now := sum(place.is_file() for place in places)) != finished:
                self.write_tables(tasks, wanted, seeds)
                print(f"{now} of {len(places)} rows finished", flush=True)
                finished = now

        run_lanes(lanes, at_once, look)
        self.write_tables(tasks, wanted, seeds)

    def _all_scores(self, task: Task, wanted: Sequence[Row], seed: int) -> None:
        for row in wanted:
            self.scores(task, row, seed)
            self.within(task, row, seed)

    def scores(self, task: Task, row: Row, seed: int) -> dict[str, float]:
        """Return `MEASURES` of a row, trained and scored now unless that was done before."""
        from unia_med.runs import Run

        path = self._place(task, row, seed)
        if not path.is_file():
            run = self.output / "runs" / run_name(task, row, seed)
            train_once(task.config, run, self.settings(task, row, seed))
            write_json(path, measure(Run.open(run), task.as_one))
        found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def within(self, task: Task, row: Row, seed: int) -> None:
        """Look into the network of a row of `LOOKED_INTO`, unless that was done before."""
        from unia_med.runs import Run

        path = self._place(task, row, seed, "_within")
        if row.name in LOOKED_INTO and not path.is_file():
            run = self.output / "runs" / run_name(task, row, seed)
            write_json(path, measure_within(Run.open(run), task.as_one))

    def root(self, task: Task) -> Path:
        """Return the data set's folder; it is written where it is a synthetic one that is not yet there."""
        if task.write is None:
            return self.roots[task.name]
        folder = self.output / "data" / task.name
        if not folder.is_dir() or not any(folder.glob("*.csv")):
            task.write(folder)
        return folder

    def start(self, task: Task, seed: int) -> Path:
        """Return the run that all rows of a seed begin with; it is trained now unless that was done before."""
        run = self.output / "runs" / f"{task.name}_common_start_seed{seed}"
        if not RunFiles(run).best.is_file():
            iterations, _ = self.budgets(task)
            train_once(task.config, run, self._settings(task, seed, iterations, {**rows()[0].settings, **START}))
        return run

    def settings(self, task: Task, row: Row, seed: int) -> list[str]:
        """Return what the row has in place of the config's settings, as for `--set`; the row's own come last."""
        gates, _ = _recipe(task)
        begun = gates["segmentation"]
        later = {f"method.gates.{name}": max(0.0, (gate - begun) / (1 - begun)) for name, gate in gates.items()}
        start = {"training.start_from": str(self.start(task, seed))}
        return self._settings(task, seed, self.budgets(task)[1], {**start, **later, **row.settings})

    def budgets(self, task: Task) -> tuple[int, int]:
        """Return the iterations of the common start, up to the decoder's gate, and those of each row."""
        gates, whole = _recipe(task)
        share = gates["segmentation"]
        return scaled(share * whole, self.scale), scaled((1 - share) * whole, self.scale)

    def _settings(self, task: Task, seed: int, iterations: int, changes: Mapping[str, Any]) -> list[str]:
        budget = {"training.iterations": iterations, "training.validate_every": iterations}
        values = {"data.root": str(self.root(task)), "seed": seed, **task.settings, **budget, **changes}
        return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]

    def write_tables(self, tasks: Sequence[Task], wanted: Sequence[Row], seeds: Sequence[int]) -> None:
        """Write `ablation.md` (means over seeds) and `ablation.csv` (every seed) of what is finished."""
        found, inside = (
            {
                (task.name, row.name, seed): json.loads(path.read_text(encoding="utf-8"))
                for task in tasks
                for row in wanted
                for seed in seeds
                if (path := self._place(task, row, seed, kind)).is_file()
            }
            for kind in ("", "_within")
        )
        write_text(self.output / "ablation.md", to_markdown(found) + within_to_markdown(inside))
        write_text(self.output / "ablation.csv", to_csv(found))

    def _place(self, task: Task, row: Row, seed: int, kind: str = "") -> Path:
        return self.output / "scores" / f"{run_name(task, row, seed)}{kind}.json"


def _recipe(task: Task) -> tuple[dict[str, float], int]:
    """Return the gates and the iterations of a task's recipe."""
    from unia_med import api

    config = api.configured(task.config, task.settings)
    if not isinstance(config.method, UniaConfig):
        raise UserError(f"the method {config.method.name} has no modules of UniA", task.config)
    return config.method.gates.model_dump(), config.training.iterations


Scores = Mapping[tuple[str, str, int], Mapping[str, float]]
"""Measures by task, row and seed."""


def run_name(task: Task, row: Row, seed: int) -> str:
    """Return the name of a run's folder.

    Example:
        >>> run_name(Task("lesions", "lesions_tags.yaml"), Row("+ token contrast", {}), 1)
        'lesions_token_contrast_seed1'
    """
    return f"{task.name}_{row.name.strip('+ ').replace(' ', '_')}_seed{seed}"


def to_markdown(scores: Scores) -> str:
    """Return a table per task: a row per step, every measure as the mean over seeds, the prediction also by seed."""
    parts = []
    for task in dict.fromkeys(task for task, _, _ in scores):
        heads = ["row", *MEASURES, "prediction by seed"]
        lines = [f"**{task}**", "", line(heads), line(["---"] * len(heads))]
        for name in dict.fromkeys(row for one, row, _ in scores if one == task):
            seeds = [found for (one, row, _), found in scores.items() if (one, row) == (task, name)]
            means = [f"{np.mean([found[key] for found in seeds]):.3f}" for key in MEASURES]
            lines.append(line([name, *means, " / ".join(f"{found['prediction']:.3f}" for found in seeds)]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def within_to_markdown(scores: Mapping[tuple[str, str, int], Mapping[str, float | None]]) -> str:
    """Return a table per task: a row per network that was looked into, every measure by seed, `-` if there is none."""
    parts = []
    for task in dict.fromkeys(task for task, _, _ in scores):
        lines = ["", f"**{task}, within one network**, by seed", "", line(["network of", *WITHIN])]
        lines.append(line(["---"] * (1 + len(WITHIN))))
        for name in dict.fromkeys(row for one, row, _ in scores if one == task):
            seeds = [found for (one, row, _), found in scores.items() if (one, row) == (task, name)]
            cells = ([found[key] for found in seeds] for key in WITHIN)
            texts = (" / ".join("-" if value is None else f"{value:.3f}" for value in values) for values in cells)
            lines.append(line([name, *texts]))
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def to_csv(scores: Scores) -> str:
    """Return a row per task, step and seed."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["task", "row", "seed", *MEASURES])
    writer.writerows([*key, *(found[name] for name in MEASURES)] for key, found in scores.items())
    return stream.getvalue()
