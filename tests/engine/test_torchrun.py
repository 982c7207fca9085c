"""`unia-med train` under torchrun: two processes end well, resume, and train what one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unia_med.engine.checkpoint import load_checkpoint

SETTINGS = (
    "training.iterations=4",
    "training.checkpoint_every=2",
    "training.batch_size=4",
    "training.validate_every=2",
    "data.grid.size=[48,48]",
    "data.grid.spacing_mm=4.0",
    "prior.names=[]",
    "prior.rounds=1",
)


def train(processes: int, run: Path, hearts: Path, *more: str) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = ["train", "--config", "phantom_tiny.yaml", "--output", str(run), "--device", "cpu"]
    changes = [f"--set={setting}" for setting in (*SETTINGS, f"data.root={hearts}")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [*launch, "-m", "unia_med.cli.main", *arguments, *changes, *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["none", "dice"])
def test_two_processes_end_with_0_and_a_calibration_fresh_and_resumed(tmp_path: Path, keep: str) -> None:
    from unia_med.cardiac.phantom.dataset import write_dataset

    write_dataset(tmp_path / "hearts", patients=4, seed=0)
    kept = f"--set=training.keep_best_by={keep}"
    done = train(2, tmp_path / "run", tmp_path / "hearts", kept)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] == 4
    (tmp_path / "run" / "calibration.json").unlink()
    again = train(2, tmp_path / "run", tmp_path / "hearts", kept, "--resume")
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "calibration.json").read_text()) == two
    one = train(1, tmp_path / "one", tmp_path / "hearts", kept)
    assert one.returncode == 0, one.stderr[-3000:]
    found = json.loads((tmp_path / "one" / "calibration.json").read_text())
    assert found["cases"] == two["cases"] and found["voxels"] == two["voxels"]
