"""`unia-med evaluate` on small folders of volumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.cli.main import main

AFFINE = np.diag([-1.5, 1.5, 10.0, 1.0])


def heart(shift: int = 0) -> np.ndarray:
    """(24, 20, 3) uint8: RV, MYO and LV as three bars, moved by whole rows."""
    labels = np.zeros((24, 20, 3), np.uint8)
    for value, start in ((1, 2), (2, 8), (3, 14)):
        labels[start + shift : start + shift + 4, 4:16] = value
    return labels


def save(array: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and labels of two cases; the second prediction is one row (1.5 mm) off."""
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    save(heart(), predictions / "a_seg.nii.gz")
    save(heart(1), predictions / "b_seg.nii.gz")
    save(heart(), labels / "a_gt.nii.gz")
    save(heart(), labels / "b_gt.nii.gz")
    return predictions, labels


HEART = ["--classes", "RV,MYO,LV"]


def evaluate(predictions: Path, labels: Path, *more: str) -> tuple[int, dict]:
    output = predictions.parent / "scores.json"
    output.unlink(missing_ok=True)
    named = [] if "--config" in more or "--classes" in more else HEART
    arguments = ["evaluate", "--predictions", str(predictions), "--labels", str(labels), "--output", str(output)]
    arguments += [*named, *more]
    code = main(arguments)
    return code, json.loads(output.read_text()) if output.exists() else {}


def test_scores_and_table(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, table = evaluate(*folders)
    assert code == 0
    assert [case["case"] for case in table["cases"]] == ["a", "b"]
    assert table["cases"][0]["dice"] == {"RV": 1.0, "MYO": 1.0, "LV": 1.0}
    assert table["cases"][1]["dice"]["LV"] == pytest.approx(0.75)
    assert table["cases"][1]["hd95_mm"]["LV"] == pytest.approx(1.5)  # by the header's spacing
    assert table["mean"]["dice"]["mean"] == pytest.approx(0.875)
    printed = capsys.readouterr().out
    assert "0.8750 ± 0.1250" in printed and "failures" in printed


@pytest.mark.parametrize("prediction", ["c_seg.nii.gz", "c_pred.nii.gz", "c.nii.gz", "deep/down/c_seg.nii"])
@pytest.mark.parametrize("label", ["c_gt.nii.gz", "c.nii.gz", "x/c_gt.nii"])
def test_names_that_match(tmp_path: Path, prediction: str, label: str) -> None:
    save(heart(), tmp_path / "predictions" / prediction)
    save(heart(), tmp_path / "labels" / label)
    code, table = evaluate(tmp_path / "predictions", tmp_path / "labels")
    assert code == 0 and [case["case"] for case in table["cases"]] == ["c"]


def test_acdc_folders_hold_more_than_labels(tmp_path: Path) -> None:
    patient = tmp_path / "training" / "patient001"
    for name in ("patient001_frame01", "patient001_frame01_scribble"):
        save((heart() * 50).astype(np.int16), patient / f"{name}.nii.gz")
    save(np.zeros((24, 20, 3, 2), np.int16), patient / "patient001_4d.nii.gz")
    save(heart(), patient / "patient001_frame01_gt.nii.gz")
    save(heart(), tmp_path / "masks" / "patient001_frame01_seg.nii.gz")
    save(heart().astype(np.float32), tmp_path / "masks" / "patient001_frame01_uncertainty.nii.gz")
    code, table = evaluate(tmp_path / "masks", tmp_path / "training")
    assert code == 0 and [case["case"] for case in table["cases"]] == ["patient001_frame01"]


def test_a_label_without_prediction_is_an_error_and_the_rest_is_scored(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save(heart(), folders[1] / "missing_gt.nii.gz")
    code, table = evaluate(*folders)
    assert code == 1
    assert len(table["cases"]) == 2
    assert "missing: there is no prediction" in capsys.readouterr().err


def test_a_missed_structure_is_zero_and_counted(folders: tuple[Path, Path]) -> None:
    _, before = evaluate(*folders)
    missed = heart(1)
    missed[missed == 3] = 0
    save(missed, folders[0] / "b_seg.nii.gz")
    code, table = evaluate(*folders)
    assert code == 0
    assert table["failures"] == {"RV": 0, "MYO": 0, "LV": 1}
    assert table["cases"][1]["dice"]["LV"] == 0.0 and table["cases"][1]["hd95_mm"]["LV"] is None
    assert table["mean"]["dice"]["LV"] < before["mean"]["dice"]["LV"]


@pytest.mark.parametrize(
    ("array", "affine", "reason"),
    [
        (np.stack([heart()] * 2, -1), AFFINE, r"shape (24, 20, 3, 2), the label (24, 20, 3)"),
        (heart(), np.array([[-1.5, 0, 0, 900], [0, 1.5, 0, 0], [0, 0, 10, 0], [0, 0, 0, 1]]), "do not overlap"),
        (heart() * 2, AFFINE, "the prediction holds the values 4, 6, expected 0, 1, 2, 3"),
        (heart() * 0.5, AFFINE, "0.5, 1.5"),
    ],
)
def test_what_cannot_be_scored_is_named_with_its_reason(
    folders: tuple[Path, Path], array: np.ndarray, affine: np.ndarray, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(array, folders[0] / "b_seg.nii.gz", affine)
    code, table = evaluate(*folders)
    assert code == 1 and [case["case"] for case in table["cases"]] == ["a"]
    printed = capsys.readouterr().err
    assert "\n  b: " in printed and reason in printed


def test_a_damaged_file_is_named(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (folders[0] / "b_seg.nii.gz").write_bytes(b"no volume")
    assert evaluate(*folders)[0] == 1
    assert "b_seg.nii.gz" in capsys.readouterr().err


def test_nothing_to_score_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(heart(), tmp_path / "labels" / "a_gt.nii.gz")
    save(heart(), tmp_path / "predictions" / "other_seg.nii.gz")
    assert evaluate(tmp_path / "predictions", tmp_path / "labels") == (2, {})
    assert "a: there is no prediction" in capsys.readouterr().err
    assert evaluate(tmp_path / "nowhere", tmp_path / "labels") == (2, {})
    (tmp_path / "empty").mkdir()
    assert evaluate(tmp_path / "predictions", tmp_path / "empty") == (2, {})


def test_two_predictions_of_one_case(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    save(heart(), folders[0] / "again" / "b_seg.nii.gz")
    assert evaluate(*folders)[0] == 1
    assert "b: there are 2 predictions" in capsys.readouterr().err


def test_frames_of_a_cine_are_cases(tmp_path: Path) -> None:
    save(np.stack([heart(), heart(1)], axis=-1), tmp_path / "predictions" / "cine_seg.nii.gz")
    save(np.stack([heart(), heart()], axis=-1), tmp_path / "labels" / "cine_gt.nii.gz")
    code, table = evaluate(tmp_path / "predictions", tmp_path / "labels")
    assert code == 0
    assert [case["case"] for case in table["cases"]] == ["cine#t01", "cine#t02"]
    assert table["cases"][1]["dice"]["RV"] == pytest.approx(0.75)


def test_merged_classes_of_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "merged.yaml"
    config.write_text("data:\n  groups: {RV: [RV], LEFT: [MYO, LV]}\n")
    save(np.minimum(heart(), 2), tmp_path / "predictions" / "a_seg.nii.gz")
    save(heart(), tmp_path / "labels" / "a_gt.nii.gz")
    code, table = evaluate(tmp_path / "predictions", tmp_path / "labels", "--config", str(config))
    assert code == 0
    assert table["classes"] == ["RV", "LEFT"] and table["mean"]["dice"]["LEFT"] == 1.0
    save(heart(), tmp_path / "predictions" / "a_seg.nii.gz")  # not merged: said, not scored wrongly
    assert evaluate(tmp_path / "predictions", tmp_path / "labels", "--config", str(config))[0] == 2
    assert "expected 0, 1, 2" in capsys.readouterr().err


def test_values_of_a_config(tmp_path: Path) -> None:
    config = tmp_path / "values.yaml"
    config.write_text("data:\n  classes: [LV, RV, MYO]\n  class_values: [30, 10, 20]\n")
    save(heart() * np.uint8(10), tmp_path / "labels" / "a_gt.nii.gz")
    renumbered = np.array([0, 2, 3, 1], np.uint8)[heart()]
    save(renumbered, tmp_path / "predictions" / "a_seg.nii.gz")
    code, table = evaluate(tmp_path / "predictions", tmp_path / "labels", "--config", str(config))
    assert code == 0 and table["mean"]["dice"] == {"LV": 1.0, "RV": 1.0, "MYO": 1.0, "mean": 1.0}


def test_one_class_of_acdc_keeps_its_value(tmp_path: Path) -> None:
    config = tmp_path / "lv.yaml"
    config.write_text("data: {classes: [LV]}\n")
    save(heart(), tmp_path / "labels" / "a_gt.nii.gz")
    save((heart() == 3).astype(np.uint8), tmp_path / "predictions" / "a_seg.nii.gz")
    code, table = evaluate(tmp_path / "predictions", tmp_path / "labels", "--config", str(config))
    assert code == 0 and table["mean"]["dice"]["LV"] == 1.0


def test_a_split_of_a_data_set(tmp_path: Path) -> None:
    config = tmp_path / "lists.yaml"
    config.write_text("data: {split: {kind: lists, train: [patient001], val: [patient002], test: []}}\n")
    for patient in ("patient001", "patient002"):
        folder = tmp_path / "acdc" / patient
        for frame in ("01", "02"):
            save((heart() * 50).astype(np.int16), folder / f"{patient}_frame{frame}.nii.gz")
            save(heart(), folder / f"{patient}_frame{frame}_gt.nii.gz")
        (folder / "Info.cfg").write_text("ED: 1\nES: 2\n")
    for frame in ("01", "02"):
        save(heart(), tmp_path / "predictions" / f"patient002_frame{frame}_seg.nii.gz")
    code, table = evaluate(tmp_path / "predictions", tmp_path / "acdc", "--config", str(config), "--split", "val")
    assert code == 0
    assert [case["case"] for case in table["cases"]] == ["patient002_frame01", "patient002_frame02"]
    assert evaluate(tmp_path / "predictions", tmp_path / "acdc", "--config", str(config))[0] == 1


def test_pooled_hd95_and_csv(folders: tuple[Path, Path], tmp_path: Path) -> None:
    far = heart()
    far[22, 5:9, 2] = 1  # a few stray voxels
    save(far, folders[0] / "b_seg.nii.gz")
    largest, pooled = (evaluate(*folders, "--hd95", kind)[1]["mean"]["hd95_mm"]["RV"] for kind in ("max", "pooled"))
    assert pooled <= largest
    path = tmp_path / "scores.csv"
    assert (
        main(["evaluate", "--predictions", str(folders[0]), "--labels", str(folders[1]), *HEART, "--output", str(path)])
        == 0
    )
    assert path.read_text().startswith("case,RV dice,")


@pytest.mark.parametrize("more", [["--split", "val"], ["--output", "scores.txt"], ["--set", "seed=1"]])
def test_requests_that_make_no_sense(folders: tuple[Path, Path], more: list[str]) -> None:
    assert main(["evaluate", "--predictions", str(folders[0]), "--labels", str(folders[1]), *more]) == 2


def test_evaluate_needs_no_torch(folders: tuple[Path, Path]) -> None:
    code = (
        "import sys; from unia_med.cli.main import main; main(sys.argv[1:]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai')))"
    )
    arguments = ["evaluate", "--predictions", str(folders[0]), "--labels", str(folders[1]), "--config", "acdc.yaml"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
