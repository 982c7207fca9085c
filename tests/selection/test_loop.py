"""Train, choose, correct, train again: as typed, on the tiny hearts."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import unia_med
from unia_med.build import build_dataset
from unia_med.cli.main import main
from unia_med.config.load import load_config
from unia_med.data.splits import split_cases
from unia_med.data.weak_labels.load import load_weak_labels
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.runs import Run

CONFIG = """
data:
  name: acdc
  split: {kind: lists, train: [patient001, patient002], val: [patient013]}
  tags: {source: none}
  labels: [{kind: scribbles, source: masks, patients: 1}]
  grid: {spacing_mm: null, size: [32, 32]}
network: {backbone: lite0, weights: none, decoder_widths: [8, 8, 8, 8]}
method: {name: partial}
training: {iterations: 2, batch_size: 2}
"""


@pytest.fixture
def first(tiny_acdc: Path, tmp_path: Path) -> Path:
    """A run that learned from scribbles of one of two training patients."""
    (tmp_path / "weak.yaml").write_text(f"{CONFIG.rstrip()}\n")
    command = ["train", "--config", str(tmp_path / "weak.yaml"), "--set", f"data.root={tiny_acdc}"]
    assert main([*command, "--output", str(tmp_path / "first")]) == 0
    return tmp_path / "first"


def truth(root: Path, case: str) -> np.ndarray:
    return np.asarray(nib.load(root / "training" / case[:10] / f"{case}_gt.nii.gz").dataobj)


def test_corrected_volumes_are_the_labels_of_the_next_training_and_win(
    first: Path, tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = Run(first).labelled
    assert len(labelled) == 2 and len({name[:10] for name in labelled}) == 1
    capsys.readouterr()
    assert main(["next", str(first), str(tiny_acdc), "--count", "9", "--slices", "2"]) == 0
    chosen = tmp_path / "first_next"
    said = capsys.readouterr().out
    with (chosen / "next.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The two frames of the other training patient: not what is labelled, and no validation patient.
    assert {row["case"] for row in rows} == {"patient001_frame01", "patient001_frame07", "patient002_frame01",
                                             "patient002_frame07"} - set(labelled)  # fmt: skip
    assert main(["predict", "--model", str(first), "--input", str(tiny_acdc), "--output", str(tmp_path / "p")]) == 0
    for row in rows:
        written, image = nib.load(chosen / row["labels"]), nib.load(row["image"])
        assert np.array_equal(written.affine, image.affine) and written.shape == image.shape
        values = np.asarray(written.dataobj)
        slices = [int(z) for z in row["slices"].split()]
        assert len(slices) == 2
        rest = [z for z in range(4) if z not in slices]
        predicted = np.asarray(nib.load(tmp_path / "p" / f"{row['case']}_seg.nii.gz").dataobj)
        assert np.array_equal(values[:, :, slices], predicted[:, :, slices])
        assert (values[:, :, rest] == 255).all()
        # A person corrects the slices.
        values = values.copy()
        values[:, :, slices] = truth(tiny_acdc, row["case"])[:, :, slices]
        nib.save(nib.Nifti1Image(values, written.affine), chosen / row["labels"])
    command = next(line.strip() for line in said.splitlines() if "unia-med train" in line)
    assert main(command.split()[1:]) == 0
    second = Run(tmp_path / "first_corrected")
    assert "starts from" in (second.folder / "train.log").read_text()
    assert set(second.labelled) == {*labelled, *(row["case"] for row in rows)}
    labels = training_labels(second.folder / "config.yaml")
    for row in rows:
        for z in range(4):
            plane = labels[row["case"]][z]
            if str(z) in row["slices"].split():
                # 40 x 36 stored pixels, of which the network sees the central 32 x 32.
                assert np.array_equal(plane, truth(tiny_acdc, row["case"])[4:36, 2:34, z])
            else:
                assert (plane == IGNORE).all()


def training_labels(config: Path) -> dict[str, np.ndarray]:
    resolved = load_config(config)
    dataset = build_dataset(resolved.data)
    cases = split_cases(dataset.cases(), resolved.data.split, resolved.seed)["train"]
    found = load_weak_labels(dataset, cases, resolved.data, resolved.seed)
    assert found is not None
    return found


def test_images_outside_of_the_data_set_become_the_next_one(first: Path, tiny_acdc: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    for number, frame in enumerate(("patient001_frame07", "patient002_frame01", "patient013_frame01")):
        source = tiny_acdc / "training" / frame[:10] / f"{frame}.nii.gz"
        shutil.copy(source, tmp_path / "others" / f"scan {number}.nii.gz")
    assert main(["next", str(first), str(tmp_path / "others"), "--count", "2", "--output", str(tmp_path / "n")]) == 0
    config = load_config(tmp_path / "n" / "next.yaml")
    assert config.data.name == "volumes" and config.data.root == (tmp_path / "others").resolve()
    assert config.data.labels[0].values == {"RV": 1, "MYO": 2, "LV": 3}
    assert len(config.data.split.train) == 2 and len(config.data.labels) == 1
    command = ["train", "--config", str(tmp_path / "n" / "next.yaml"), "--output", str(tmp_path / "second")]
    assert main(command) == 0
    assert len(Run(tmp_path / "second").labelled) == 2


@pytest.mark.slow
def test_a_bundle_chooses_and_is_trained_on(first: Path, tiny_acdc: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "hearts_segmentation"
    assert main(["export", "--model", str(first), "--output", str(bundle), "--no-onnx"]) == 0
    shutil.copytree(tiny_acdc / "training" / "patient013", tmp_path / "scans")
    assert main(["next", str(bundle), str(tmp_path / "scans"), "--count", "1"]) == 0
    chosen = tmp_path / "hearts_segmentation_next"
    config = load_config(chosen / "next.yaml")
    assert config.training.start_from == str(bundle.resolve()) and config.data.root == (tmp_path / "scans").resolve()
    command = ["train", "--config", str(chosen / "next.yaml"), "--from", str(bundle)]
    assert main([*command, "--output", str(tmp_path / "second")]) == 0
    assert "starts from" in (tmp_path / "second" / "train.log").read_text()
    shutil.rmtree(bundle / "docs")
    with pytest.raises(UserError, match="does not say how its network was trained"):
        unia_med.choose_next(bundle, tmp_path / "scans", tmp_path / "n")


def test_what_cannot_be_chosen_is_refused(
    first: Path, tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "corrected.nii.gz").touch()
    for arguments, words in (
        ([str(tiny_acdc), "--output", str(tmp_path / "full")], "would be overwritten"),
        ([str(tiny_acdc / "training" / "patient013")], "no training case without labels"),
        ([str(tmp_path / "missing")], "no such folder"),
        ([str(tiny_acdc), "--count", "0"], "expected at least 1"),
    ):
        assert main(["next", str(first), *arguments]) == 2
        assert words in capsys.readouterr().err
