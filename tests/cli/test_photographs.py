"""Photographs through the whole path: train, predict, evaluate."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image

from unia_med.cli.main import main
from unia_med.data.io.image import read_mask, write_mask

QUICK = [
    "--set",
    "data.grid.size=[64, 64]",
    "--set",
    "training.iterations=2",
    "--set",
    "training.validate_every=2",
    "--set",
    "network.weights=none",
    "--set",
    "network.width=16",
    "--set",
    "method.scales=[1.0]",
]


def test_train_predict_evaluate_on_voc(tmp_path: Path, photographs: ModuleType, capsys: pytest.CaptureFixture) -> None:
    year, run, masks = photographs.make_voc(tmp_path), tmp_path / "run", tmp_path / "masks"
    root = f"data.root={year}"
    assert main(["train", "--config", "voc_tiny", "--set", root, *QUICK, "--output", str(run), "--device", "cpu"]) == 0
    head, row = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()][:2]
    assert 0 <= float(dict(zip(head, row, strict=True))["val_miou"]) <= 1
    _switch_crf_on(run)
    images = str(year / "JPEGImages")
    call = ["predict", "--model", str(run), "--input", images, "--output", str(masks), "--device", "cpu"]
    assert main([*call, "--tta", "--uncertainty"]) == 0
    for name in photographs.BOXES:
        with Image.open(masks / f"{name}_seg.png") as found:
            assert found.mode == "P" and found.size == photographs.SIZE[::-1]
        assert read_mask(masks / f"{name}_uncertainty.png").array.shape == (*photographs.SIZE, 1)
    capsys.readouterr()
    scores = tmp_path / "scores.json"
    labels = str(year / "SegmentationClass")
    assert main(["evaluate", "--predictions", str(masks), "--labels", labels, "--output", str(scores)]) == 0
    assert "mIoU" in capsys.readouterr().out and json.loads(scores.read_text())["set"]["cases"] == 3


def _switch_crf_on(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["inference"]["crf"]["iterations"] = 2
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_scores_of_known_masks(tmp_path: Path, photographs: ModuleType, capsys: pytest.CaptureFixture) -> None:
    """The validation image predicted by its own box, half of which is called a dog."""
    year = photographs.make_voc(tmp_path)
    name = "2007_000003"
    mask = photographs.mask_of(name)
    predicted = np.where(mask == 255, 12, mask)  # whatever is said of the border does not count
    predicted[mask == 8] = np.where(np.arange((mask == 8).sum()) % 2, 8, 12)
    write_mask(predicted, tmp_path / "masks" / f"{name}.png")
    scores = tmp_path / "scores.csv"
    call = ["evaluate", "--predictions", str(tmp_path / "masks"), "--output", str(scores)]
    assert main([*call, "--labels", str(year), "--config", "voc_tiny", "--split", "val"]) == 0
    with scores.open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    whole = {
        n: [rows["set"][f"{n} {m}"] for m in ("iou", "precision", "recall", "confusion")]
        for n in ("background", "cat", "dog", "mean")
    }
    assert whole["background"] == ["1.0", "1.0", "1.0", "0.0"]
    assert whole["cat"] == ["0.5", "1.0", "0.5", "0.0"]
    assert whole["dog"] == ["0.0", "0.0", "", ""]  # predicted, never true
    assert whole["mean"] == ["0.75", "1.0", "0.75", "0.0"]
    assert float(rows[name]["cat dice"]) == pytest.approx(2 / 3) and rows[name]["dog dice"] == "0.0"
    capsys.readouterr()
    assert main([*call, "--labels", str(year / "SegmentationClass")]) == 1  # the two others have no prediction
    assert "2 of 3 cases could not be scored" in capsys.readouterr().err
    assert main([*call, "--labels", str(year / "SegmentationClass"), "--split", "val"]) == 2


def test_coco_is_scored_from_its_annotations(tmp_path: Path, photographs: ModuleType) -> None:
    pytest.importorskip("pycocotools")
    root = photographs.make_coco(tmp_path / "coco")
    predicted = np.zeros(photographs.SIZE, np.uint8)
    predicted[4:24, 4:24] = 17
    write_mask(predicted, tmp_path / "masks" / "COCO_val2014_000000000003_seg.png")
    call = ["evaluate", "--predictions", str(tmp_path / "masks"), "--labels", str(root), "--config", "coco"]
    assert main([*call, "--split", "val", "--output", str(tmp_path / "scores.json")]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    # The dog of 400 pixels lacks the 16 of the toothbrush that lies on it.
    assert found["set"]["iou"]["dog"] == pytest.approx(384 / 400)
    assert found["set"]["iou"]["toothbrush"] == 0 and found["set"]["iou"]["mean"] == pytest.approx((1 + 0.96 + 0) / 3)


@pytest.mark.slow
def test_the_real_coco_sample_trains(coco_sample: Path, tmp_path: Path) -> None:
    root = f"data.root={coco_sample}"
    call = ["train", "--config", "coco_tiny", "--set", root, *QUICK, "--output", str(tmp_path / "run")]
    assert main([*call, "--device", "cpu"]) == 0
    image = coco_sample / "val2014" / "COCO_val2014_000000000001.jpg"
    found = tmp_path / "masks"
    assert main(["predict", "--model", str(tmp_path / "run"), "--input", str(image), "--output", str(found)]) == 0
    assert read_mask(found / f"{image.stem}_seg.png").array.shape == (338, 500, 1)
