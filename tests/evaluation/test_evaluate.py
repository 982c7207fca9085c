"""One evaluation for volumes and pictures: where class names come from, how files are matched, what is scored."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unia_med.errors import UserError
from unia_med.evaluation.evaluate import Evaluation, evaluate
from unia_med.evaluation.pairs import predictions_of

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def block(rows: slice, value: int = 1, shape: tuple[int, ...] = (16, 12, 2)) -> np.ndarray:
    """Zeros with a value in some rows, columns 2 to 8."""
    array = np.zeros(shape, np.uint8)
    array[rows, 2:8] = value
    return array


def volume(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return path


def picture(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_a_data_set_of_nnunet_is_scored_by_its_labels_alone(tmp_path: Path) -> None:
    for case in ("a", "b"):
        truth, ignored = block(slice(2, 8)), block(slice(2, 8))
        ignored[:, :, 1] = 7
        volume(truth, tmp_path / "set" / "imagesTr" / f"{case}_0000.nii.gz")
        volume(ignored, tmp_path / "set" / "labelsTr" / f"{case}.nii.gz")
        wrong = truth.copy()
        wrong[:, :, 1] = 0  # where nothing is annotated
        volume(wrong, tmp_path / "p" / f"{case}_seg.nii.gz")
    described = {"labels": {"background": 0, "liver": 1, "ignore": 7}, "file_ending": ".nii.gz"}
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(described))
    found = evaluate(tmp_path / "p", tmp_path / "set")
    assert [row["case"] for row in found["cases"]] == ["a", "b"] and not found.faults
    assert found["mean"]["dice"]["liver"] == 1.0


def test_labels_broken_by_rounding_are_scored_as_whole_numbers(tmp_path: Path) -> None:
    truth = block(slice(2, 8), 3)
    volume(truth, tmp_path / "t" / "a_gt.nii.gz")
    for broken in (truth * np.float32(0.99999994), (truth + 1e-5).astype(np.float64)):
        volume(broken, tmp_path / "p" / "a_seg.nii.gz")
        assert evaluate(tmp_path / "p", tmp_path / "t")["mean"]["dice"]["class 3"] == 1.0
    volume(truth + np.float32(0.3), tmp_path / "p" / "a_seg.nii.gz")
    with pytest.raises(UserError, match="whole numbers"):
        evaluate(tmp_path / "p", tmp_path / "t")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two organs with the values 1 and 2; the second is predicted half."""
    truth = block(slice(1, 5)) + block(slice(8, 12), 2)
    predicted = block(slice(1, 5)) + block(slice(8, 10), 2)
    return volume(predicted, tmp_path / "p" / "a_seg.nii.gz").parent, volume(truth, tmp_path / "t" / "a.nii.gz").parent


def dice(found: Evaluation) -> dict[str, float]:
    return found["mean"]["dice"]


def test_classes_without_names_are_numbered_up_to_the_largest(pair: tuple[Path, Path]) -> None:
    volume(block(slice(1, 5), 4), pair[0] / "b_seg.nii.gz")
    volume(block(slice(1, 5), 4), pair[1] / "b.nii.gz")
    found = evaluate(*pair)
    assert found.classes == ("class 1", "class 2", "class 3", "class 4")
    assert [dice(found)[name] for name in found.classes] == [1.0, pytest.approx(2 / 3), None, 1.0]
    assert found["cases"][0]["dice"]["class 4"] is None and found["failures"]["class 4"] == 0


def test_names_come_from_the_predictions_folder_or_the_caller(pair: tuple[Path, Path]) -> None:
    (pair[0] / "classes.json").write_text('{"0": "background", "2": "SPLEEN", "1": "LIVER"}')
    assert evaluate(*pair).classes == ("LIVER", "SPLEEN")
    assert dice(evaluate(*pair))["SPLEEN"] == pytest.approx(2 / 3)
    assert evaluate(*pair, classes=["A", "B"]).classes == ("A", "B")
    assert dice(evaluate(*pair, classes={1: "ONE", 2: "TWO"}))["TWO"] == pytest.approx(2 / 3)
    assert evaluate(*pair, classes=["2=TWO", "1=ONE"]).classes == ("ONE", "TWO")
    one = evaluate(pair[0] / "a_seg.nii.gz", pair[1] / "a.nii.gz")
    assert one.classes == ("LIVER", "SPLEEN")


@pytest.mark.parametrize("text", ["[1]", "{", '{"x": "A"}', "{}", '{"300": "A"}'])
def test_damaged_class_names_are_refused(pair: tuple[Path, Path], text: str) -> None:
    (pair[0] / "classes.json").write_text(text)
    with pytest.raises(UserError, match="classes.json"):
        evaluate(*pair)


@pytest.mark.parametrize("classes", [["A", "A"], [], ["A", ""], ["0=A"], ["x=A"], ["1=A", "B=1"], "A,B"])
def test_classes_that_make_no_sense(pair: tuple[Path, Path], classes: list[str]) -> None:
    with pytest.raises(UserError):
        evaluate(*pair, classes=classes)


def test_values_beyond_the_named_classes_are_told(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"(?s)no case could be scored.*prediction holds the values 2, expected 0, 1"):
        evaluate(*pair, classes=["LIVER"])


def test_equal_names_in_sub_folders_go_by_their_path(tmp_path: Path) -> None:
    for site, rows in (("s1", slice(1, 5)), ("s2", slice(3, 7))):
        volume(block(slice(1, 5)), tmp_path / "t" / site / "scan.nii.gz")
        volume(block(rows), tmp_path / "p" / site / "scan_seg.nii.gz")
    found = evaluate(tmp_path / "p", tmp_path / "t", classes=["X"])
    assert {case.case: case.dice["X"] for case in found.cases} == {"s1/scan": 1.0, "s2/scan": 0.5}


def test_a_case_in_a_sub_folder_is_found_by_its_own_name_where_that_is_unique() -> None:
    files = {"a": [Path("a")], "s1/b": [Path("s1/b")], "b": [Path("s1/b")]}
    assert predictions_of(["s1/a", "s1/b", "s2/b"], files) == {
        "s1/a": [Path("a")],
        "s1/b": [Path("s1/b")],
        "s2/b": [],  # that of s1 is none of its
    }


def test_a_case_whose_name_was_made_safe_finds_its_prediction() -> None:
    files = {"a_b": [Path("a_b_seg.nii.gz")], "x": [Path("x_seg.nii.gz")]}
    assert predictions_of(["a\tb", "x"], files) == {"a\tb": files["a_b"], "x": files["x"]}
    assert predictions_of(["a\tb", "a\nb"], files) == {"a\tb": [], "a\nb": []}  # whose it is cannot be known
    assert predictions_of(["a\tb", "a_b"], files) == {"a\tb": [], "a_b": files["a_b"]}


def test_pictures_have_both_kinds_of_scores_in_pixels(tmp_path: Path) -> None:
    """Two masks in sub-folders: pixels are counted together, distances are those of outlines."""
    whole = block(slice(2, 12), 1, (16, 12))
    picture(whole, tmp_path / "t" / "x" / "a_gt.png")
    picture(np.where(block(slice(2, 12), 1, (16, 12)), 1, 255).astype(np.uint8), tmp_path / "t" / "b_gt.png")
    picture(block(slice(3, 13), 1, (16, 12)), tmp_path / "p" / "x" / "a_seg.png")
    picture(block(slice(2, 7), 1, (16, 12)), tmp_path / "p" / "b_seg.png")
    found = evaluate(tmp_path / "p", tmp_path / "t", classes=["LUNG"])
    a, b = (next(case for case in found["cases"] if case["case"] == name) for name in "ab")
    assert a["dice"]["LUNG"] == pytest.approx(2 * 54 / 120) and b["dice"]["LUNG"] == pytest.approx(2 * 30 / 90)
    assert a["hd95_px"]["LUNG"] == 1.0 and "hd95_mm" not in a
    assert found["set"]["iou"]["LUNG"] == pytest.approx((54 + 30) / (66 + 60))  # what is 255 does not count
    assert found["set"]["cases"] == 2 and "mIoU" in repr(found)
    alone = evaluate(tmp_path / "p", tmp_path / "t", classes=["LUNG"], scores="set")
    assert "cases" not in alone.table and alone["set"] == found["set"]
    assert "set" not in evaluate(tmp_path / "p", tmp_path / "t", classes=["LUNG"], scores="case").table


def test_255_alone_is_a_class_that_wants_a_name(tmp_path: Path) -> None:
    mask = block(slice(2, 12), 255, (16, 12))
    picture(mask, tmp_path / "t" / "a.png")
    picture(mask, tmp_path / "p" / "a.png")
    with pytest.raises(UserError, match="255=NAME"):
        evaluate(tmp_path / "p", tmp_path / "t")
    assert dice(evaluate(tmp_path / "p", tmp_path / "t", classes=["255=LUNG"]))["LUNG"] == 1.0


def test_both_kinds_of_scores_of_volumes(pair: tuple[Path, Path]) -> None:
    found = evaluate(*pair, scores="both")
    assert found["set"]["iou"]["class 2"] == 0.5 and found["mean"]["hd95_mm"]["class 1"] == 0.0
    assert np.sum(found["set"]["confusion_matrix"]) == 16 * 12 * 2


def test_a_mixed_set_has_distances_of_both_units(pair: tuple[Path, Path], tmp_path: Path) -> None:
    picture(block(slice(1, 5), 1, (16, 12)), pair[1] / "b.png")
    picture(block(slice(2, 6), 1, (16, 12)), pair[0] / "b_seg.png")
    found = evaluate(*pair)
    assert found["mean"]["hd95_px"] == {"class 1": 1.0, "class 2": None, "mean": 1.0}
    assert found["cases"][0]["hd95_px"]["class 1"] is None and found["failures"] == {"class 1": 0, "class 2": 0}
    found.write(tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text().startswith("case,class 1 dice,class 2 dice,class 1 hd95_mm,")


def test_the_result_is_the_table_and_knows_its_faults(pair: tuple[Path, Path], tmp_path: Path) -> None:
    volume(block(slice(1, 5)), pair[1] / "lost.nii.gz")
    volume(block(slice(1, 5)), pair[0] / "spare.nii.gz")
    found = evaluate(*pair)
    assert "lost" in found.faults and [path.name for path in found.unused] == ["spare.nii.gz"]
    assert repr(found) == "Evaluation(1 case; Dice class 1 1.000, class 2 0.667, mean 0.833; 1 could not be scored)"
    found.write(tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == dict(found)
    with pytest.raises(UserError, match=r"Use .json or .csv"):
        found.write(tmp_path / "scores.txt")


@pytest.mark.parametrize(
    "request_", [{"split": "val"}, {"hd95": "mean"}, {"scores": "all"}, {"classes": ["A"], "config": "acdc"}]
)
def test_requests_that_make_no_sense(pair: tuple[Path, Path], request_: dict) -> None:
    with pytest.raises(UserError):
        evaluate(*pair, **request_)


def test_masks_that_were_moved_bring_their_names(pair: tuple[Path, Path]) -> None:
    for path in pair[0].glob("*.nii.gz"):
        (pair[0] / f"{path.name.removesuffix('.nii.gz')}.json").write_text('{"classes": {"1": "LIVER", "2": "SPLEEN"}}')
    assert evaluate(*pair).classes == ("LIVER", "SPLEEN")
    next(pair[0].glob("*.json")).write_text('{"classes": {"1": "LUNG", "2": "SPLEEN"}}')
    (pair[0] / "other.json").write_text('{"classes": {"1": "LIVER"}}')
    assert evaluate(*pair).classes != ("LIVER", "SPLEEN")  # records that say different things say nothing


def test_dicom_objects_next_to_volumes_are_no_unread_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from unia_med.evaluation.pairs import find_predictions

    for name in ("a_seg.nii.gz", "a_seg.dcm", "b.dcm"):
        (tmp_path / name).touch()
    with caplog.at_level("INFO"):
        assert list(find_predictions(tmp_path)) == ["a"]
    assert "1 the same masks as DICOM" in caplog.text and "1 in a format that is not read" in caplog.text
