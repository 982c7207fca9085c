"""What a run tells while it trains: metrics.csv, TensorBoard, train.log, environment.json."""

from __future__ import annotations

import csv
import json
import logging
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from types import TracebackType

import torch

from unia_med import __version__
from unia_med.engine.checkpoint import write_text_atomically

_PACKAGES = ("torch", "monai", "pytorch-ignite", "timm", "numpy", "nibabel")
_LOG = logging.getLogger(__name__)


class Monitor:
    """Writes the numbers of one training; used as a context while it runs.

    Args:
        run_dir: Folder of `metrics.csv` and `tensorboard/`.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.table = run_dir, run_dir / "metrics.csv"
        self._writer = None

    def __enter__(self) -> Monitor:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.run_dir / "tensorboard"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def losses(self, step: int, values: Mapping[str, float], rate: float) -> None:
        """Loss terms of one step, and the learning rate."""
        _LOG.info("step %d: %s", step, ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
        self._plot(step, {f"train/{name}": value for name, value in values.items()} | {"train/learning_rate": rate})

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """A row of metrics.csv: mean loss terms since the last one, and validation scores."""
        self._write([*self._rows(), {"step": str(step), **{k: f"{v:.6g}" for k, v in values.items()}}])
        self._plot(step, {f"validation/{name}": value for name, value in values.items() if name.startswith("val_")})

    def forget_after(self, step: int) -> None:
        """Drops rows beyond the step a run is resumed from: they will come again."""
        rows = self._rows()
        kept = [row for row in rows if int(row["step"]) <= step]
        if len(kept) != len(rows):
            self._write(kept)

    def _plot(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def _rows(self) -> list[dict[str, str]]:
        if not self.table.exists():
            return []
        with self.table.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, str]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.table.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.table, text.getvalue())


def write_environment(path: Path, device: torch.device, seed: int) -> None:
    """Writes versions, device and seed as JSON."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    values = {
        "unia_med": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "seed": seed,
    }
    write_text_atomically(path, json.dumps(values, indent=2) + "\n")
