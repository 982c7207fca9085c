"""A resumed run notices that its data are others."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.config.load import parse_config
from unia_med.config.schema import RunConfig
from unia_med.data.sample import CaseFiles
from unia_med.engine.data_record import check_record, data_record, write_record
from unia_med.errors import UserError


def config(root: Path, **data: object) -> RunConfig:
    return parse_config({"data": {"root": str(root), **data}})


def case(root: Path, name: str, value: int = 1) -> CaseFiles:
    root.mkdir(exist_ok=True)
    for suffix in ("", "_gt"):
        array = np.full((4, 4, 2), value, np.int16)
        nib.save(nib.Nifti1Image(array, np.eye(4)), root / f"{name}{suffix}.nii")
    return CaseFiles(name, name, root / f"{name}.nii", root / f"{name}_gt.nii")


def test_same_data_elsewhere_and_later_are_the_same(tmp_path: Path) -> None:
    one = data_record(config(tmp_path / "a"), {"train": [case(tmp_path / "a", "x")], "val": []})
    other = data_record(config(tmp_path / "b"), {"train": [case(tmp_path / "b", "x")], "val": []})
    write_record(tmp_path / "data.json", one)
    check_record(tmp_path / "data.json", other)
    check_record(tmp_path / "none.json", other)


@pytest.mark.parametrize("file", ["x.nii", "x_gt.nii"])
def test_a_change_of_the_same_size_and_time_is_told(tmp_path: Path, file: str) -> None:
    parts = {"train": [case(tmp_path, "x"), case(tmp_path, "y")], "val": [case(tmp_path, "z")]}
    write_record(tmp_path / "data.json", data_record(config(tmp_path), parts))
    path = tmp_path / file
    status, whole = path.stat(), bytearray(path.read_bytes())
    whole[-1] ^= 255
    path.write_bytes(bytes(whole))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match=r"not those that the run began with: 1 changed \(x\)\. Give the data back"):
        check_record(tmp_path / "data.json", data_record(config(tmp_path), parts))


def test_a_patient_more_and_one_less_are_told(tmp_path: Path) -> None:
    before = {"train": [case(tmp_path, "x")], "val": [case(tmp_path, "z")]}
    after = {"train": [case(tmp_path, "x"), case(tmp_path, "w")], "val": []}
    write_record(tmp_path / "data.json", data_record(config(tmp_path), before))
    with pytest.raises(UserError, match=r"1 new \(w\), 1 gone \(z\)"):
        check_record(tmp_path / "data.json", data_record(config(tmp_path), after))


def test_the_table_of_tags_counts(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("image,RV,MYO,LV\n")
    settings = config(tmp_path, tags={"source": "csv", "path": "tags.csv"})
    parts = {"train": [case(tmp_path, "x")], "val": []}
    write_record(tmp_path / "data.json", data_record(settings, parts))
    (tmp_path / "tags.csv").write_text("image,RV,MYO,LV\nx,1,1,1\n")
    with pytest.raises(UserError, match="table of tags"):
        check_record(tmp_path / "data.json", data_record(settings, parts))
