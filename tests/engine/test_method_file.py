"""A method of one's own in a file next to the config works in every command, from a copy that the run remembers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import unia_med
from unia_med.cli.main import main
from unia_med.config.load import load_config
from unia_med.runs import Run

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_method.py"

CONFIG = """
data:
  name: acdc
  grid: {spacing_mm: null, size: [32, 32]}
method: {use: methods/mine.py:TopPixels, settings: {share: 0.05}}
training: {iterations: 2, batch_size: 2, checkpoint_every: 1}
"""


@pytest.fixture
def command(tiny_acdc: Path, tmp_path: Path) -> list[str]:
    """`train` with a config whose method lies in a folder next to it."""
    (tmp_path / "project" / "methods").mkdir(parents=True)
    shutil.copy(EXAMPLE, tmp_path / "project" / "methods" / "mine.py")
    (tmp_path / "project" / "mine.yaml").write_text(CONFIG)
    path = tmp_path / "project" / "mine.yaml"
    return ["train", "--config", str(path), "--set", f"data.root={tiny_acdc}", "--output", str(tmp_path / "run")]


def test_every_command_knows_it_and_the_run_remembers_it(
    command: list[str], tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    run = tmp_path / "run"
    assert (run / "method.py").read_bytes() == EXAMPLE.read_bytes()
    assert "use: method.py:TopPixels" in (run / "config.yaml").read_text()
    moved = tmp_path / "elsewhere"
    shutil.move(run, moved)
    shutil.move(tmp_path / "project", tmp_path / "gone")
    scan = tiny_acdc / "training" / "patient013" / "patient013_frame01.nii.gz"
    assert main(["predict", "--model", str(moved), "--input", str(scan), "--output", str(tmp_path / "masks")]) == 0
    assert main(["report", str(moved), "--data", str(tiny_acdc)]) == 0
    bundle = tmp_path / "top_segmentation"
    assert main(["export", "--model", str(moved), "--output", str(bundle), "--no-onnx"]) == 0
    assert not list(bundle.rglob("method.py"))  # the network travels as a graph, and the file stays at home
    masks = [unia_med.load(source)(scan).mask.array for source in (moved, bundle)]
    assert np.array_equal(*masks)
    resume = ["train", "--config", str(moved / "config.yaml"), "--output", str(moved), "--resume"]
    assert main(resume) == 0
    changed = tmp_path / "gone" / "methods" / "mine.py"
    changed.write_text(changed.read_text() + "\n# another\n")
    capsys.readouterr()
    assert (
        main([*command[:2], str(tmp_path / "gone" / "mine.yaml"), *command[3:5], "--output", str(moved), "--resume"])
        == 2
    )
    assert "method.digest" in capsys.readouterr().err
    with (moved / "method.py").open("a") as file:
        file.write("# another\n")
    assert main(["predict", "--model", str(moved), "--input", str(scan), "--output", str(tmp_path / "m")]) == 2
    assert "not the file that the run was trained with" in capsys.readouterr().err
    assert Run(moved).config.method.digest  # a config is read without running the file


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("methods/other.py:TopPixels", "no such file"),
        ("methods/mine.py:Bottom", "Its methods: TopPixels"),
        ("methods/broken.py:TopPixels", "cannot be imported (ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    command: list[str], tmp_path: Path, use: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "project" / "methods" / "broken.py").write_text("1 / 0\n")
    config = tmp_path / "project" / "mine.yaml"
    config.write_text(CONFIG.replace("methods/mine.py:TopPixels", use))
    assert main(command) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert load_config(config).method.use == str(tmp_path / "project" / use)
