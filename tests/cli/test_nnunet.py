"""nnU-Net both ways: its folders are read, its names are written, and runs on channel files leave as bundles."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from tests.bundle.untrained_run import write_run
from unia_med.api import evaluate, export, inspect, predict
from unia_med.cli.main import main
from unia_med.data.io.dataset_json import read_dataset_json
from unia_med.data.io.nifti_names import names_in
from unia_med.errors import UserError

DATA = {
    "name": "volumes",
    "classes": ["A", "B"],
    "channels": 2,
    "volumes": {"images": "imagesTr/*", "masks": "labelsTr/{name}", "channel_endings": ["_0000", "_0001"]},
    "grid": {"spacing_mm": 2.0, "size": [32, 32]},
}


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    """Two images of two channels, masks with a value that does not count, and dataset.json."""
    root, generator = tmp_path / "Dataset001_X", np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case in ("x_001", "x_002"):
        for channel in range(2):
            array = generator.normal(100, 20, (24, 20, 3)).astype(np.float32)
            nib.save(nib.Nifti1Image(array, np.diag([2, 2, 5, 1.0])), root / f"imagesTr/{case}_000{channel}.nii.gz")
        mask = np.zeros((24, 20, 3), np.uint8)
        mask[4:12, 4:12], mask[12:18, 4:12], mask[:, 14:] = 1, 2, 3
        nib.save(nib.Nifti1Image(mask, np.diag([2, 2, 5, 1.0])), root / f"labelsTr/{case}.nii.gz")
    labels = {"background": 0, "A": 1, "B": 2, "ignore": 3}
    description = {"labels": labels, "file_ending": ".nii.gz", "channel_names": {"0": "T1", "1": "T2"}}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_dataset_json_of_both_versions(nnunet: Path, tmp_path: Path) -> None:
    found = read_dataset_json(nnunet / "labelsTr")
    assert found and (found.names, found.ignored, found.ending) == ({1: "A", 2: "B"}, 3, ".nii.gz")
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "liver"}}')
    old = read_dataset_json(tmp_path)
    assert old and (old.names, old.ignored, old.ending) == ({1: "liver"}, None, None)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "whole": [1, 2]}}')
    with pytest.raises(UserError, match="regions of several values"):
        read_dataset_json(tmp_path)


def test_results_bear_the_names_of_labels(nnunet: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", data=DATA)
    command = ["predict", "--model", str(tmp_path / "run"), "--input", str(nnunet / "imagesTr"), "--uncertainty"]
    assert main([*command, "--names", "nnunet", "--output", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"x_001.nii.gz", "x_002.nii.gz"}
    assert (tmp_path / "out/uncertainty/x_001.nii.gz").is_file()
    record = json.loads((tmp_path / "out/x_001.json").read_text())
    assert record["sources"] == ["x_001_0000.nii.gz", "x_001_0001.nii.gz"]
    assert record["classes"] == {"1": "A", "2": "B"}
    assert len(record["weights"]) == 1 and record["runs"] == [str((tmp_path / "run").resolve())]


def test_the_value_that_does_not_count_is_not_scored(nnunet: Path, tmp_path: Path) -> None:
    for path in (nnunet / "labelsTr").iterdir():
        mask = np.asarray(nib.load(path).dataobj).copy()
        mask[mask == 3] = 1  # wrong where nobody may look
        (tmp_path / "out").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(mask, np.diag([2, 2, 5, 1.0])), tmp_path / "out" / path.name)
    scores = evaluate(tmp_path / "out", nnunet / "labelsTr")
    assert scores["mean"]["dice"] == {"A": 1.0, "B": 1.0, "mean": 1.0}


@pytest.mark.slow
def test_a_run_on_channel_files_leaves_as_a_bundle(nnunet: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", data=DATA)
    export(tmp_path / "run", tmp_path / "bundle", onnx=False)
    for model in ("run", "bundle"):
        cases = list(predict(tmp_path / model, nnunet / "imagesTr", tmp_path / f"out_{model}"))
        assert [(case.name, case.error) for case in cases] == [("x_001", None), ("x_002", None)]
    one, other = (np.asarray(nib.load(tmp_path / f"out_{m}/x_001_seg.nii.gz").dataobj) for m in ("run", "bundle"))
    assert len(np.unique(one)) > 1
    np.testing.assert_array_equal(one, other)


def test_init_reads_names_and_channels(nnunet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(nnunet)]) == 0
    text = (tmp_path / "project.yaml").read_text()
    assert "classes: [A, B]" in text and "ignore_value: 3" in text and "_0001" in text
    assert not inspect("project.yaml").faults


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_endings_keep_the_geometry(tmp_path: Path, suffix: str) -> None:
    write_run(tmp_path / "run", data={"classes": ["A"], "grid": {"spacing_mm": 2.0, "size": [32, 32]}})
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((3, 20, 24), np.float32))
    image.SetSpacing((2.0, 2.5, 5.0))
    image.SetOrigin((-7.0, 3.0, 11.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    (tmp_path / "in").mkdir()
    sitk.WriteImage(image, str(tmp_path / f"in/y_1_0000{suffix}"))
    list(predict(tmp_path / "run", tmp_path / "in", tmp_path / "out", names="nnunet", uncertainty=True))
    list(predict(tmp_path / "run", tmp_path / "in", tmp_path / "plain", uncertainty=True))
    mask = sitk.ReadImage(str(tmp_path / f"out/y_1{suffix}"))
    for part in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        np.testing.assert_allclose(getattr(mask, part)(), getattr(image, part)(), atol=1e-6)
    plain = np.asarray(nib.load(tmp_path / "plain/y_1_0000_seg.nii.gz").dataobj)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask).T, plain)
    assert names_in(tmp_path / "plain/y_1_0000_seg.nii.gz") == {1: "A"}
    doubt, beside = nib.load(tmp_path / "out/uncertainty/y_1.nii.gz"), tmp_path / "plain/y_1_0000_uncertainty.nii.gz"
    np.testing.assert_array_equal(doubt.get_fdata(), nib.load(beside).get_fdata())
    np.testing.assert_allclose(doubt.affine, nib.load(beside).affine, atol=1e-5)
    assert names_in(beside) == {}


def test_pictures_are_grey(tmp_path: Path) -> None:
    grid = {"units": "pixels", "spacing_mm": None, "size": [32, 32]}
    write_run(tmp_path / "run", data={"name": "volumes", "classes": ["A"], "grid": grid})
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (24, 20)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "in/p_0000.png")
    case = next(predict(tmp_path / "run", tmp_path / "in", tmp_path / "out", names="nnunet"))
    assert case.error is None and Image.open(tmp_path / "out/p.png").mode == "L"
