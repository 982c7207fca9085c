"""The commands of the README one after the other, on synthetic hearts and with a budget of seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

TINY = {
    "data": {
        "split": {"kind": "lists", "train": ["patient001", "patient002"], "val": ["patient003"]},
        "grid": {"spacing_mm": 4.0, "size": [48, 48]},
    },
    "network": {"weights": "none", "width": 32, "depth": 3, "uncertainty_width": 32},
    "method": {"label_source": "P1", "thresholds": {"high": 0.55, "low": 0.45}, "weights": {"dense_energy": 0.0}},
    "prior": {"names": ["phantom"], "rounds": 2, "scales": [1.0], "phantom": {"slices": 20, "iterations": 2}},
    "training": {"iterations": 4, "batch_size": 4, "validate_every": 4, "checkpoint_every": 2, "log_every": 2},
}


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unia_med.cli.main", *arguments], capture_output=True, text=True, check=False
    )


def _done(*arguments: str) -> str:
    result = _command(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a synthetic data set in `data` and a tiny run in `run`."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    _done("phantom", "--output", str(folder / "data"), "--patients", "3")
    _done(
        "train",
        "--config",
        str(folder / "tiny.yaml"),
        "--output",
        str(folder / "run"),
        "--set",
        f"data.root={folder / 'data'}",
    )
    return folder


def test_the_run_folder_holds_what_the_contract_says(run: Path) -> None:
    present = {path.relative_to(run / "run").as_posix() for path in (run / "run").rglob("*")}
    assert {
        "config.yaml",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "metrics.csv",
        "tensorboard",
        "train.log",
        "environment.json",
        "calibration.json",
    } <= present
    assert yaml.safe_load((run / "run" / "config.yaml").read_text())["training"]["iterations"] == 4
    assert len((run / "run" / "metrics.csv").read_text().splitlines()) == 2
    assert json.loads((run / "run" / "environment.json").read_text())["seed"] == 0


def test_predict_and_evaluate_the_held_out_patient(run: Path) -> None:
    masks = run / "masks"
    _done(
        "predict",
        "--model",
        str(run / "run"),
        "--input",
        str(run / "data"),
        "--split",
        "val",
        "--output",
        str(masks),
        "--uncertainty",
    )
    cases = sorted(path.name.removesuffix("_seg.nii.gz") for path in masks.glob("*_seg.nii.gz"))
    assert len(cases) == 2
    for case in cases:
        image = nibabel.load(run / "data" / "patient003" / f"{case}.nii.gz")
        mask, doubt = (nibabel.load(masks / f"{case}_{kind}.nii.gz") for kind in ("seg", "uncertainty"))
        assert mask.shape == doubt.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert mask.get_data_dtype() == np.uint8
        assert doubt.get_data_dtype() == np.float32
        values = doubt.get_fdata()
        assert values.min() >= 0
        assert values.max() <= 1
    _done(
        "evaluate",
        "--predictions",
        str(masks),
        "--labels",
        str(run / "data"),
        "--config",
        str(run / "run" / "config.yaml"),
        "--split",
        "val",
        "--output",
        str(run / "scores.json"),
    )
    scores = json.loads((run / "scores.json").read_text())
    assert scores["classes"] == ["RV", "MYO", "LV"]
    assert sorted(row["case"] for row in scores["cases"]) == cases
    assert set(scores["mean"]["dice"]) == {"RV", "MYO", "LV", "mean"}


@pytest.mark.slow
def test_report_of_the_run(run: Path) -> None:
    page = run / "run" / "report.html"
    assert "written to" in _done("report", str(run / "run"), "--device", "cpu")
    text = page.read_text()
    assert "phantom; 2 rounds of labels" in text and "Temperature" in text and "patient003_frame01" in text
    assert page.stat().st_size < 10_000_000


@pytest.mark.slow
def test_a_second_run_never_overwrites_the_first(run: Path) -> None:
    arguments = ("train", "--config", str(run / "tiny.yaml"), "--set", f"data.root={run / 'data'}")
    again = _command(*arguments, "--output", str(run / "run"))
    assert again.returncode == 2
    assert "--resume" in again.stderr and "Traceback" not in again.stderr
    _done(*arguments, "--output", str(run / "absent"), "--resume")  # where nothing is to resume, a run begins
    assert (run / "absent" / "checkpoints" / "best.pt").is_file()


@pytest.mark.slow
def test_one_bad_case_does_not_sink_the_batch(run: Path) -> None:
    inputs = run / "inputs"
    inputs.mkdir()
    good = next((run / "data" / "patient001").glob("*_frame01.nii.gz"))
    (inputs / "good.nii.gz").write_bytes(good.read_bytes())
    (inputs / "bad.nii.gz").write_bytes(good.read_bytes()[:2000])
    result = _command("predict", "--model", str(run / "run"), "--input", str(inputs), "--output", str(run / "some"))
    assert result.returncode == 1
    assert "bad.nii.gz" in result.stderr
    found = {path.name for path in (run / "some").iterdir()}
    assert found == {"good_seg.nii.gz", "good_seg.json", "summary.csv", "classes.json"}
