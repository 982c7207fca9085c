"""The shipped recipe end to end on a tiny data set: labels, scores, skipping, resuming, predicting."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.cli.main import main
from unia_med.config.data import DataConfig
from unia_med.methods.base import Batch
from unia_med.methods.partial import Partial
from unia_med.pipeline.steps import mask_values

QUICK = {
    "network.weights": "none",
    "data.grid.size": "[32, 32]",
    "data.split": "{kind: lists, train: [patient001, patient002], val: [patient013]}",
    "training.iterations": "2",
    "training.batch_size": "4",
    "training.checkpoint_every": "1",
}


def _run(root: Path, output: Path, *more: str) -> int:
    settings = {**QUICK, "data.root": str(root)}
    options = [f"--set={key}={value}" for key, value in settings.items()] + [f"--set={text}" for text in more]
    return main(["pipeline", "affinitynet_phantom.yaml", "--output", str(output), "--device", "cpu", *options])


def test_mask_values_of_classes_groups_and_the_unknown() -> None:
    merged = DataConfig(groups={"RV": ["RV"], "WALL": ["MYO", "LV"]})
    assert mask_values(merged)[[0, 1, 2, 255]].tolist() == [0, 1, 2, 255]
    swapped = DataConfig(name="acdc", classes=["LV", "MYO", "RV"])  # ACDC's own values go by name
    assert mask_values(swapped)[[1, 2, 3]].tolist() == [3, 2, 1]


@pytest.mark.slow
def test_the_whole_recipe(tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    output = tmp_path / "out"
    steps: list[int] = []
    losses = Partial.losses

    def killed_once(self: Partial, batch: Batch, step: int) -> dict:
        steps.append(step)
        if len(steps) == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # ends the run after this step, with a checkpoint
        return losses(self, batch, step)

    monkeypatch.setattr(Partial, "losses", killed_once)
    assert _run(tiny_acdc, output) not in (0, 2)
    assert _run(tiny_acdc, output) == 0
    assert steps == [0, 1]  # the second call did not repeat the first step
    text = capsys.readouterr().out
    assert text.count("finished, unchanged") == 4 and "segmentation: goes on" in text

    for stage, known in (("confident", {0, 1, 2, 255}), ("pseudo_labels", {0, 1, 2})):
        files = sorted((output / stage).glob("*_labels.nii.gz"))
        assert [path.name[:10] for path in files] == ["patient001"] * 2 + ["patient002"] * 2
        for path in files:
            image = nib.load(tiny_acdc / "training" / path.name[:10] / path.name.replace("_labels", ""))
            labels = nib.load(path)
            assert labels.shape == image.shape and np.allclose(labels.affine, image.affine)
            values = np.asarray(labels.dataobj)
            assert set(np.unique(values)) <= known
            assert not values[..., 3].any()  # an empty slice is background, by its tags
            assert not (values[..., 2] == 1).any()  # and one without RV has none
        quality = json.loads((output / stage / "quality.json").read_text())
        assert quality["cases"] == 4 and set(quality["dice"]) == {"RV", "MYO_LV", "any class"}

    image = tiny_acdc / "training" / "patient013" / "patient013_frame01.nii.gz"
    masks = tmp_path / "masks"
    predict = ["predict", "--model", str(output / "segmentation"), "--input", str(image), "--output", str(masks)]
    assert main(predict) == 0
    assert nib.load(masks / "patient013_frame01_seg.nii.gz").shape == (40, 36, 4)

    assert _run(tiny_acdc, output, "stages.pseudo_labels.method.walk.beta=4") == 0
    assert capsys.readouterr().out.count("finished, unchanged") == 3
