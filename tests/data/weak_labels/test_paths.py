"""Relative paths of a config: one rule for tables, tags and folders of labels."""

from pathlib import Path

import pytest

from unia_med.config.schema import DataConfig
from unia_med.config.weak_labels import LabelSource
from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.case_tags import tags_table
from unia_med.data.weak_labels.read import find_files
from unia_med.errors import UserError


def test_paths_of_the_data_set_count_from_its_root_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("", "root/"):
        (tmp_path / f"{place}drawn").mkdir(parents=True)
        (tmp_path / f"{place}drawn/a_scribbles.nii.gz").touch()
        (tmp_path / f"{place}tags.csv").touch()
    source = LabelSource(kind="scribbles", folder=Path("drawn"))
    data = DataConfig(root=Path("root"), classes=["A"], tags={"source": "csv", "path": "tags.csv"}, labels=[source])
    case = CaseFiles("a", "a", Path("root/a.nii.gz"))
    assert tags_table(data) == Path("root/tags.csv")
    assert find_files(source, [case], data) == {"a": Path("root/drawn/a_scribbles.nii.gz")}
    for file in ("tags.csv", "drawn/a_scribbles.nii.gz"):
        (tmp_path / "root" / file).unlink()
    (tmp_path / "root/drawn").rmdir()
    assert tags_table(data) == Path("tags.csv")
    assert find_files(source, [case], data) == {"a": Path("drawn/a_scribbles.nii.gz")}
    with pytest.raises(UserError, match=r"data.root \(root\) or here"):
        find_files(LabelSource(kind="scribbles", folder=Path("nowhere")), [case], data)
