"""Output that cannot be written: every command ends with exit code 2 and one message, nothing is half-written."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from unia_med.cli.main import main

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="limits the size of files in a forked process")

LIMIT = 3000
"""Bytes that a file may have, as on a disk that becomes full: records fit, results do not."""

SHORT = ["training.iterations=2", "training.validate_every=2", "training.batch_size=2", "data.grid.size=[48,48]"]
SHORT += ["data.grid.spacing_mm=4.0", "prior.names=[]", "prior.rounds=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hearts of four patients, their masks as predictions, and an untrained run."""
    from unia_med.cardiac.phantom.dataset import write_dataset

    folder = tmp_path_factory.mktemp("faults")
    patients = write_dataset(folder / "hearts", patients=4, seed=0)
    (folder / "masks").mkdir()
    for file in patients[-1].glob("*_gt.nii.gz"):
        shutil.copy(file, folder / "masks" / file.name.replace("_gt", "_seg"))
    grid = {"spacing_mm": 4.0, "size": [48, 48]}
    _untrained_run().write_run(folder / "run", data={"root": str(folder / "hearts"), "grid": grid})
    return folder


def _untrained_run() -> ModuleType:
    source = Path(__file__).parents[1] / "bundle" / "untrained_run.py"
    spec = importlib.util.spec_from_file_location("untrained_run", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inspect(place: Path) -> list[str]:
    return ["inspect", "--config", "acdc.yaml", "--set", f"data.root={place / 'hearts'}"]


def train(place: Path) -> list[str]:
    changes = [f"--set={setting}" for setting in (*SHORT, f"data.root={place / 'hearts'}")]
    return ["train", "--config", "phantom_tiny.yaml", "--device", "cpu", *changes]


def evaluate(place: Path) -> list[str]:
    return ["evaluate", "--predictions", str(place / "masks"), "--labels", str(place / "hearts")]


COMMANDS: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "init": (lambda place: ["init", str(place / "hearts")], "project.yaml"),
    "inspect": (inspect, "report.html"),
    "train": (train, "run"),
    "predict": (
        lambda place: ["predict", "--model", "cardiac-sax", "--input", str(place / "hearts"), "--device", "cpu"],
        "masks",
    ),
    "evaluate": (evaluate, "scores.json"),
    "evaluate as a table": (evaluate, "scores.csv"),
    "cardiac": (lambda place: ["cardiac", "--masks", str(place / "masks")], "indices.csv"),
    "weaken": (lambda place: ["weaken", *inspect(place)[1:], "--kind", "points"], "points"),
    "export": (lambda place: ["export", "--model", str(place / "run"), "--no-onnx"], "bundle"),
    "report": (lambda place: ["report", str(place / "run"), "--device", "cpu", "--cases", "0"], "report.html"),
    "phantom": (lambda place: ["phantom", "--patients", "1"], "hearts"),
    "demo": (lambda place: ["demo"], "demo"),
    "pipeline": (
        lambda place: ["pipeline", "affinitynet_phantom.yaml", "--set", f"data.root={place / 'hearts'}"],
        "recipe",
    ),
}
"""What is typed but for `--output`, and the name of what is written."""

COMMANDS["next"] = (
    lambda place: ["next", "cardiac-sax", str(place / "hearts"), "--count", "1", "--device", "cpu"],
    "chosen",
)
COMMANDS["folds"] = (lambda place: [*train(place), "--folds", "2"], "folds")

WHOLE = {"config.yaml", "data.json", "split.json", "environment.json", "metrics.csv", "train.log"}
WHOLE |= {"tags.csv"}
"""What fits into `LIMIT`, and is there whole."""

SMALL = {"init", "inspect", "evaluate", "evaluate as a table", "cardiac"}
"""Commands whose results are smaller than `LIMIT`; to them the disk is full from the start."""


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command: str, place: Path, tmp_path: Path) -> None:
    limit = 20 if command in SMALL else LIMIT
    arguments, name = COMMANDS[command]
    output = tmp_path / "new" / name
    code, said = limited([*arguments(place), "--output", str(output)], limit)
    assert code == 2 and "Traceback" not in said, said
    assert str(output) in said and "cannot be written: File too large" in said and "--output" in said, said
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or file.name in WHOLE or "points.nii.gz" in file.name or "tfevents" in file.name, file


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_where_a_folder_is_needed_or_the_other_way_round(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, name = COMMANDS[command]
    place = tmp_path / "absent"  # the output is looked at before anything else
    (tmp_path / name).mkdir() if "." in name else (tmp_path / name).write_text("x")
    (tmp_path / "file").write_text("x")
    for output, words in (
        (tmp_path / name, "is a folder, expected a file" if "." in name else "is a file, expected a folder"),
        (tmp_path / "file" / "sub" / name, "where a folder is needed"),
    ):
        assert main([*arguments(place), "--output", str(output)]) == 2
        said = capsys.readouterr().err
        assert str(output) in said and words in said and "--output" in said
    assert len(list(tmp_path.rglob("*"))) == 2


@pytest.mark.parametrize("option", ["--drawings", "--sr"])
def test_other_options_that_name_a_place_are_looked_at_too(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    arguments = ["cardiac", "--masks", str(tmp_path / "absent"), "--output", str(tmp_path / "a.csv")]
    assert main([*arguments, option, str(tmp_path / "file")]) == 2
    assert f"{tmp_path / 'file'}: is a file, expected a folder" in capsys.readouterr().err


def limited(arguments: Sequence[str], most: int) -> tuple[int, str]:
    """Run a command in a process of its own in which files cannot grow beyond a size; exit code and what it printed."""
    import resource
    import signal

    read, write = os.pipe()
    child = os.fork()
    if not child:
        code = 99
        try:
            os.dup2(write, 1)
            os.dup2(write, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, in place of the process
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            code = main(list(arguments))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said
