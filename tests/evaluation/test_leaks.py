"""A warning where scored cases, or others of their patients, trained the run behind the masks."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.config.load import dump_config
from unia_med.config.schema import RunConfig
from unia_med.evaluation.evaluate import evaluate


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Masks and labels of four cases, and a run that was trained on some of them."""
    array = np.zeros((6, 5, 2), np.uint8)
    array[2:4, 1:4] = 1
    for folder, ending in (("masks", "_seg"), ("labels", "")):
        for case in ("p01_a", "p01_b", "p02_a", "p011_a"):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / folder / f"{case}{ending}.nii.gz")
    run = tmp_path / "run"
    run.mkdir()
    split = {"train": {"p01_a": "p01"}, "val": {"p02_a": "p02"}, "test": {}}
    (run / "split.json").write_text(json.dumps(split))
    data = {"name": "acdc", "classes": ["RV"]}
    dump_config(RunConfig.model_validate({"data": data}), run / "config.yaml")
    return tmp_path


def warned(folders: Path, **more: object) -> list[str]:
    return evaluate(folders / "masks", folders / "labels", **more).notes  # type: ignore[arg-type]


def test_without_any_trace_of_a_run_nothing_is_said(folders: Path) -> None:
    assert warned(folders) == []


def test_the_config_of_a_run_knows_its_training_part(folders: Path) -> None:
    """Another frame of a patient that trained counts; a patient whose name only begins alike does not."""
    (note,) = warned(folders, config=folders / "run" / "config.yaml")
    assert "2 of 4 scored cases" in note and "(p01_a, p01_b)" in note and str(folders / "run") in note


@pytest.mark.parametrize("record", [{"model": "RUN"}, {"models": [{"path": "RUN", "hash": "x"}]}, {"run": "../run"}])
def test_the_record_next_to_a_mask_names_its_run(folders: Path, record: dict) -> None:
    text = json.dumps(record).replace("RUN", (folders / "run").as_posix())
    (folders / "masks" / "p01_b_seg.json").write_text(text)
    (note,) = warned(folders)
    assert "1 of 4 scored cases" in note and "(p01_b)" in note


def test_names_with_dots_and_labels_of_another_name_are_found(folders: Path) -> None:
    """The record knows how the image was called; dots in names belong to them."""
    (folders / "masks" / "p01_a_seg.nii.gz").rename(folders / "masks" / "x.1_seg.nii.gz")
    (folders / "labels" / "p01_a.nii.gz").rename(folders / "labels" / "x.1_mask.nii.gz")
    record = {"runs": [str(folders / "run")], "summary": {"case": "p01_a"}}
    (folders / "masks" / "x.1_seg.json").write_text(json.dumps(record))
    (note,) = warned(folders)
    assert "1 of 4 scored cases" in note and "(x.1_mask)" in note


@pytest.mark.parametrize("split", ["[]", "{", '{"train": {"p01_a": 5}}', '{"train": "x"}'])
def test_damaged_records_are_no_fault_of_the_evaluation_and_are_told(folders: Path, split: str) -> None:
    long_name = json.dumps({"run": "x" * 5000})
    (folders / "masks" / "p01_b_seg.json").write_text(long_name)
    (folders / "run" / "split.json").write_text(split)
    (note,) = warned(folders, config=folders / "run" / "config.yaml")
    assert f"{folders / 'run' / 'split.json'} " in note and "is not known" in note


def test_a_damaged_record_of_a_mask_is_told(folders: Path) -> None:
    (folders / "masks" / "p01_b_seg.json").write_text('["run"')
    (note,) = warned(folders)
    assert f"{folders / 'masks' / 'p01_b_seg.json'} cannot be read as JSON" in note and "is not known" in note


def test_cases_of_sub_folders(folders: Path) -> None:
    split = {"train": {"s1/p02_a": "s1/p02_a", "s1/x": "s1/x"}, "val": {"s2/x": "s2/x"}, "test": {}}
    (folders / "run" / "split.json").write_text(json.dumps(split))
    (note,) = warned(folders, config=folders / "run" / "config.yaml")
    assert "1 of 4 scored cases" in note and "(p02_a)" in note


def test_a_run_that_config_and_record_spell_differently_is_warned_of_once(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "masks" / "p01_b_seg.json").write_text(json.dumps({"run": str(folders / "run")}))
    monkeypatch.chdir(folders)
    (note,) = warned(folders, config=Path("run/config.yaml"))
    assert "2 of 4 scored cases" in note


def test_labels_without_names_have_the_values_of_the_masks_that_trained(folders: Path) -> None:
    """A run calls its classes 1, 2, ...; in its own masks and in these labels LIVER is 9."""
    for path in (folders / "labels").glob("*"):
        mask = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(mask.dataobj) * np.uint8(9), mask.affine), path)
    data = {"name": "volumes", "classes": ["LIVER"], "class_values": [9]}
    dump_config(RunConfig.model_validate({"data": data}), folders / "run" / "config.yaml")
    (folders / "masks" / "classes.json").write_text('{"1": "LIVER"}')
    (folders / "masks" / "p02_a_seg.json").write_text(json.dumps({"runs": [str(folders / "run")]}))
    found = evaluate(folders / "masks", folders / "labels")
    assert found["mean"]["dice"]["LIVER"] == 1 and "9 LIVER" in found.notes[0]
