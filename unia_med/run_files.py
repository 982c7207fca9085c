"""The names of the files in a run folder, spelled here and nowhere else, and its table of validations."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from unia_med.errors import UserError
from unia_med.files import read_json


@dataclass(frozen=True)
class RunFiles:
    """Paths of the parts of a run; nothing is opened or made.

    Args:
        folder: what `unia-med train --output` named.

    Example:
        >>> RunFiles(Path("runs/acdc")).best.as_posix()
        'runs/acdc/checkpoints/best.pt'
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.folder / "config.yaml"

    @property
    def method(self) -> Path:
        """Copy of the file of a method of one's own, which the run's config names."""
        return self.folder / "method.py"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def best(self) -> Path:
        """Checkpoint to predict with."""
        return self.checkpoints / "best.pt"

    @property
    def last(self) -> Path:
        """Checkpoint from which a run continues."""
        return self.checkpoints / "last.pt"

    @property
    def start(self) -> Path:
        """Weights with which the run began, for rounds that start again from them."""
        return self.checkpoints / "start.pt"

    @property
    def weights(self) -> Path:
        """Weights of a model that came with the package, which has no checkpoints."""
        return self.folder / "weights.pt"

    @property
    def metrics(self) -> Path:
        """Table with a row per validation."""
        return self.folder / "metrics.csv"

    @property
    def calibration(self) -> Path:
        """The fitted temperature."""
        return self.folder / "calibration.json"

    @property
    def images(self) -> Path:
        """What the training images are like, to notice others, and from which uncertainty a mask is reviewed."""
        return self.folder / "training_images.json"

    @property
    def log(self) -> Path:
        """What the training printed."""
        return self.folder / "train.log"

    @property
    def board(self) -> Path:
        """Folder of the TensorBoard files."""
        return self.folder / "tensorboard"

    @property
    def environment(self) -> Path:
        """Versions, device and seed."""
        return self.folder / "environment.json"

    @property
    def data(self) -> Path:
        """Hashes of the cases that the run began with."""
        return self.folder / "data.json"

    @property
    def split(self) -> Path:
        """Cases of each part, with their patients."""
        return self.folder / "split.json"

    @property
    def labelled(self) -> Path:
        """Names of the training cases that have weak labels."""
        return self.folder / "labelled.json"

    @property
    def labels(self) -> Path:
        """Folder of the soft labels of each round of self-training."""
        return self.folder / "labels"

    @property
    def prior(self) -> Path:
        """Folder of the anatomical prior: a run of its own."""
        return self.folder / "prior"

    @property
    def cache(self) -> Path:
        """Folder of preprocessed slices, where they are kept on the disk."""
        return self.folder / "cache"

    @property
    def report(self) -> Path:
        """The HTML page of `unia-med report`."""
        return self.folder / "report.html"

    @property
    def folds(self) -> Path:
        """Of a run of folds: how many there are, and their scores together."""
        return self.folder / "folds.json"

    @property
    def folds_table(self) -> Path:
        """Of a run of folds: scores of the cases that each fold left out."""
        return self.folder / "folds.csv"

    @property
    def finished(self) -> Path:
        """Of a fold: written when its training has ended."""
        return self.folder / "finished.json"

    def fold(self, number: int) -> Path:
        """Return the run folder of one fold.

        Args:
            number: from 0.
        """
        return self.folder / f"fold_{number}"

    def to_predict_with(self) -> Path | None:
        """Return the checkpoint that predicts best of those that are there, or None."""
        return next((path for path in (self.best, self.last, self.weights) if path.is_file()), None)


def read_names(path: Path) -> list[str]:
    """Return the names of cases in a JSON file; none where there is no file, as in runs of earlier versions.

    Args:
        path: for example `RunFiles.labelled`.

    Raises:
        UserError: it is no list of names.
    """
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError("is no list of names", where=path, remedy="Restore it from a copy, or remove it")
    return found


def read_fold_count(path: Path) -> int:
    """Return how many folds a run has.

    Args:
        path: `RunFiles.folds`.

    Raises:
        UserError: the file does not say it.
    """
    remedy = "Restore it from a copy, or name the folds themselves"
    found = read_json(path, remedy)
    count = found.get("folds") if isinstance(found, dict) else None
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserError("does not say how many folds there are", where=path, remedy=remedy)
    return count


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.csv with the cells that hold a number.

    Args:
        path: the file.
    """
    if not path.is_file():
        remedy = "A run writes it at its first validation: wait for it, or go on with `unia-med train --resume`"
        raise UserError("no such file", where=path, remedy=remedy)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
        rows = [{name: float(cell) for name, cell in row.items() if name and cell} for row in table]
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"is no table of numbers ({error})", where=path, remedy="Restore the run's own file") from error
    if not rows or not all("step" in row for row in rows):
        raise UserError("holds no row with a step", where=path, remedy="Wait for the first validation of the run")
    return rows
