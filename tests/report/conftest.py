"""A run folder as training leaves it, with an untrained network, on the tiny data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from unia_med.build import build_method
from unia_med.config.load import dump_config, plain
from unia_med.config.schema import RunConfig
from unia_med.engine.checkpoint import save_checkpoint

COLUMNS = "step,loss,segmentation,learning_rate,seconds,val_dice_RV,val_dice_MYO,val_dice_LV,val_dice"
METRICS = f"""{COLUMNS},label_dice_CAM,label_dice_prediction
10,2.5,1.5,0.001,3,0.1,0.2,0.3,0.2,0.15,0.2
20,1.25,0.5,0,6,0.4,,0.6,0.5,0.25,0.5
"""
ENVIRONMENT = {"unia_med": "9.9", "packages": {"torch": "2.0"}, "device": "cpu"}
CALIBRATION = {"temperature": 1.5, "cases": 2, "voxels": 1000, "ece_before": 0.2, "ece_after": 0.1}
CONFIG = {
    "data": {"grid": {"spacing_mm": 1.5, "size": [48, 48]}},
    "network": {"weights": "none", "width": 16, "depth": 3, "uncertainty_width": 16},
    "method": {"weights": {"dense_energy": 0.0}},
    "inference": {"postprocess": {"largest_component": True, "fill_holes": True, "slice_gaps": True}},
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network as a checkpoint; built once."""
    config = RunConfig.model_validate(CONFIG)
    weights = build_method(config).state_dict()
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    classes = ["RV", "MYO", "LV"]
    save_checkpoint({"model": weights, "ema": weights, "config": plain(config), "classes": classes, "step": 20}, path)
    return path


@pytest.fixture
def run_dir(checkpoint: Path, tiny_acdc: Path, tmp_path: Path) -> Path:
    """A finished run; patient013 validates."""
    run = tmp_path / "first_run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(checkpoint, run / "checkpoints")
    config = RunConfig.model_validate({**CONFIG, "data": {**CONFIG["data"], "root": tiny_acdc}})
    dump_config(config, run / "config.yaml")
    (run / "metrics.csv").write_text(METRICS)
    (run / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (run / "calibration.json").write_text(json.dumps(CALIBRATION))
    return run
