"""`unia-med train` under torchrun: two processes end well, resume, and train what one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from unia_med.engine.checkpoint import load_checkpoint
from unia_med.run_files import read_metrics

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


DIES = """
import os, signal, sys
from unia_med.cli.main import main
from unia_med.engine.trainer import Trainer
run = Trainer.run
def dying(self):
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return run(self)
Trainer.run = dying
sys.exit(main())
"""


def launched(
    processes: int, *arguments: str, program: Sequence[str] = ("-m", "unia_med.cli.main")
) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [*launch, *program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def arguments_of(run: Path, hearts: Path) -> list[str]:
    arguments = ["train", "--config", "phantom_tiny.yaml", "--output", str(run), "--device", "cpu"]
    return [*arguments, *(f"--set={setting}" for setting in (*SETTINGS, f"data.root={hearts}"))]


def train(processes: int, run: Path, hearts: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return launched(processes, *arguments_of(run, hearts), *more)


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


EVEN = (
    "method.name=partial",
    "method.weights={cross_entropy: 1.0, dice: 0.0}",
    "data.labels=[{kind: masks, source: masks}]",
    "data.tags={source: none}",
    "network={backbone: vit, model: vit_tiny_patch16_224, weights: none, decoder: largefov}",
    "augment={rotate_degrees: 0, scale: [1, 1], shear: 0, translate: 0, gamma: [1, 1], contrast: [1, 1], brightness: 0,"
    " noise: 0, blur_px: 0, bias_field: 0}",
    "training.learning_rate=0.0001",
    "training.amp=false",  # rounding to half precision differs with the batch
)
"""Without batch norm and augmentation, which differ between processes, and with the same count of pixels in each."""


@pytest.mark.slow
def test_two_processes_train_the_weights_and_scores_of_one_with_the_batch_of_both(tmp_path: Path) -> None:
    from unia_med.cardiac.phantom.dataset import write_dataset

    write_dataset(tmp_path / "hearts", patients=4, seed=0)
    for processes, batch in ((1, 8), (2, 4)):
        changes = [f"--set={setting}" for setting in (*EVEN, f"training.batch_size={batch}")]
        done = train(processes, tmp_path / str(processes), tmp_path / "hearts", *changes)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in "12")
    for name, value in one["ema"].items():
        torch.testing.assert_close(two["ema"][name], value, rtol=1e-3, atol=2e-5)
    scores = [read_metrics(tmp_path / name / "metrics.csv") for name in "12"]
    assert [row["step"] for row in scores[0]] == [row["step"] for row in scores[1]] == [2, 4]
    for first, second in zip(*scores, strict=True):
        dice = [name for name in first if name.startswith("val_dice")]
        assert dice and [second[name] for name in dice] == pytest.approx([first[name] for name in dice], abs=2e-3)


@pytest.mark.slow
def test_a_killed_process_ends_the_others(tmp_path: Path) -> None:
    from unia_med.cardiac.phantom.dataset import write_dataset

    write_dataset(tmp_path / "hearts", patients=4, seed=0)
    program = tmp_path / "dies.py"
    program.write_text(DIES)
    done = launched(2, *arguments_of(tmp_path / "run", tmp_path / "hearts"), program=[str(program)])
    assert done.returncode != 0 and "SIGKILL" in done.stderr
    assert not (tmp_path / "run" / "checkpoints" / "best.pt").exists()
