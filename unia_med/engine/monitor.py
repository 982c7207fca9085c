"""Records of a run: log, progress, metrics.csv, TensorBoard, environment.json."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from unia_med import __version__, distributed
from unia_med.errors import UserError
from unia_med.files import write_text
from unia_med.notes import notes_hidden
from unia_med.progress import Pace, bar
from unia_med.run_files import RunFiles

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_PACKAGES = ("torch", "monai", "pytorch-ignite", "timm", "numpy", "scipy", "nibabel", "pydantic")
_REFRESH_S = 0.2
_LOG = logging.getLogger(__name__)
_CONSOLE = Console(stderr=True)  # shared, so that messages appear above a progress bar and not through it

Number = float | int | None


def _curve(column: str) -> str:
    """Return the name in TensorBoard of a column of metrics.csv: its loss terms are means of the training.

    Example:
        >>> _curve("val_dice"), _curve("label_dice_CAM"), _curve("loss")
        ('validation/val_dice', 'validation/label_dice_CAM', 'train_mean/loss')
    """
    return f"{'validation' if column.startswith(('val_', 'label_')) else 'train_mean'}/{column}"


class Monitor:
    """Keep the numbers of one training; used as a context while it runs. Only the first process writes."""

    def __init__(self, run_dir: Path, iterations: int, title: str = "train") -> None:
        """Prepare; nothing is written yet.

        Args:
            run_dir: folder of `metrics.csv` and `tensorboard/`.
            iterations: budget of the training.
            title: shown next to the progress bar.
        """
        self._run_dir, self._iterations, self._title = run_dir, iterations, title
        self._table = MetricsTable(RunFiles(run_dir).metrics)
        self._board: SummaryWriter | None = None
        self._bar: Callable[..., None] | None = None
        self._shown, self._begun, self._pace = 0.0, 0, Pace()

    @contextmanager
    def open(self, step: int) -> Iterator[None]:
        """Open files and progress bar for the time of a block.

        Args:
            step: iterations done already; what an earlier, killed part of the run wrote beyond it is dropped.
        """
        if not distributed.is_main():
            yield
            return
        from torch.utils.tensorboard import SummaryWriter

        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._table.continue_at(step)
        self._board = SummaryWriter(str(RunFiles(self._run_dir).board), purge_step=step + 1)
        self._begun, self._pace = step, Pace()
        try:
            with self._progress(step), _silent_writer():
                yield
        except BaseException:
            with suppress(OSError):  # where the folder is gone, its error must not hide the first one
                self._close()
            raise
        self._close()

    def advance(self, step: int) -> None:
        """Move the progress bar, at most a few times per second; without one, say now and then how far it is.

        Args:
            step: iterations done.
        """
        if self._bar is None and distributed.is_main() and self._pace.due():
            left = self._pace.left(step - self._begun, self._iterations - self._begun)
            _LOG.info("%s, step %d of %d, %s", self._title, step, self._iterations, left)
        if self._bar is not None and time.monotonic() - self._shown > _REFRESH_S:
            self._shown = time.monotonic()
            self._bar(completed=step)

    def losses(self, step: int, means: Mapping[str, float], rate: float) -> None:
        """Loss terms of an interval, and the learning rate.

        Args:
            step: iterations done.
            means: mean of each term since the last call.
            rate: of the first parameter group.
        """
        if not distributed.is_main():
            return
        terms = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        _LOG.info("%s, step %d: %s", self._title, step, terms, extra={"routine": True})
        self._plot(step, {f"train/{name}": value for name, value in means.items()} | {"train/learning_rate": rate})
        if self._bar is not None:
            self._bar(completed=step, note=f"loss {means.get('loss', math.nan):.4f}")

    def row(self, step: int, values: Mapping[str, Number]) -> None:
        """Return a row of metrics.csv.

        Args:
            step: iterations done.
            values: mean loss terms since the last row, and validation scores; None or NaN leaves a cell empty.
        """
        if not distributed.is_main():
            return
        known = {name: value for name, value in values.items() if value is not None and not math.isnan(value)}
        self._table.append({"step": step, **{name: known.get(name) for name in values}})
        self._plot(step, {_curve(name): float(value) for name, value in known.items()})

    def _plot(self, step: int, values: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    @contextmanager
    def _progress(self, step: int) -> Iterator[None]:
        if not _CONSOLE.is_terminal:
            yield
            return
        try:
            with bar(self._title, _CONSOLE, self._iterations, step) as self._bar:
                yield
        finally:
            self._bar = None

    def _close(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None


@contextmanager
def _silent_writer() -> Iterator[None]:
    """Keep back the traceback of TensorBoard's thread; its next call raises the same error once more."""
    earlier = threading.excepthook

    def said(args: threading.ExceptHookArgs) -> None:
        if type(args.thread).__name__ != "_AsyncWriterThread":
            earlier(args)

    threading.excepthook = said
    try:
        yield
    finally:
        threading.excepthook = earlier


class MetricsTable:
    """`metrics.csv`: always a whole file; new columns may join later."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read or written yet.

        Args:
            path: the CSV.
        """
        self._path = path
        self._rows: list[dict[str, str]] = []

    def continue_at(self, step: int) -> None:
        """Keep earlier rows up to a step; later ones will come again.

        Args:
            step: iterations that the checkpoint holds.
        """
        if not self._path.is_file():
            return
        try:
            with self._path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
            self._rows = [row for row in rows if int(row["step"]) <= step]
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            what = f"is no table of validations ({type(error).__name__}: {error})"
            raise UserError(what, self._path, "Remove it, to go on without the earlier rows") from error
        if not self._rows:
            self._path.unlink()
        elif len(self._rows) < len(rows):
            self._write()

    def append(self, row: Mapping[str, Number]) -> None:
        """Add a row and put the whole file in place.

        Args:
            row: numbers by column; None leaves a cell empty.
        """
        self._rows.append({name: _cell(value) for name, value in row.items()})
        self._write()

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._path, text.getvalue())


class _Screen(logging.Handler):
    """Messages on the terminal; those of single intervals are left to the progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if not (_CONSOLE.is_terminal and getattr(record, "routine", False)):
            _CONSOLE.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Return the package's messages on the terminal and in a file, from the first process only.

    Args:
        path: the log; an earlier one is continued.
    """
    logger = logging.getLogger("unia_med")
    earlier = logger.level
    handlers: list[logging.Handler] = []
    if distributed.is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [_Screen(), logging.FileHandler(path, encoding="utf-8")]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if handlers else logging.WARNING)
    try:
        with notes_hidden():
            yield
    finally:
        logger.setLevel(earlier)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def write_environment(path: Path, device: torch.device, seed: int) -> None:
    """Write versions, device and seed as JSON.

    Args:
        path: `environment.json` of the run folder.
        device: where the run computes.
        seed: of the run.
    """
    facts = {
        "unia_med": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cuda": torch.version.cuda,
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
        "seed": seed,
    }
    write_text(path, json.dumps(facts, indent=2) + "\n")


def _cell(value: Number) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
