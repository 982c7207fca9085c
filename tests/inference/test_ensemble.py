"""Several models as one: the voxels are those of averaging their probabilities by hand."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.stats import entropy

import unia_med
from unia_med.bundle.export import export_bundle
from unia_med.cli.main import main
from unia_med.errors import UserError
from unia_med.inference.ensemble import Ensemble
from unia_med.inference.postprocess import postprocess
from unia_med.localise.dense_crf import CrfSettings, dense_crf
from unia_med.runs import Run

CLASSES = {"one": ["RV", "MYO", "LV"], "other": ["LV", "RV", "MYO"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of other grids, orders of classes, temperatures and seeds, a bundle of one, and an oblique image."""
    path = Path(__file__).parents[1] / "bundle" / "untrained_run.py"
    spec = importlib.util.spec_from_file_location("untrained_run", path)
    untrained = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(untrained)
    root = tmp_path_factory.mktemp("ensemble")
    for number, (name, classes) in enumerate(CLASSES.items()):
        grid = {"spacing_mm": 4.0 - number, "size": [48, 64], "slice_axis": ("stored", "axial")[number]}
        inference = {"temperature": 1.0 + number, "postprocess": {"largest_component": [classes[0]]}}
        data = {"name": "acdc", "classes": classes, "class_values": [1, 2, 3], "grid": grid}
        untrained.write_run(root / name, data=data, inference=inference)
    noise = np.random.default_rng(3).normal(100, 20, (40, 36, 5)).astype(np.float32)
    affine = nib.affines.from_matvec(np.array([[0, -3.1, 0.3], [3.0, 0, 0.2], [0.1, 0, 7.0]]), (5, 6, 7))
    nib.save(nib.Nifti1Image(noise, affine), root / "scan.nii.gz")
    export_bundle(root / "other", root / "other_segmentation", onnx=False)
    return root


def by_hand(folder: Path) -> np.ndarray:
    """Mean probabilities (K, X, Y, Z) in the order RV, MYO, LV."""
    volume = unia_med.read_volume(folder / "scan.nii.gz")
    found = [Run.open(folder / name).predictor().predict_in_detail(volume).probabilities for name in CLASSES]
    return (found[0] + found[1][[0, 2, 3, 1]]) / np.float32(2)


@pytest.mark.parametrize("second", ["other", "other_segmentation"])
def test_voxels_are_those_of_averaging_by_hand(folder: Path, second: str, tmp_path: Path) -> None:
    models = [str(folder / "one"), str(folder / second)]
    image = ["--input", str(folder / "scan.nii.gz"), "--output", str(tmp_path), "--uncertainty"]
    assert main(["predict", "--model", *models, *image]) == 0
    mean = by_hand(folder)
    written = np.asarray(nib.load(tmp_path / "scan_seg.nii.gz").dataobj)
    assert len(np.unique(written)) == 4
    # What the two do not have in common, one piece of RV and of LV, is left out.
    assert np.array_equal(written, mean.argmax(0))
    doubt = np.asarray(nib.load(tmp_path / "scan_uncertainty.nii.gz").dataobj)
    np.testing.assert_allclose(doubt, entropy(mean.astype(np.float64), axis=0, base=4), atol=1e-5)
    record = json.loads((tmp_path / "scan_seg.json").read_text("utf-8"))
    assert record["model"] == f"one + {second}"
    assert list(record["weights"]) == ["one", second]
    assert len(set(record["weights"].values())) == 2


def test_common_steps_of_post_processing_follow_the_names(folder: Path) -> None:
    # As label 1 of the one and 2 of the other, RV is what both clean.
    config = (folder / "other" / "config.yaml").read_text("utf-8")
    (folder / "other" / "config.yaml").write_text(config.replace("largest_component: [LV]", "largest_component: [RV]"))
    try:
        model = unia_med.load([folder / "one", folder / "other"])
        found = model(folder / "scan.nii.gz").mask.array
        raw = unia_med.load([folder / "one", folder / "other"], postprocess=False)(folder / "scan.nii.gz").mask.array
    finally:
        (folder / "other" / "config.yaml").write_text(config)
    assert model.classes == ("RV", "MYO", "LV")
    assert np.array_equal(raw, by_hand(folder).argmax(0))
    assert np.array_equal(found, postprocess(raw, largest_component=[1]))
    assert not np.array_equal(found, raw)


@pytest.mark.parametrize("common", [True, False])
def test_a_dense_crf_that_all_have_follows_the_mean(folder: Path, tmp_path: Path, common: bool) -> None:
    for name in CLASSES:
        shutil.copytree(folder / name, tmp_path / name)
        if common or name == "one":
            text = (tmp_path / name / "config.yaml").read_text("utf-8")
            assert "crf: {iterations: 0}" in text
            (tmp_path / name / "config.yaml").write_text(text.replace("crf: {iterations: 0}", "crf: {iterations: 2}"))
    mean, image = by_hand(folder), unia_med.read_volume(folder / "scan.nii.gz").array
    found = unia_med.load([tmp_path / name for name in CLASSES])(folder / "scan.nii.gz").mask.array
    low, high = np.percentile(image, (1, 99))  # of the default config
    planes = torch.from_numpy(((image - low) / (high - low)).clip(0, 1)).permute(2, 0, 1)[:, None].float()
    settings = CrfSettings(iterations=2)
    chances = torch.from_numpy(mean).permute(3, 0, 1, 2)
    refined = torch.stack([dense_crf(one, part, settings) for one, part in zip(planes, chances, strict=True)])
    expected = refined.argmax(1).permute(1, 2, 0).numpy() if common else mean.argmax(0)
    assert np.array_equal(found, expected)
    assert common != np.array_equal(found, mean.argmax(0))


@pytest.mark.parametrize("sigmas", [(0.6, 0.6), (0.6, 1.2), (0.0, 0.6)])
def test_the_mean_is_smoothed_along_the_stack_where_all_do_so_alike(
    folder: Path, tmp_path: Path, sigmas: tuple[float, float]
) -> None:
    for name, sigma in zip(CLASSES, sigmas, strict=True):
        shutil.copytree(folder / name, tmp_path / name)
        text = (tmp_path / name / "config.yaml").read_text("utf-8")
        assert "slice_smoothing: 0.0" in text
        changed = text.replace("slice_smoothing: 0.0", f"slice_smoothing: {sigma}")
        (tmp_path / name / "config.yaml").write_text(changed, "utf-8")
    volume = unia_med.read_volume(folder / "scan.nii.gz")
    found = Ensemble([Run.open(tmp_path / name) for name in CLASSES]).predictor().probabilities(volume)
    if sigmas[0] == sigmas[1]:
        expected = gaussian_filter1d(by_hand(folder), 0.6, axis=3, mode="nearest")
    else:
        each = [Run.open(tmp_path / name).predictor().probabilities(volume) for name in CLASSES]
        expected = (each[0] + each[1][[0, 2, 3, 1]]) / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - by_hand(folder)).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 0.6])
def test_the_bundle_of_an_average_gives_its_masks(folder: Path, tmp_path: Path, sigma: float) -> None:
    # The same grid, another order of classes and another temperature: a bundle brings an image to one grid.
    grid = {"spacing_mm: 3.0": "spacing_mm: 4.0", "slice_axis: axial": "slice_axis: stored"}
    smoothing = {"slice_smoothing: 0.0": f"slice_smoothing: {sigma}"}
    # Views of one member alone, before its temperature.
    views = {"by_default: false": f"by_default: {str(sigma > 0).lower()}"}
    one, alike = tmp_path / "one", tmp_path / "alike"
    shutil.copytree(folder / "one", one)
    shutil.copytree(folder / "other", alike)
    for run, changes in ((one, smoothing), (alike, {**grid, **smoothing, **views})):
        values = (run / "config.yaml").read_text("utf-8")
        for old, new in changes.items():
            assert old in values
            values = values.replace(old, new)
        (run / "config.yaml").write_text(values, "utf-8")
    bundle = tmp_path / "average_segmentation"
    models = ["--model", str(one), str(alike)]
    assert main(["export", *models, "--output", str(bundle), "--no-onnx"]) == 0
    (tmp_path / "images").mkdir()
    shutil.copy(folder / "scan.nii.gz", tmp_path / "images")
    program = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(bundle / "configs/inference.json")]
    ends = ["--bundle_root", str(bundle), "--dataset_dir", str(tmp_path / "images"), "--save_uncertainty", "True"]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    monai = [*program, *ends, "--output_dir", str(tmp_path / "monai")]
    subprocess.run(monai, check=True, cwd=tmp_path, env=environment, capture_output=True)
    scan = ["--input", str(tmp_path / "images"), "--output", str(tmp_path / "own"), "--uncertainty"]
    assert main(["predict", *models, *scan]) == 0
    for name, tolerance in (("scan_seg", 0), ("scan_uncertainty", 1e-5)):
        found, own = (np.asarray(nib.load(tmp_path / f"{at}/{name}.nii.gz").dataobj) for at in ("monai", "own"))
        np.testing.assert_allclose(found, own, atol=tolerance)
    assert len(np.unique(np.asarray(nib.load(tmp_path / "monai/scan_seg.nii.gz").dataobj))) == 4
    card = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert "mean of 2 networks" in card["description"]
    # A bundle as a member leaves the smoothing to the mean, as a run does.
    unia_med.export(alike, tmp_path / "alike_segmentation", onnx=False)
    volume = unia_med.read_volume(folder / "scan.nii.gz")
    runs, mixed = (unia_med.load([one, other]) for other in (alike, tmp_path / "alike_segmentation"))
    chances = [model.predictor.probabilities(volume) for model in (runs, mixed)]
    np.testing.assert_allclose(*chances, atol=2e-5)
    with pytest.raises(UserError, match=r"other: data.grid differs from that of one"):
        unia_med.export([folder / "one", folder / "other"], tmp_path / "refused_segmentation")
    with pytest.raises(UserError, match="holds a bundle"):
        unia_med.export([folder / "one", folder / "other_segmentation"], tmp_path / "refused_segmentation")


def test_other_classes_are_refused_by_name(folder: Path) -> None:
    config = (folder / "other" / "config.yaml").read_text("utf-8")
    brain = folder / "brain"
    (brain / "checkpoints").mkdir(parents=True, exist_ok=True)
    (brain / "checkpoints" / "best.pt").write_bytes((folder / "other" / "checkpoints" / "best.pt").read_bytes())
    (brain / "config.yaml").write_text(config.replace("LV", "CSF"))
    with pytest.raises(UserError, match=r"brain: it predicts CSF, RV, MYO, but one predicts RV, MYO, LV"):
        unia_med.load([folder / "one", brain])
    with pytest.raises(UserError, match="own uncertainty maps are not averaged"):
        unia_med.load([folder / "one", folder / "other"], uncertainty="network")
    with pytest.raises(UserError, match="no split"):
        unia_med.predict([folder / "one", folder / "other"], folder, split="val")
