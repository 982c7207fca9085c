"""Folds: patients left out once each, scores and post-processing from what was left out, and one model of all."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import unia_med
from unia_med.cli.main import main
from unia_med.engine.cleaning import choose_cleaning
from unia_med.errors import UserError
from unia_med.inference.postprocess import postprocess
from unia_med.labels import IGNORE
from unia_med.metrics.overlap import dice
from unia_med.runs import Run

CONFIG = """
data:
  name: acdc
  tags: {source: none}
  labels: [{kind: masks, source: masks}]
  grid: {spacing_mm: null, size: [32, 32]}
network: {backbone: lite0, weights: none, decoder_widths: [8, 8, 8, 8]}
method: {name: partial}
training: {iterations: 2, batch_size: 2}
"""


@pytest.fixture
def command(tiny_acdc: Path, tmp_path: Path) -> list[str]:
    """`train` on the three patients of the tiny hearts, of which patient013 validates by the config's own split."""
    (tmp_path / "full.yaml").write_text(CONFIG)
    return ["train", "--config", str(tmp_path / "full.yaml"), "--set", f"data.root={tiny_acdc}"]


@pytest.mark.slow
def test_folds_one_by_one_become_one_model(
    command: list[str], tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    folds = [*command, "--output", str(output), "--folds", "3"]
    assert main([*folds, "--fold", "1"]) == 0
    assert [path.name for path in sorted(output.glob("fold_*"))] == ["fold_1"]
    with pytest.raises(UserError, match=r"1 of 3 folds are finished.*--folds 3 --resume.*fold_1"):
        unia_med.load(output)
    assert main([*folds, "--fold", "1"]) == 2
    assert "a run is here already" in capsys.readouterr().err
    before = (output / "fold_1" / "checkpoints" / "best.pt").read_bytes()
    assert main([*folds, "--resume"]) == 0
    assert (output / "fold_1" / "checkpoints" / "best.pt").read_bytes() == before

    left_out = []
    for number in range(3):
        parts = json.loads((output / f"fold_{number}" / "split.json").read_text())
        trained, validated = set(parts["train"].values()), set(parts["val"].values())
        assert len(trained) == 2 and len(validated) == 1 and not trained & validated
        left_out += sorted(validated)
    assert sorted(left_out) == ["patient001", "patient002", "patient013"]

    # The table is what evaluating each fold's own masks of its own patient gives, with the chosen post-processing.
    chosen = Run(output).config.inference.postprocess
    with (output / "folds.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    for number, patient in enumerate(left_out):
        model = unia_med.load(output / f"fold_{number}", postprocess=False)
        for frame in ("frame01", "frame07"):
            stem = tiny_acdc / "training" / patient / f"{patient}_{frame}"
            mask = postprocess(model(f"{stem}.nii.gz").mask.array, **chosen.steps(Run(output).config.data))
            truth = np.asarray(nib.load(f"{stem}_gt.nii.gz").dataobj)
            for label, name in enumerate(("RV", "MYO", "LV"), start=1):
                assert float(rows[stem.name][f"{name} dice"]) == pytest.approx(
                    dice(mask == label, truth == label), abs=1e-4
                )

    scan = tiny_acdc / "training" / "patient001" / "patient001_frame01.nii.gz"
    together = unia_med.load(output)
    by_hand = unia_med.load([output / f"fold_{number}" for number in range(3)], postprocess=False)
    expected = postprocess(by_hand(scan).mask.array, **chosen.steps(Run(output).config.data))
    assert np.array_equal(together(scan).mask.array, expected)
    assert main(["report", str(output)]) == 2
    assert "Name one of them" in capsys.readouterr().err
    # Each fold goes on from its own: nothing that a fold left out is learned by its start.
    again = [*command, "--output", str(tmp_path / "again"), "--folds", "3", "--fold", "2", "--from", str(output)]
    assert main(again) == 0
    assert "fold_2" in Run(tmp_path / "again" / "fold_2").config.training.start_from
    assert main([*command, "--output", str(tmp_path / "single"), "--from", str(output)]) == 2


def test_numbers_that_do_not_fit_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (["--fold", "1"], "Add --folds"),
        (["--folds", "1"], "1 fold. Use 2"),
        (["--folds", "4"], "4 folds for 3 patients"),
        (["--folds", "3", "--fold", "3"], "fold 3 of 3"),
    ):
        assert main([*command, "--output", str(tmp_path / "run"), *arguments]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def truth_of(pieces: int) -> np.ndarray:
    """A large class 1 in one piece, and class 2 in as many pieces as asked for."""
    mask = np.zeros((24, 24, 3), np.uint8)
    mask[2:10, 2:10] = 1
    for piece in range(pieces):
        mask[14:18, 2 + 7 * piece : 6 + 7 * piece] = 2
    return mask


def test_post_processing_is_what_helps_the_masks_left_out() -> None:
    stray = truth_of(2)
    stray[20:23, 20:23] = 1
    found = choose_cleaning([(stray, truth_of(2)), (stray, truth_of(2))], ["LIVER", "LESION"])
    # The largest component of the liver helps; of the lesions it would delete a true one.
    assert found.steps == {"largest_component": ["LIVER"], "fill_holes": False, "slice_gaps": False}
    without = dice(stray == 1, truth_of(2) == 1)
    assert found.plain == pytest.approx((without + 1) / 2) and found.dice == pytest.approx(1.0)
    assert "largest component of LIVER" in str(found)
    holes = truth_of(2)
    holes[5, 5] = 0
    assert choose_cleaning([(holes, truth_of(2))], ["LIVER", "LESION"]).steps["fill_holes"] is True
    perfect = choose_cleaning([(truth_of(2), truth_of(2))], ["LIVER", "LESION"])
    assert not any(perfect.steps.values()) and "none" in str(perfect)


def test_a_gain_that_is_chance_chooses_nothing_and_unlabelled_voxels_do_not_count() -> None:
    """A stray voxel beside 2000 is 0.00025 of Dice; a step must bring 0.001."""
    truth = np.zeros((40, 60, 1), np.uint8)
    truth[:40, :50] = 1
    for strays, chosen in ((1, False), (8, ["LIVER"])):
        predicted = truth.copy()
        predicted[: 2 * strays : 2, 55] = 1
        assert choose_cleaning([(predicted, truth)], ["LIVER"]).steps["largest_component"] == chosen
        unknown = truth.copy()
        unknown[:, 55] = IGNORE
        found = choose_cleaning([(predicted, unknown)], ["LIVER"])
        assert found.plain == 1.0 and not any(found.steps.values())


def test_a_class_that_hardly_gains_is_left_out_of_a_step_that_helps_another() -> None:
    truth = np.zeros((40, 60, 1), np.uint8)
    truth[:, :50] = 1
    many, one = truth.copy(), truth.copy()
    many[::2, 55], one[0, 55] = 1, 1
    pair = np.concatenate((many, 2 * one)), np.concatenate((truth, 2 * truth))
    assert choose_cleaning([pair], ["LIVER", "LESION"]).steps["largest_component"] == ["LIVER"]
