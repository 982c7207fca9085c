from __future__ import annotations

import pytest

from unia_med.data.checks import DataFault, raise_faults
from unia_med.errors import UserError


def test_no_fault_is_no_error() -> None:
    raise_faults([])


def test_one_fault_keeps_its_file_and_remedy() -> None:
    with pytest.raises(UserError) as caught:
        raise_faults([DataFault("a.nii", "2D", "3D", "Stack the slices")], "root")
    assert str(caught.value) == "a.nii: found 2D, expected 3D. Stack the slices"


def test_all_faults_are_listed_with_found_expected_and_remedy() -> None:
    faults = [DataFault(f"file{i}", f"found{i}", f"expected{i}", f"remedy{i}") for i in range(70)]
    with pytest.raises(UserError) as caught:
        raise_faults(faults, "root")
    lines = str(caught.value).splitlines()
    assert lines[0] == "root: 70 faults in the data:"
    assert lines[1:71] == [f"  - file{i}: found found{i}, expected expected{i}. remedy{i}" for i in range(70)]
    assert lines[71:] == ["Correct all of these, then start again."]
