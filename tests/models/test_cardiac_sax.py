"""The shipped heart model: its files fit each other, and it finds a heart in any orientation."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import unia_med
from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.render import frame_image, frame_labels
from unia_med.cli.main import main
from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.inference.predictor import Predictor
from unia_med.runs import Run, shipped_models

NAME = "cardiac-sax"
FOLDER = shipped_models()[NAME]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Run.open(NAME).predictor()


@pytest.fixture(scope="module")
def phantom() -> tuple[Volume, np.ndarray]:
    """End diastole of a synthetic patient of the normal group, drawn by the generator of whole stacks."""
    patient = patient_of(seed=3, index=0)
    affine = np.diag([*patient.scan.spacing_mm, 1.0])
    return Volume(frame_image(patient, 1), affine), frame_labels(patient, 1)


def _dice(found: np.ndarray, true: np.ndarray) -> list[float]:
    sums = [
        (int((found == k).sum()), int((true == k).sum()), int(((found == k) & (true == k)).sum())) for k in (1, 2, 3)
    ]
    return [2 * both / (one + other) for one, other, both in sums]


def test_the_hashes_are_those_of_the_files() -> None:
    lines = [line.split() for line in (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()]
    assert [name for _, name in lines] == ["weights.pt", "training_images.json"]
    assert all(hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest for digest, name in lines)


def _kinds() -> dict[str, Volume]:
    """A heart that the model did not see, and images that show none."""
    patient = patient_of(seed=5, index=1)
    heart = Volume(frame_image(patient, 1), np.diag([*patient.scan.spacing_mm, 1.0]))
    generator, spacing = np.random.default_rng(0), np.diag([1.5, 1.5, 8.0, 1.0])
    noise = Volume(generator.normal(100, 20, (160, 160, 10)).astype(np.float32), spacing)
    x, y = np.mgrid[-1:1:160j, -1:1:160j]
    trunk = np.where(x**2 / 0.8 + y**2 / 0.5 < 1, 40.0, -1000.0) + 70 * ((x + 0.3) ** 2 + y**2 < 0.1)
    body = np.repeat(trunk[:, :, None], 10, 2) + generator.normal(0, 10, (160, 160, 10))
    window = Volume(body.clip(-160, 240).astype(np.float32), spacing)  # no Hounsfield unit gives it away
    return {"heart": heart, "noise": noise, "CT": Volume(body.astype(np.float32), spacing), "CT in a window": window}


@pytest.mark.parametrize("kind", ["heart", "noise", "CT", "CT in a window", "brain"])
def test_images_that_show_no_heart_are_said(kind: str, tmp_path: Path) -> None:
    if kind == "brain":
        datasets = pytest.importorskip("nilearn.datasets")
        template = datasets.load_mni152_template(resolution=2)
        image = Volume(np.asarray(template.dataobj)[:, :, 5:80:5].astype(np.float32), np.diag([2.0, 2, 10, 1]))
    else:
        image = _kinds()[kind]
    write_like(image.array.astype(np.float32), image, tmp_path / "scan.nii.gz")
    (case,) = unia_med.predict(NAME, tmp_path / "scan.nii.gz", tmp_path / "out", device="cpu")
    said = " ".join(case.warnings)
    assert ("unlike the images of the training" in said) == (kind != "heart"), said
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (float(row["unlike_training"]) > 1.5) == (kind != "heart")


def test_volumes_of_the_summary_are_those_of_the_mask(tmp_path: Path) -> None:
    heart = _kinds()["heart"]
    write_like(heart.array.astype(np.float32), heart, tmp_path / "scan.nii.gz")
    (case,) = unia_med.predict(NAME, tmp_path / "scan.nii.gz", tmp_path / "out", device="cpu")
    mask = nib.load(tmp_path / "out" / "scan_seg.nii.gz")
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    voxel_ml = float(np.prod(mask.header.get_zooms()[:3])) / 1000
    for value, name in enumerate(Run.open(NAME).classes, 1):
        expected = float((np.asarray(mask.dataobj) == value).sum()) * voxel_ml
        assert expected > 0 and float(row[f"{name}_ml"]) == pytest.approx(expected, abs=1e-3), name


def test_the_folder_is_small_and_the_card_names_the_classes_of_the_config() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12e6
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    assert tuple(card["classes"]) == Run.open(NAME).classes
    assert card["name"] == NAME


def test_weights_are_cast_to_single_precision(predictor: Predictor) -> None:
    assert {p.dtype for p in predictor.method.parameters()} == {torch.float32}


def test_it_segments_a_synthetic_patient(predictor: Predictor, phantom: tuple[Volume, np.ndarray]) -> None:
    volume, truth = phantom
    rv, myo, lv = _dice(predictor.predict_volume(volume).labels, truth)
    assert lv > 0.85
    assert myo > 0.7
    assert rv > 0.7


@pytest.mark.parametrize("turns", [1, 2, 3, "mirror"])
def test_a_turned_or_mirrored_heart_is_found_as_well(
    predictor: Predictor, phantom: tuple[Volume, np.ndarray], turns: int | str
) -> None:
    volume, truth = phantom

    def there(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array[:, ::-1] if isinstance(turns, str) else np.rot90(array, turns))

    found = predictor.predict_volume(Volume(there(volume.array), volume.affine)).labels
    plain = predictor.predict_volume(volume).labels
    assert abs(np.mean(_dice(found, there(truth))) - np.mean(_dice(plain, truth))) < 0.05


def test_views_are_averaged_unless_they_are_not_wanted(phantom: tuple[Volume, np.ndarray], tmp_path: Path) -> None:
    volume, _ = phantom
    middle = Volume(np.ascontiguousarray(volume.array[:, :, 4:6]), volume.affine)
    write_like(middle.array.astype(np.float32), middle, tmp_path / "scan.nii.gz")
    doubts = []
    for more in ([], ["--tta"], ["--no-tta"]):
        command = ["--input", str(tmp_path / "scan.nii.gz"), "--output", str(tmp_path / "out"), "--device", "cpu"]
        assert main(["predict", "--model", NAME, *command, "--uncertainty", *more]) == 0
        doubts.append(read_volume(tmp_path / "out" / "scan_uncertainty.nii.gz").array)
    np.testing.assert_array_equal(doubts[0], doubts[1])
    assert np.abs(doubts[0] - doubts[2]).max() > 0.05
    single = Run.open(NAME).predictor(tta=False).predict_volume(read_volume(tmp_path / "scan.nii.gz"))
    np.testing.assert_allclose(doubts[2], single.uncertainty, atol=1e-5)


def test_a_single_slice_is_enough(predictor: Predictor, phantom: tuple[Volume, np.ndarray]) -> None:
    volume, truth = phantom
    middle = truth.shape[2] // 2
    one = Volume(np.ascontiguousarray(volume.array[..., middle : middle + 1]), volume.affine)
    assert min(_dice(predictor.predict_volume(one).labels, truth[..., middle : middle + 1])) > 0.7


def test_nothing_of_this_machine_is_in_the_package() -> None:
    for path in Path(FOLDER).iterdir():
        content = path.read_bytes()
        assert not re.search(rb"/(root|tmp|home)/", content), path.name


@pytest.mark.slow
def test_the_floor_on_patients_that_it_has_never_seen(predictor: Predictor, real_acdc: Path) -> None:
    """Every fourth patient of ACDC: mean Dice of both phases, and a heart in each."""
    found: list[list[float]] = []
    for info in sorted(real_acdc.rglob("Info.cfg"))[::4]:
        for path in sorted(info.parent.glob("*_frame??.nii.gz")):
            truth = read_volume(path.with_name(path.name.replace(".nii.gz", "_gt.nii.gz")))
            labels = predictor.predict_volume(read_volume(path)).labels
            assert labels.any(), path.name
            found.append(_dice(labels, np.asarray(truth.array)))
    assert np.mean(found) > 0.78


def test_a_report_of_it_names_the_commands_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "cardiac-sax"]) == 2
    assert "unia-med report masks" in capsys.readouterr().err
