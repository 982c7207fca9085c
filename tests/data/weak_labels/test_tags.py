from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from unia_med.data.weak_labels.tags import group_labels, group_tags, read_tags_csv, tags_from_mask, write_tags_csv
from unia_med.errors import UserError

CLASSES = ["RV", "MYO", "LV"]
SLICES = {"patient001_frame01": 3, "b": 1, "c": 2}


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_tags_csv(path, CLASSES, SLICES)
    return str(caught.value)


def test_tags_of_a_mask_by_brute_force() -> None:
    mask = np.random.default_rng(0).choice([0, 0, 0, 0, 2, 5, 9], size=(3, 2, 6))
    tags = tags_from_mask(mask, (5, 2, 7))
    assert tags.shape == (6, 3) and tags.dtype == np.int8
    for z, (t, value) in itertools.product(range(6), enumerate((5, 2, 7))):
        assert tags[z, t] == int(value in mask[:, :, z].ravel().tolist())


def test_slice_rows(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv",
        "image,slice,LV,note,RV,MYO\npatient001_frame01,0,1,x,0,\npatient001_frame01.nii.gz, 2 ,0,,1,1\n,,,,,\n",
    )
    tags = read_tags_csv(path, CLASSES, SLICES)
    assert tags["patient001_frame01"].tolist() == [[0, -1, 1], [-1, -1, -1], [1, 1, 0]]
    assert tags["c"].tolist() == [[-1] * 3] * 2 and tags["b"].dtype == np.int8


def test_volume_rows_say_absent_everywhere_but_not_where_present(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,RV,MYO,LV\npatient001_frame01,0,1,\nb,0,1,1\n")
    tags = read_tags_csv(path, CLASSES, SLICES)
    assert tags["patient001_frame01"].tolist() == [[0, -1, -1]] * 3
    assert tags["b"].tolist() == [[0, 1, 1]]


def test_slice_rows_add_to_volume_rows_in_any_order(tmp_path: Path) -> None:
    text = "image,slice,RV,MYO,LV\nc,1,,1,0\nc,,0,1,1\n"
    assert read_tags_csv(table(tmp_path / "t.csv", text), CLASSES, SLICES)["c"].tolist() == [[0, -1, -1], [0, 1, 0]]


def test_spreadsheet_marks_are_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffimage,RV,MYO,LV\r\nb,1,1,1\r\n".encode())
    assert read_tags_csv(path, CLASSES, SLICES)["b"].tolist() == [[1, 1, 1]]


def test_round_trip(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tags = {case: generator.integers(-1, 2, (n, 3)).astype(np.int8) for case, n in SLICES.items()}
    write_tags_csv(tmp_path / "new" / "t.csv", tags, CLASSES)
    back = read_tags_csv(tmp_path / "new" / "t.csv", CLASSES, SLICES)
    for case, rows in tags.items():
        np.testing.assert_array_equal(back[case], rows)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["t.csv"]


def test_missing_columns_are_named_with_the_nearest(tmp_path: Path) -> None:
    text = refusal(table(tmp_path / "t.csv", "Image,RV,MYOC,LV\nb,1,1,1\n"))
    assert "no column 'image'" in text and "Rename 'Image'" in text
    assert "no column 'MYO'" in text and "Rename 'MYOC'" in text


def test_all_faults_of_a_table_are_told_at_once(tmp_path: Path) -> None:
    rows = [
        "image,slice,RV,MYO,LV",
        "patient001_frame1,0,1,1,1",
        "c,2,1,1,1",
        "c,one,1,1,1",
        "c,0,1,2,maybe",
        "c,1,1,1,1",
        "c,1,1,1,1",
    ]
    text = refusal(table(tmp_path / "t.csv", "\n".join(rows)))
    assert "4 faults" in text
    for words in (
        "line 2: found image 'patient001_frame1', expected a case of the data set. Did you mean 'patient001_frame01'?",
        "lines 3, 4: found slice '2', slice 'one' (2 times), expected a whole number from 0 to 1",
        "lines 5: found '2' for MYO, 'maybe' for LV (2 times), expected 0, 1 or nothing",
        "line 7: found a second row for c slice 1 (the first is line 6)",
    ):
        assert words in text, text


def test_contradictions_between_volume_and_slices(tmp_path: Path) -> None:
    text = refusal(table(tmp_path / "t.csv", "image,slice,RV,MYO,LV\nc,,0,1,\nc,0,1,0,\nc,1,0,0,\n"))
    assert "2 faults" in text
    assert "line 3: found RV 1 in c slice 0, expected 0, as the row of the whole volume says" in text
    assert "line 2: found MYO present in c, while every slice of it says absent" in text


def test_unreadable_tables(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\x00\x01image")
    assert "cannot be read" in refusal(tmp_path / "bytes.csv")
    assert "no column 'image'" in refusal(table(tmp_path / "empty.csv", ""))


def test_groups_follow_three_valued_or() -> None:
    groups = {"right": ["RV"], "left": ["MYO", "LV"]}
    for rv, myo, lv in itertools.product((-1, 0, 1), repeat=3):
        expected = 1 if 1 in (myo, lv) else 0 if (myo, lv) == (0, 0) else -1
        merged = group_tags(np.array([[rv, myo, lv]], np.int8), CLASSES, groups)
        assert merged.tolist() == [[rv, expected]] and merged.dtype == np.int8


def test_grouped_labels_keep_ignored_pixels() -> None:
    groups = {"left": ["LV", "MYO"], "right": ["RV"]}
    labels = np.array([[0, 1, 2, 3, 255]], np.uint8)
    assert group_labels(labels, CLASSES, groups).tolist() == [[0, 2, 1, 1, 255]]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"a": ["RV"], "b": ["MYO", "LVV"]}, "Did you mean 'LV'"),
        ({"a": ["RV", "MYO"], "b": ["MYO", "LV"]}, "'MYO' is in 2 groups"),
        ({"a": ["RV", "MYO"]}, "'LV' is in 0 groups"),
        ({"a": CLASSES, "b": []}, "'b' is empty"),
    ],
)
def test_groups_that_cannot_be_merged(groups: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        group_tags(np.zeros((1, 3), np.int8), CLASSES, groups)


def test_merging_tags_and_merging_the_mask_agree() -> None:
    mask = np.random.default_rng(2).choice([0, 0, 0, 0, 0, 1, 2, 3], size=(2, 2, 12)).astype(np.uint8)
    groups = {"outer": ["RV", "MYO"], "inner": ["LV"]}
    merged = group_tags(tags_from_mask(mask, (1, 2, 3)), CLASSES, groups)
    np.testing.assert_array_equal(merged, tags_from_mask(group_labels(mask, CLASSES, groups), (1, 2)))
