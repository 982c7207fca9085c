"""Names stay inside the folder they are joined to, and no spreadsheet takes one for a formula."""

from __future__ import annotations

from pathlib import Path

import pytest

from unia_med.names import safe_name, spreadsheet_text, without_apostrophe


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../../x",
        "a/../../b",
        r"C:\x\y",
        "C:/x",
        r"..\..\x",
        "//host/share/x",
        "..",
        "/",
        "",
        "a/./b/",
        "a\0b",
        "l\udcff1",
    ],
)
def test_a_result_never_leaves_its_folder(tmp_path: Path, name: str) -> None:
    safe = safe_name(name)
    place = (tmp_path / f"{safe}_seg.nii.gz").resolve()
    assert (
        place.is_relative_to(tmp_path.resolve())
        and "\0" not in str(place)
        and safe.encode()
        and safe_name(safe) == safe
    )


@pytest.mark.parametrize("name", ["patient001_frame01", "site1/scan 7", "Müller 4", "a.b..c", "xy:z", "=a"])
def test_what_is_safe_stays(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@SUM(A1)", "\ta", "a", "'a", "", "'=a"])
def test_a_cell_is_no_formula_and_comes_back(name: str) -> None:
    cell = spreadsheet_text(name)
    assert not cell.startswith(("=", "+", "-", "@", "\t"))
    if not name.startswith("'="):
        assert without_apostrophe(cell) == name
