"""Validation scores against masks read and compared by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.build import build_dataset
from unia_med.cardiac.phantom.dataset import write_dataset
from unia_med.config.load import parse_config
from unia_med.config.schema import RunConfig
from unia_med.engine.calibration import calibrate, fit
from unia_med.engine.checkpoint import save_checkpoint
from unia_med.engine.validation import Validation
from unia_med.engine.voxels import Kept
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch, Method, Prediction


class Bright(Method):
    """Call bright pixels class 3; its label columns are known by construction."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.weight.sum()}

    def predict(self, images: Tensor) -> Prediction:
        bright = (images[:, 0] > 0.5).float()
        nothing = torch.zeros_like(bright)
        return Prediction(torch.stack([1 - bright, nothing, nothing, bright], 1), nothing)

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        shape = batch.images[:, 0].shape
        tagged = torch.where(batch.tags[:, 2, None, None] == 1, 3, 0).expand(shape)
        return {"bright": (batch.images[:, 0] > 0.5).long() * 3, "silent": torch.full(shape, IGNORE), "tagged": tagged}


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic patients."""
    folder = tmp_path_factory.mktemp("hearts") / "data"
    write_dataset(folder, patients=2, seed=3)
    return folder


def _config(root: Path, **data: Any) -> RunConfig:
    grid = {"spacing_mm": None, "size": [256, 256], "percentiles": [0, 100]}
    off = {"largest_component": False, "fill_holes": False, "slice_gaps": False}
    return parse_config(
        {"data": {"root": str(root), "grid": grid, **data}, "inference": {"batch_slices": 4, "postprocess": off}}
    )


def _validation(config: RunConfig) -> Validation:
    dataset = build_dataset(config.data)
    return Validation(config, dataset, dataset.cases(), torch.device("cpu"))


def _truth(hearts: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bright voxels and mask of each case, straight from the files."""
    found = []
    for path in sorted(hearts.rglob("*_gt.nii.gz")):
        image = nibabel.load(str(path).replace("_gt", "")).get_fdata()
        scaled = (image - image.min()) / (image.max() - image.min())
        found.append((scaled.astype(np.float16) > 0.5, nibabel.load(path).get_fdata()))
    return found


def test_volumes_are_scored_one_by_one_and_labels_all_together(hearts: Path) -> None:
    scores = _validation(_config(hearts))(Bright(), 7)
    cases = _truth(hearts)
    each = [2 * (b & (m == 3)).sum() / (b.sum() + (m == 3).sum()) for b, m in cases]
    assert scores["val_dice_LV"] == pytest.approx(np.mean(each), abs=2e-3)
    assert (scores["val_dice_RV"], scores["val_dice_MYO"]) == (0.0, 0.0)
    assert scores["val_dice"] == pytest.approx(np.mean(each) / 3, abs=1e-3)
    shared = sum((b & (m == 3)).sum() for b, m in cases)
    sizes = sum(b.sum() + (m == 3).sum() for b, m in cases)
    assert scores["label_dice_bright"] == pytest.approx(2 * shared / sizes / 3, abs=1e-3)
    assert scores["label_dice_silent"] == 0.0


def test_the_table_is_logged_and_names_of_columns_have_no_spaces(
    hearts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = Bright()
    method.label_maps = lambda batch: {"aux CAM": torch.full(batch.images[:, 0].shape, 3)}
    with caplog.at_level("INFO"):
        scores = _validation(_config(hearts))(method, 7)
    masks = [mask for _, mask in _truth(hearts)]
    inside, whole = sum((mask == 3).sum() for mask in masks), sum(mask.size for mask in masks)
    expected = 2 * inside / (whole + inside)
    assert scores["label_dice_aux_CAM"] == pytest.approx(expected / 3, rel=1e-6)
    (text,) = [record.getMessage() for record in caplog.records if "validation at step" in record.getMessage()]
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["validation", "at", "step", "7"] and rows[1] == ["class", "volume", "aux", "CAM"]
    assert rows[-1] == ["LV", f"{scores['val_dice_LV']:.3f}", f"{expected:.3f}"] and rows[2] == ["RV", "0.000", "0.000"]


def test_a_class_that_no_case_has_is_left_out_of_the_mean(hearts: Path) -> None:
    """Nothing is predicted of RV, and the masks hold none; of the others the mean is over two."""
    validation = _validation(_config(hearts))
    validation._grouped = lambda labels: np.where(labels == 1, 0, labels)
    scores = validation(Bright(), 7)
    assert np.isnan(scores["val_dice_RV"]) and scores["val_dice_MYO"] == 0
    assert scores["val_dice"] == pytest.approx(scores["val_dice_LV"] / 2)


def test_label_columns_get_the_tags_of_their_slices(hearts: Path) -> None:
    scores = _validation(_config(hearts))(Bright(), 7)
    cases = [mask for _, mask in _truth(hearts)]
    covered = sum(mask[..., z].size * (mask[..., z] == 3).any() for mask in cases for z in range(mask.shape[2]))
    inside = sum((mask == 3).sum() for mask in cases)
    assert scores["label_dice_tagged"] == pytest.approx(2 * inside / (covered + inside) / 3, rel=1e-6)


def test_merged_classes_are_scored_as_merged(hearts: Path) -> None:
    config = _config(hearts, groups={"RV": ["RV"], "HEART": ["MYO", "LV"]})
    method = Bright()
    method.predict = lambda images: Prediction(_heart(images), images[:, 0])
    method.label_maps = lambda batch: {}
    scores = _validation(config)(method, 0)
    each = [2 * (m > 1).sum() / (m.size + (m > 1).sum()) for _, m in _truth(hearts)]
    assert set(scores) == {"val_dice_RV", "val_dice_HEART", "val_dice"}
    assert scores["val_dice_HEART"] == pytest.approx(np.mean(each), rel=1e-6)


def _heart(images: Tensor) -> Tensor:
    """Class 2 of 3 everywhere."""
    return torch.nn.functional.one_hot(torch.full(images[:, 0].shape, 2), 3).permute(0, 3, 1, 2).float()


def test_a_tag_list_of_the_training_cases_is_no_hindrance(hearts: Path, tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "slice", "RV", "MYO", "LV"]])
    config = _config(hearts, tags={"source": "csv", "path": str(path)}, cache="disk")
    assert "label_dice_tagged" in _validation(config)(Bright(), 0)


def test_cases_without_masks_leave_nothing_to_score(hearts: Path) -> None:
    validation = _validation(_config(hearts))
    validation.cases = []
    assert validation(Bright(), 0) == {}


def test_the_last_validation_leaves_the_voxels_that_a_calibration_draws(hearts: Path, tmp_path: Path) -> None:
    """Bit by bit those of a pass of its own; of another step, the cases are predicted again."""
    config, method = _config(hearts), Bright()
    config = config.model_copy(update={"training": config.training.model_copy(update={"iterations": 7})})
    validation = _validation(config)
    validation(method, 3)
    assert validation.kept is None  # no checkpoint is made of it
    validation(method, 7)
    assert validation.kept is not None and validation.kept.step == 7 and len(validation.kept.cases) == 4
    dataset, cases = build_dataset(config.data), validation.cases
    alone = fit(method, config, dataset, cases, torch.device("cpu"))
    assert fit(method, config, dataset, cases, torch.device("cpu"), validation.kept.cases) == alone
    save_checkpoint({"ema": method.state_dict(), "step": 7}, tmp_path / "best.pt")
    method.predict = lambda images: 1 / 0
    assert calibrate(method, tmp_path / "best.pt", config, dataset, cases, tmp_path, validation.kept) == alone
    (tmp_path / "calibration.json").unlink()
    with pytest.raises(ZeroDivisionError):
        calibrate(method, tmp_path / "best.pt", config, dataset, cases, tmp_path, Kept(6, validation.kept.cases))


def test_the_voxels_of_the_best_validation_are_kept(hearts: Path) -> None:
    config, method = _config(hearts), Bright()
    config = config.model_copy(update={"training": config.training.model_copy(update={"keep_best_by": "dice"})})
    validation = _validation(config)
    for step, found in ((1, False), (2, True), (3, False)):
        method.predict = Bright.predict.__get__(method) if found else _nothing
        validation(method, step)
    assert validation.kept is not None and validation.kept.step == 2


def _nothing(images: Tensor) -> Prediction:
    empty = torch.zeros_like(images[:, 0])
    return Prediction(torch.stack([1 - empty, empty, empty, empty], 1), empty)
