"""Tables as spreadsheets write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from unia_med.data.checks import DataFault
from unia_med.data.io.tables import read_table
from unia_med.data.layouts.volumes_table import read_rows
from unia_med.data.weak_labels.tags import read_tags_csv, write_tags_csv
from unia_med.errors import UserError

CLASSES = ["RV", "Müller"]
SLICES = {"Müller 4": 2, "b": 1}
EXPECTED = {"Müller 4": [[1, 0], [0, -1]], "b": [[-1, 1]]}
ROWS = [["image", "slice", "RV", "Müller"], ["Müller 4", "0", "1", "0"], ["Müller 4", "1", "0", ""], ["b", "", "", "1"]]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_encodings_and_letters(tmp_path: Path, separator: str, encoding: str, form: str, end: str) -> None:
    if encoding == "cp1252" and form == "NFD":
        form = "NFC"  # the code page has no combining letters
    text = unicodedata.normalize(form, end.join(separator.join(row) for row in ROWS) + end)
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "t.csv").write_bytes(mark + text.encode(encoding))
    for known in ("NFC", "NFD"):
        slices = {unicodedata.normalize(known, case): count for case, count in SLICES.items()}
        classes = [unicodedata.normalize(known, name) for name in CLASSES]
        found = read_tags_csv(tmp_path / "t.csv", classes, slices)
        assert list(found) == list(slices)
        assert [tags.tolist() for tags in found.values()] == list(EXPECTED.values())


@pytest.mark.parametrize(
    ("present", "absent", "unknown"),
    [("TRUE", "FALSE", "NA"), ("yes", "No", "?"), ("WAHR", "FALSCH", "n/a"), ("VRAI", "faux", ""), ("1.0", "0.0", "-")],
)
def test_truth_values_as_spreadsheets_write_them(tmp_path: Path, present: str, absent: str, unknown: str) -> None:
    (tmp_path / "t.csv").write_text(f"image;slice;A;B;C\nx;0;{present};{absent};{unknown}\nx;1.0;{absent};;\n")
    found = read_tags_csv(tmp_path / "t.csv", ["A", "B", "C"], {"x": 2})
    assert found["x"].tolist() == [[1, 0, -1], [0, -1, -1]]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_and_blank_lines_before_the_head(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("\r\n;;\r\nimage;Ä\r\na;1\r\n".encode(encoding))
    assert read_table(tmp_path / "t.csv") == (["image", "Ä"], [(4, {"image": "a", "Ä": "1"})])


def test_a_note_of_excel_and_quoted_separators(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('sep=;\n"image";"a, b";"c"\n"x; y";"1";"0"\n')
    table = read_table(tmp_path / "t.csv")
    assert table.columns == ["image", "a, b", "c"] and table.records[0].cells == {
        "image": "x; y",
        "a, b": "1",
        "c": "0",
    }
    assert table.records[0].line == 3


def test_one_line_per_kind_of_fault(tmp_path: Path) -> None:
    rows = [f"x,{z},maybe,{z % 2}" for z in range(300)] + [f"y{n},0,1,1" for n in range(50)]
    (tmp_path / "t.csv").write_text("image,slice,A,B\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError) as caught:
        read_tags_csv(tmp_path / "t.csv", ["A", "B"], {"x": 300})
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("2 faults in the data:") and len(lines) == 4
    assert "t.csv lines 2, 3, 4, 5, 6, ...: found 'maybe' for A (300 times), expected 0, 1 or nothing" in lines[1]
    assert "found image 'y0', image 'y1'" in lines[2] and "(50 times)" in lines[2]


def test_a_name_like_a_formula_comes_back(tmp_path: Path) -> None:
    tags = {"=cmd|' /C calc'!A0": np.array([[1, 0]], np.int8)}
    write_tags_csv(tmp_path / "t.csv", tags, ["A", "B"])
    assert "\n'=cmd" in (tmp_path / "t.csv").read_text().replace("\r", "")
    found = read_tags_csv(tmp_path / "t.csv", ["A", "B"], dict.fromkeys(tags, 1))
    assert np.array_equal(found["=cmd|' /C calc'!A0"], [[1, 0]])


def test_columns_that_are_there_twice_are_faults(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,slice,slice,mask,mask,A\nb,0,0,x,y,1\n")
    with pytest.raises(UserError, match="2 columns 'slice'"):
        read_tags_csv(tmp_path / "t.csv", ["A"], {"b": 1})
    faults: list[DataFault] = []
    read_rows(tmp_path / "t.csv", ["points"], faults)
    assert [fault.found for fault in faults] == ["2 columns 'slice'", "2 columns 'mask'"]
