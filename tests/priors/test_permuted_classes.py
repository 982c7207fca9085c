"""A whole run whose classes are named in another order than the prior's: the masks are right, class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unia_med.build import build_dataset
from unia_med.cardiac.phantom.dataset import write_dataset
from unia_med.config.schema import RunConfig
from unia_med.data.splits import split_cases
from unia_med.engine.session import train
from unia_med.metrics.overlap import dice
from unia_med.runs import Run


@pytest.mark.slow
@pytest.mark.parametrize("classes", [["LV", "MYO", "RV"], ["MYO", "LV"]])
def test_a_permuted_run_finds_each_class(tmp_path: Path, classes: list[str]) -> None:
    write_dataset(tmp_path / "hearts", 4, 0)
    config = RunConfig.model_validate(
        {
            "data": {
                "root": str(tmp_path / "hearts"),
                "classes": classes,
                "split": {"kind": "fractions", "fractions": [0.5, 0.5, 0.0]},
                "grid": {"spacing_mm": 3.0, "size": [64, 64]},
            },
            "network": {"backbone": "lite0"},
            "method": {"name": "partial"},
            "prior": {
                "names": ["phantom"],
                "scales": [1.0],
                "phantom": {"slices": 400, "iterations": 150, "batch_size": 8},
            },
            "training": {"iterations": 40, "batch_size": 8, "learning_rate": 1e-3, "ema": 0.9, "validate_every": 40},
        }
    )
    assert train(config, tmp_path / "run", device="cpu") == 0
    predictor, dataset = Run.open(tmp_path / "run").predictor(), build_dataset(config.data)
    rows = []
    for case in split_cases(dataset.cases(), config.data.split, config.seed)["val"]:
        found = dataset.evaluation_case(case)
        labels = predictor.predict_volume(found.volume).labels
        rows.append([dice(labels == label, found.labels == label) for label in range(1, len(classes) + 1)])
    means = np.mean(np.array(rows, dtype=float), 0)
    # A swap of two classes, which lie apart, gives both 0.
    assert (means > 0.35).all(), dict(zip(classes, means, strict=True))
