"""Checkpoints are whole or absent, and never run code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unia_med.engine.checkpoint import load_checkpoint, save_checkpoint
from unia_med.errors import UserError

_WRITER = """
import sys, torch
from pathlib import Path
from unia_med.engine.checkpoint import save_checkpoint
step = 0
while True:
    save_checkpoint({"step": step, "weights": torch.full((200_000,), float(step))}, Path(sys.argv[1]))
    step += 1
"""


def test_a_kill_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    state = load_checkpoint(path, ["step", "weights"])
    assert (state["weights"] == state["step"]).all()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_foreign_and_truncated_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint({"step": 1, "weights": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:700] if content is None else content)
    with pytest.raises(UserError, match="last.pt"):
        load_checkpoint(path, ["step"])


def test_a_hostile_pickle_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "last.pt", tmp_path / "trace"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {trace}",)

    torch.save({"format": 1, "step": Hostile()}, path)
    with pytest.raises(UserError):
        load_checkpoint(path, ["step"])
    assert not trace.exists()


def test_objects_never_enter_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="config"):
        save_checkpoint({"config": tmp_path}, tmp_path / "last.pt")
    assert not (tmp_path / "last.pt").exists()
