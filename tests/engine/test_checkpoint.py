"""Checkpoints: atomic, plain, and loud about anything else."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from unia_med.engine.checkpoint import check_plain, load_checkpoint, load_weights, save_checkpoint
from unia_med.errors import UserError
from unia_med.files import remove_leftovers, write_atomically, write_text

STATE = {"ema": {"w": torch.arange(3.0)}, "config": {"a": [1, None]}, "classes": ["RV"], "step": 4}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(STATE, tmp_path / "new" / "last.pt")
    state = load_checkpoint(tmp_path / "new" / "last.pt")
    assert torch.equal(state["ema"]["w"], torch.arange(3.0))
    assert {key: state[key] for key in ("config", "classes", "step")} == {
        key: STATE[key] for key in ("config", "classes", "step")
    }


@pytest.mark.parametrize("foreign", [np.float64(1), Path("x"), {1, 2}, object()])
def test_only_plain_values_are_written(foreign: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['config'\]\['deep'\]\[0\]"):
        save_checkpoint({**STATE, "config": {"deep": [foreign]}}, tmp_path / "last.pt")
    assert list(tmp_path.iterdir()) == []


def test_plain_check_accepts_tuples_and_tensors() -> None:
    check_plain({"betas": (0.9, 0.999), "t": torch.zeros(1), 3: None})


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.target),))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    for name, save in (("zip.pt", torch.save), ("raw.pt", lambda o, p: p.write_bytes(pickle.dumps(o)))):
        path = tmp_path / name
        save({**STATE, "format": 1, "x": _Bomb(tmp_path / "ran")}, path)
        with pytest.raises(UserError, match="code instead of weights"):
            load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(STATE, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"last\.pt: the checkpoint is damaged"):
        load_checkpoint(path)


def test_a_flipped_bit_in_the_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    save_checkpoint({**STATE, "ema": {"w": torch.full((500,), 0.5)}}, path)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(torch.full((8,), 0.5).numpy().tobytes()) + 100] ^= 4
    path.write_bytes(bytes(damaged))
    with pytest.raises(UserError, match=r"best\.pt: the checkpoint is damaged .*checksum"):
        load_checkpoint(path)


def test_missing_foreign_old_and_incomplete_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(UserError, match="no checkpoint here"):
        load_checkpoint(path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="no unia_med checkpoint"):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match="format 99"):
        load_checkpoint(path)
    save_checkpoint({"step": 1}, path)
    with pytest.raises(UserError, match="lacks ema, config, classes"):
        load_checkpoint(path)


@pytest.mark.parametrize("key", ["ema", "config", "classes", "step"])
@pytest.mark.parametrize("odd", [None, 3.5, "x"])
def test_entries_of_another_kind_are_refused(tmp_path: Path, key: str, odd: object) -> None:
    save_checkpoint({**STATE, key: odd}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=f"lacks {key}"):
        load_checkpoint(tmp_path / "last.pt")


def test_weights_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 3)
    with pytest.raises(UserError, match="1 entries do not fit"):
        load_weights(layer, {**layer.state_dict(), "bias": [1, 2, 3]}, tmp_path)


def test_a_failing_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_text(path, "old")

    def fail(file: object) -> None:
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_kill_in_the_middle_of_a_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(STATE, path)
    code = (
        "import os, signal, sys, pathlib\n"
        "from unia_med.files import write_atomically\n"
        "def die(file):\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), die)\n"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_checkpoint(path)["step"] == 4
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["last.pt"]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    small, large = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    with pytest.raises(UserError, match="2 entries do not fit"):
        load_weights(large, small.state_dict(), tmp_path)
    with pytest.raises(UserError, match="first other"):
        load_weights(small, {**small.state_dict(), "other": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match="first bias"):
        load_weights(small, {"weight": small.weight}, tmp_path)
    other = torch.nn.Linear(2, 3)
    load_weights(other, small.state_dict(), tmp_path)
    assert torch.equal(other.weight, small.weight)
