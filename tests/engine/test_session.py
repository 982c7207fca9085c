"""A run folder is made once, never overwritten, and continued only by the config that made it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unia_med.build import build_dataset
from unia_med.config.load import load_config, parse_config
from unia_med.config.schema import RunConfig
from unia_med.data.sample import CaseFiles
from unia_med.engine import session
from unia_med.engine.checkpoint import load_checkpoint
from unia_med.engine.interrupt import Interrupted
from unia_med.errors import UserError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces data and training; gets the folders in which training began."""
    begun: list[Path] = []
    parts = {"train": [CaseFiles("case", "case", Path("none.nii"))], "val": []}
    monkeypatch.setattr(session, "build_dataset", lambda config: SimpleNamespace(cases=lambda: []))
    monkeypatch.setattr(session, "split_cases", lambda cases, split, seed: parts)
    monkeypatch.setattr(session, "_train", lambda config, output, *rest: begun.append(output))
    return begun


@pytest.mark.parametrize("step", [0, 7])
def test_rounds_begin_before_training_or_go_on_where_it_stopped(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher's weights enter the average too, which has been made before them."""
    done: list[tuple] = []
    note = lambda name: lambda *given: done.append((name, *given))  # noqa: E731
    trainer = SimpleNamespace(step=step, method="method", ema_method="average", best_path="best", run=note("run"))
    trainer.restart_average = note("average")
    plan = SimpleNamespace(before_training=note("teacher"), restore=note("restore"))
    prepared = trainer, plan, SimpleNamespace(kept="kept")
    monkeypatch.setattr(session, "_prepared", lambda *given: prepared)
    monkeypatch.setattr(session, "calibrate", lambda *given: done.append(("calibrate", *given[:2], given[-1])))
    monkeypatch.setattr(session, "note_images", lambda *given: done.append(("note", *given[:2], given[4:6])))
    parts = {"train": ["train"], "val": ["val"]}
    session._train(_config(), tmp_path, torch.device("cpu"), None, parts, True, None)
    begin = [("restore", 7)] if step else [("teacher", "method"), ("average",)]
    end = [("calibrate", "average", "best", "kept"), ("note", "average", "best", (["train"], ["val"]))]
    assert done == [*begin, ("run",), *end]


@pytest.mark.parametrize("chosen", [False, True])
def test_what_decides_the_order_of_slices_reaches_them(chosen: bool, tiny_acdc: Path, tmp_path: Path) -> None:
    training = {"balanced": chosen, "labelled_share": 0.5 if chosen else None, "batch_size": 2}
    values = {"network": {"backbone": "lite0", "weights": "none"}, "method": {"name": "cam"}, "training": training}
    values |= {"data": {"root": str(tiny_acdc), "grid": {"spacing_mm": None, "size": [32, 32]}}}
    config = _config(**values, prior={"restart": chosen})
    dataset = build_dataset(config.data)
    parts = {"train": dataset.cases()[:2], "val": []}
    trainer, plan, _ = session._prepared(config, tmp_path, torch.device("cpu"), dataset, parts, None)
    assert plan is None and trainer._restarts is chosen
    assert trainer.dataset.discordant_weight == (3.0 if chosen else 1.0)
    assert trainer.dataset.labelled_share == training["labelled_share"]


def _config(**changes: Any) -> RunConfig:
    return parse_config(changes)


def test_a_new_folder_gets_its_records(calls: list[Path], tmp_path: Path) -> None:
    config = _config(seed=5)
    assert session.train(config, tmp_path / "run", device="cpu") == 0
    assert calls == [tmp_path / "run"]
    assert load_config(tmp_path / "run" / "config.yaml") == config
    facts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert (facts["seed"], facts["device"], facts["packages"]["torch"]) == (5, "cpu", torch.__version__)


def test_an_existing_run_is_not_touched(calls: list[Path], tmp_path: Path) -> None:
    session.train(_config(), tmp_path, device="cpu")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="a run is here already.*--resume"):
        session.train(_config(), tmp_path, device="cpu")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(calls) == 1


def test_a_folder_of_something_else_is_not_touched(calls: list[Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for target in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UserError, match="no run either"):
            session.train(_config(), target, device="cpu")
    assert calls == []


def test_a_run_without_its_config_is_named(calls: list[Path], tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"x")
    for resume in (False, True):
        with pytest.raises(UserError, match=r"config.yaml is missing. Put its config.yaml back"):
            session.train(_config(), tmp_path, resume)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"] and not calls


def test_resuming_nothing_begins(calls: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        assert session.train(_config(), tmp_path / name, resume=True, device="cpu") == 0
    assert calls == [tmp_path / "absent", tmp_path / "empty"]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "left", [["environment.json"], ["data.json", ".writing_x1"], ["data.json", "split.json", "environment.json"]]
)
def test_a_run_killed_among_its_first_files_begins_again(
    calls: list[Path], tmp_path: Path, left: list[str], resume: bool
) -> None:
    for name in left:
        (tmp_path / name).write_text("half")
    assert session.train(_config(), tmp_path, resume, device="cpu") == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".json", ".yaml")) == [
        "config.yaml",
        "data.json",
        "environment.json",
        "split.json",
    ]
    assert not (tmp_path / ".writing_x1").exists() and calls == [tmp_path]


def test_resuming_with_other_settings_names_them(calls: list[Path], tmp_path: Path) -> None:
    session.train(_config(), tmp_path, device="cpu")
    other = _config(seed=1, training={"learning_rate": 0.5, "log_every": 7}, data={"workers": 3})
    with pytest.raises(UserError, match=r"other settings: seed, training\.learning_rate\. "):
        session.train(other, tmp_path, resume=True, device="cpu")
    free = _config(training={"log_every": 7}, data={"workers": 3, "root": str(tmp_path)})
    assert session.train(free, tmp_path, resume=True, device="cpu") == 0


def test_an_interrupted_run_gives_its_exit_code(
    calls: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise Interrupted(7, signal.SIGINT)

    monkeypatch.setattr(session, "_train", stop)
    assert session.train(_config(), tmp_path, device="cpu") == 130
    assert "stopped at step 7; continue with --resume" in (tmp_path / "train.log").read_text()


def test_no_patient_to_train_on_is_said_before_anything_is_written(
    calls: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "split_cases", lambda cases, split, seed: {"train": [], "val": []})
    with pytest.raises(UserError, match="no patient is left to train on"):
        session.train(_config(), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


_TRAIN = """
import sys
from pathlib import Path
from unia_med.config.load import load_config
from unia_med.engine.session import train
overrides = sys.argv[2].split(";")
run = Path(sys.argv[1])
sys.exit(train(load_config("phantom_tiny", overrides), run, (run / "config.yaml").is_file(), "cpu"))
"""
_SETTINGS = (
    "training.iterations=8;training.checkpoint_every=3;training.batch_size=4;training.validate_every=4;"
    "prior.phantom.iterations=4;prior.phantom.slices=16;prior.phantom.batch_size=4;data.grid.size=[48,48];"
    "data.grid.spacing_mm=4.0"
)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_like_the_whole(tmp_path: Path) -> None:
    """Teacher, rounds, validation and all: killed at arbitrary moments, then resumed to the end."""
    from unia_med.cardiac.phantom.dataset import write_dataset

    write_dataset(tmp_path / "hearts", patients=4, seed=0)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert _start(whole, tmp_path / "hearts").wait() == 0
    for seconds in (4.0, 6.0, 8.0):
        process = _start(parts, tmp_path / "hearts")
        time.sleep(seconds)
        process.kill()
        process.wait()
    assert _start(parts, tmp_path / "hearts").wait() == 0
    a, b = (load_checkpoint(run / "checkpoints" / "best.pt") for run in (whole, parts))
    assert all(torch.equal(a["ema"][name], b["ema"][name]) for name in a["ema"])
    assert (whole / "metrics.csv").read_text() == (parts / "metrics.csv").read_text()
    assert not list(parts.rglob("*.part"))


def _start(run: Path, hearts: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _TRAIN, str(run), f"data.root={hearts};{_SETTINGS}"]
    return subprocess.Popen(command, env=environment)


def test_a_refused_start_leaves_no_folder_and_the_corrected_one_works(
    calls: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(session, "build_dataset", lambda config: SimpleNamespace(cases=lambda: []))
    parts = {"train": [CaseFiles("case", "case", Path("none.nii"))], "val": []}
    monkeypatch.setattr(session, "split_cases", lambda cases, split, seed: parts)
    wrong = _config(data={"labels": [{"kind": "scribbles", "source": "masks"}]})

    def refuse(*rest: Any) -> None:
        raise UserError("wrong values")

    monkeypatch.setattr(session, "load_weak_labels", refuse)
    for target in (tmp_path / "run", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="wrong values"):
            session.train(wrong, target, device="cpu")
        assert not target.exists()
        with monkeypatch.context() as patch:
            patch.setattr(session, "_train", lambda config, output, *rest: calls.append(output))
            assert session.train(_config(), target, device="cpu") == 0
    with pytest.raises(UserError, match="a run is here already"):
        session.train(wrong, tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "config.yaml").is_file()
