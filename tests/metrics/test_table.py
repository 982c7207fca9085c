"""The table: what is left out, what counts, and the written files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unia_med.metrics.table import CaseScores, score_case, summarise, to_csv, write_table

CLASSES = ("RV", "MYO")
SPACING = (1.0, 1.0, 10.0)


def volume(*boxes: tuple[int, slice]) -> np.ndarray:
    """(20, 20, 3) labels, each box filling the middle of a range of rows with a value."""
    labels = np.zeros((20, 20, 3), np.uint8)
    for value, rows in boxes:
        labels[rows, 5:15] = value
    return labels


GOOD = volume((1, slice(2, 8)), (2, slice(10, 16)))
SHIFTED = volume((1, slice(3, 9)), (2, slice(10, 16)))
NO_RV = volume((2, slice(10, 16)))


def test_values_of_one_case() -> None:
    scores = score_case("a", SHIFTED, GOOD, CLASSES, SPACING)
    assert scores.dice == {"RV": pytest.approx(5 / 6), "MYO": 1.0}
    assert scores.hd95 == {"RV": pytest.approx(1.0), "MYO": 0.0}
    assert not scores.failed("RV")


def test_a_class_called_like_a_formula_is_text() -> None:
    scores = [score_case("=a", GOOD, GOOD, ("=1+1", "MYO"), SPACING)]
    head, row, *_ = csv.reader(to_csv(summarise(("=1+1", "MYO"), scores)).splitlines())
    assert head[:2] == ["case", "'=1+1 dice"] and row[0] == "'=a"


def test_absent_in_both_has_no_score_and_is_no_failure() -> None:
    scores = score_case("a", NO_RV, NO_RV, CLASSES, SPACING)
    assert scores.dice["RV"] is None and scores.hd95["RV"] is None and scores.asd["RV"] is None
    table = summarise(CLASSES, [scores, score_case("b", SHIFTED, GOOD, CLASSES, SPACING)])
    assert table["failures"] == {"RV": 0, "MYO": 0}
    assert table["mean"]["dice"]["RV"] == pytest.approx(5 / 6)


@pytest.mark.parametrize(("prediction", "label"), [(NO_RV, GOOD), (GOOD, NO_RV)])
def test_absent_in_one_scores_zero_and_is_counted(prediction: np.ndarray, label: np.ndarray) -> None:
    scores = score_case("a", prediction, label, CLASSES, SPACING)
    assert scores.dice["RV"] == 0.0
    assert scores.hd95["RV"] is None and scores.asd["RV"] is None
    assert summarise(CLASSES, [scores])["failures"] == {"RV": 1, "MYO": 0}


def test_missing_a_structure_never_makes_the_mean_better() -> None:
    poor = volume((1, slice(7, 9)), (2, slice(10, 16)))
    found = summarise(CLASSES, [score_case("a", poor, GOOD, CLASSES, SPACING)])
    missed = summarise(CLASSES, [score_case("a", NO_RV, GOOD, CLASSES, SPACING)])
    assert missed["mean"]["dice"]["RV"] < found["mean"]["dice"]["RV"]
    assert missed["mean"]["dice"]["mean"] < found["mean"]["dice"]["mean"]
    assert missed["failures"]["RV"] > found["failures"]["RV"]
    assert missed["mean"]["hd95_mm"]["RV"] is None  # and not 0, which would read as perfect


def test_means_and_deviations_by_hand() -> None:
    rows = [
        CaseScores("a", {"RV": 0.8, "MYO": 0.6}, {"RV": 2.0, "MYO": 4.0}, {"RV": 1.0, "MYO": 2.0}),
        CaseScores("b", {"RV": 0.4, "MYO": 0.2}, {"RV": 6.0, "MYO": None}, {"RV": 3.0, "MYO": None}),
        CaseScores("c", {"RV": None, "MYO": 1.0}, {"RV": None, "MYO": 0.0}, {"RV": None, "MYO": 0.0}),
    ]
    table = summarise(CLASSES, rows)
    assert table["mean"]["dice"] == {
        "RV": pytest.approx(0.6),
        "MYO": pytest.approx(0.6),
        "mean": pytest.approx(0.6),
    }
    assert table["mean"]["hd95_mm"] == {"RV": 4.0, "MYO": 2.0, "mean": 3.0}
    assert table["std"]["dice"]["RV"] == pytest.approx(0.2)
    assert table["std"]["hd95_mm"]["RV"] == pytest.approx(2.0)
    # The cases' own averages are 0.7, 0.3 and 1.0.
    assert table["std"]["dice"]["mean"] == pytest.approx(np.std([0.7, 0.3, 1.0]))


def test_json_has_the_promised_shape(tmp_path: Path) -> None:
    table = summarise(CLASSES, [score_case("p1", NO_RV, GOOD, CLASSES, SPACING)])
    path = tmp_path / "new" / "scores.json"
    write_table(table, path)
    read = json.loads(path.read_text())
    assert list(read) == ["classes", "cases", "mean", "std", "failures"]
    assert read["cases"][0] == {
        "case": "p1",
        "dice": {"RV": 0.0, "MYO": 1.0},
        "hd95_mm": {"RV": None, "MYO": 0.0},
        "asd_mm": {"RV": None, "MYO": 0.0},
    }
    assert set(read["mean"]["dice"]) == {"RV", "MYO", "mean"}
    assert list(path.parent.iterdir()) == [path]


def test_csv_is_one_row_per_case_with_blanks_for_nulls(tmp_path: Path) -> None:
    rows = [score_case("p,1", NO_RV, GOOD, CLASSES, SPACING), score_case("p2", SHIFTED, GOOD, CLASSES, SPACING)]
    path = tmp_path / "scores.CSV"
    write_table(summarise(CLASSES, rows), path)
    with path.open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [row["case"] for row in read] == ["p,1", "p2", "mean", "std", "failures"]
    assert read[0]["RV dice"] == "0.0" and read[0]["RV hd95_mm"] == ""
    assert float(read[1]["RV hd95_mm"]) == pytest.approx(1.0)
    assert float(read[2]["RV dice"]) == pytest.approx(5 / 12)
    assert read[4]["RV dice"] == "1" and read[4]["MYO asd_mm"] == ""


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(ValueError):
        write_table({"mean": float("nan")}, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_case_at_all_gives_nulls() -> None:
    table = summarise(CLASSES, [])
    assert table["mean"]["dice"] == {"RV": None, "MYO": None, "mean": None}


def test_scoring_needs_no_torch() -> None:
    code = "import sys, unia_med.metrics.table; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
