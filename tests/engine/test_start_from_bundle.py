"""`train --from BUNDLE`: its weights go to the classes of the same names, and what it lacks stays fresh."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from unia_med.build import build_method
from unia_med.bundle.export import export_bundle
from unia_med.cli.main import main
from unia_med.config.load import load_config
from unia_med.engine.start import start_from
from unia_med.runs import Run, read_start

pytestmark = pytest.mark.slow  # the export

OWN = """
data:
  name: volumes
  classes: [LV, SCAR, RV]
  class_values: [3, 2, 1]
  tags: {source: masks}
  split: {kind: fractions, fractions: [1, 0, 0]}
  grid: {spacing_mm: 4.0, size: [48, 48]}
network: {weights: none, width: 32, depth: 3, uncertainty_width: 32}
method: {name: unia}
training: {iterations: 1, batch_size: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of UniA on RV, MYO and LV, and the bundle of their average, of which a training takes the first."""
    path = Path(__file__).parents[1] / "bundle" / "untrained_run.py"
    spec = importlib.util.spec_from_file_location("untrained_run", path)
    untrained = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(untrained)
    root = tmp_path_factory.mktemp("bundles")
    for name in ("one", "other"):
        untrained.write_run(root / name)
    export_bundle([Run(root / "one"), Run(root / "other")], root / "both_segmentation", onnx=False)
    (root / "own.yaml").write_text(OWN)
    return root


def test_a_bundle_gives_what_its_run_gives(folder: Path) -> None:
    bundle = "both_segmentation"
    config = load_config(folder / "own.yaml")
    torch.manual_seed(5)
    fresh = build_method(config).state_dict()
    started = {}
    for source in ("one", bundle):
        torch.manual_seed(5)
        method = build_method(config)
        start_from(method, *read_start(str(folder / source)), config, build_method, source)
        started[source] = method.state_dict()
    held = set(read_start(str(folder / bundle))[0])
    assert held < set(fresh)  # a bundle holds what predicts; classifiers and other parts of training are left out
    for name, value in started[bundle].items():
        expected = started["one"][name] if name in held else fresh[name]
        assert torch.equal(value, expected), name
    head = "decoder.classifier.weight"
    (name,) = [name for name in held if name.endswith(head)]
    theirs = Run(folder / "one").method().state_dict()[name]
    mine = started[bundle][name]
    assert torch.equal(mine[[0, 1, 3]], theirs[[0, 3, 1]])  # background, LV and RV by name
    assert torch.equal(mine[2], fresh[name][2])  # the scar is new


def test_other_labels_and_other_data_learn_from_it(folder: Path, tiny_acdc: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for path in sorted((tiny_acdc / "training").rglob("*_frame01*.nii.gz")):
        shutil.copy(path, tmp_path / "scans")
    command = ["train", "--config", str(folder / "own.yaml"), "--set", f"data.root={tmp_path / 'scans'}"]
    bundle = folder / "both_segmentation"
    assert main([*command, "--from", str(bundle), "--output", str(tmp_path / "run")]) == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert "classes known there: LV, RV; new: SCAR" in log
    assert all(np.isfinite(row["loss"]) for row in Run(tmp_path / "run").metrics)
