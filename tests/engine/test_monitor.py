"""Records of a run: table, log, curves, progress."""

from __future__ import annotations

import io
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from unia_med import distributed, progress
from unia_med.engine import monitor
from unia_med.engine.monitor import MetricsTable, Monitor, log_to
from unia_med.engine.randomness import seed_everything, step_seed
from unia_med.errors import UserError


def test_columns_may_join_later_and_empty_cells_stay_empty(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.append({"step": 1, "loss": 0.5})
    table.append({"step": 2, "loss": None, "val_dice": 1 / 3})
    assert (tmp_path / "metrics.csv").read_text() == "step,loss,val_dice\n1,0.5,\n2,,0.333333\n"


def test_a_run_without_a_checkpoint_starts_its_table_anew(tmp_path: Path) -> None:
    MetricsTable(tmp_path / "metrics.csv").append({"step": 4, "loss": 0.5})
    MetricsTable(tmp_path / "metrics.csv").continue_at(3)
    assert not (tmp_path / "metrics.csv").exists()


def _console(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    shown = io.StringIO()
    monkeypatch.setattr(monitor, "_CONSOLE", Console(file=shown, force_terminal=terminal, width=100))
    return shown


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_for_terminals_and_the_log_has_everything(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _console(monkeypatch, terminal)
    records = Monitor(tmp_path, 10, "teacher")
    with log_to(tmp_path / "train.log"), records.open(0):
        records.advance(3)
        assert len(progress._SHOWN) == terminal  # bars of the validation find this display, and lie below its bar
        records.losses(4, {"loss": 0.25}, 1e-3)
        logging.getLogger("unia_med.engine.session").info("round 2")
        records.row(5, {"loss": 0.2, "val_dice": float("nan")})
    log = (tmp_path / "train.log").read_text()
    assert "teacher, step 4: loss 0.2500" in log and "round 2" in log
    assert ("/10" in shown.getvalue()) is terminal
    assert ("step 4" in shown.getvalue()) is not terminal
    assert "round 2" in shown.getvalue()
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a,b\n1,2\n", b"step,loss\nx,1\n"])
def test_a_damaged_table_is_named_at_resume(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match="metrics.csv: is no table of validations.*Remove it"):
        MetricsTable(tmp_path / "metrics.csv").continue_at(3)


def test_logging_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _console(monkeypatch, False)
    logger = logging.getLogger("unia_med")
    before = (list(logger.handlers), logger.level)
    with log_to(tmp_path / "train.log"):
        assert len(logger.handlers) == 2  # screen and file, in place of what is there between runs
    assert (list(logger.handlers), logger.level) == before


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    records = Monitor(tmp_path / "run", 10)
    with log_to(tmp_path / "run" / "train.log"), records.open(0):
        records.losses(1, {"loss": 1.0}, 1.0)
        records.row(2, {"loss": 1.0})
    assert not (tmp_path / "run").exists()


def test_sharing_and_gathering_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(range(5))
    assert distributed.gather(distributed.share(items)) == items
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.share(items))
    assert parts == [[0, 2, 4], [1, 3]]

    def exchange(into: list, mine: list) -> None:
        into[:] = parts

    monkeypatch.setattr(distributed, "active", lambda: True)
    monkeypatch.setattr(distributed.dist, "all_gather_object", exchange)
    assert distributed.gather(parts[0]) == items


def test_step_seeds_differ_in_every_argument() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(4)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_every_generator_follows_the_seed_of_its_step() -> None:
    drawn = []
    for seed in (7, 7, 8):
        seed_everything(seed)
        drawn.append((random.random(), float(np.random.random()), float(torch.rand(()))))
    assert drawn[0] == drawn[1] and all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))
    assert max(step_seed(0, step).bit_length() for step in range(50)) == 63
