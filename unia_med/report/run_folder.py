"""Reads the records of a training from a run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unia_med.config.schema import RunConfig
from unia_med.engine.calibration import Calibration, read_calibration
from unia_med.errors import UserError
from unia_med.files import read_json
from unia_med.run_files import RunFiles, read_metrics

Curve = list[tuple[float, float]]
"""Points (step, value) in order of the steps."""

LABEL_PREFIX = "label_dice_"
DICE_PREFIX = "val_dice_"
_TRAIN_TAG = "train/"


@dataclass(frozen=True)
class RunRecord:
    """The records of a run.

    Attributes:
        name: of the folder.
        config: resolved, with the fitted temperature.
        losses: mean loss terms over training, by name; `loss` is their weighted sum.
        scores: validation Dice over training, by class.
        rows: of metrics.csv; empty cells are left out.
        environment: versions, device, seed; empty when there is no record.
        calibration: what was fitted, or None.
    """

    name: str
    config: RunConfig
    losses: dict[str, Curve]
    scores: dict[str, Curve]
    rows: list[dict[str, float]]
    environment: Mapping[str, Any]
    calibration: Calibration | None

    @property
    def label_columns(self) -> list[str]:
        """Columns of the label table, in the order of metrics.csv."""
        names = dict.fromkeys(name for row in self.rows for name in row if name.startswith(LABEL_PREFIX))
        return [name.removeprefix(LABEL_PREFIX) for name in names]


def read_run(run: Path, config: RunConfig) -> RunRecord:
    """Read metrics, curves and environment of a run folder.

    Args:
        run: run folder.
        config: its resolved config.

    Raises:
        UserError: there is no metrics.csv, or it is no table of numbers.
    """
    files = RunFiles(run)
    rows = read_metrics(files.metrics)
    return RunRecord(
        name=run.resolve().name,
        config=config,
        losses=_board_losses(files.board) or _table_losses(rows),
        scores=_curves(rows, DICE_PREFIX),
        rows=rows,
        environment=_environment(files.environment),
        calibration=read_calibration(run),
    )


def _curves(rows: list[dict[str, float]], prefix: str) -> dict[str, Curve]:
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(prefix))
    return {name.removeprefix(prefix): [(row["step"], row[name]) for row in rows if name in row] for name in names}


def _table_losses(rows: list[dict[str, float]]) -> dict[str, Curve]:
    """Loss terms from metrics.csv alone: one point per validation."""
    others = ("step", "learning_rate", "seconds", "val_dice")
    skipped = (DICE_PREFIX, LABEL_PREFIX, "val_m")  # of photographs: mIoU and other means
    names = dict.fromkeys(n for row in rows for n in row if n not in others and not n.startswith(skipped))
    return {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}


def _board_losses(folder: Path) -> dict[str, Curve]:
    """Loss terms of every logged interval from the TensorBoard files; nothing where there are none."""
    if not folder.is_dir() or not any(folder.glob("events.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"scalars": 2000})
    board.Reload()
    tags = [tag for tag in board.Tags()["scalars"] if tag.startswith(_TRAIN_TAG) and not tag.endswith("/learning_rate")]
    return {tag.removeprefix(_TRAIN_TAG): _points(board.Scalars(tag)) for tag in tags}


def _points(events: Any) -> Curve:
    # A resumed run may log a step twice; the later value is the one that counts.
    latest = {int(event.step): float(event.value) for event in events if math.isfinite(event.value)}
    return [(float(step), value) for step, value in sorted(latest.items())]


def _environment(path: Path) -> Mapping[str, Any]:
    try:
        found = read_json(path)
    except UserError:
        return {}
    known = found if isinstance(found, dict) else {}
    return {name: value for name, value in known.items() if name != "packages" or isinstance(value, dict)}
