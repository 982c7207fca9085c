"""The example that scores the heart as a whole agrees with a count by hand."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from unia_med.data.io.read import read_volume
from unia_med.runs import Run

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "score_heart.py"


def test_it_prints_the_dice_of_all_classes_together(
    run_dir: Path, tiny_acdc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specification = importlib.util.spec_from_file_location("score_heart", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    script.main(run_dir, str(tiny_acdc))
    peak, maps, prediction = map(float, re.findall(r"[01]\.\d+", capsys.readouterr().out))
    expected = []
    for mask in sorted(tiny_acdc.rglob("patient013*_gt.nii.gz")):
        image = read_volume(mask.with_name(mask.name.replace("_gt", "")))
        found, real = Run.open(run_dir).predictor().predict_volume(image).labels > 0, read_volume(mask).array > 0
        expected.append(2 * (found & real).sum() / (found.sum() + real.sum()))
    assert prediction == pytest.approx(np.mean(expected), abs=6e-4)
    assert 0 <= peak <= 1 and 0 <= maps <= 1
