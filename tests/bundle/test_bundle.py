"""A bundle against the run it came from: the same voxels without the package, and everything a user finds in it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, SaveImaged

from unia_med.bundle.export import export_bundle, load_network
from unia_med.cli.main import main
from unia_med.errors import UserError
from unia_med.inference.bundle import Bundle
from unia_med.metrics.overlap import dice
from unia_med.runs import Run

SCHEMA = Path(__file__).parent / "metadata_schema.json"


class _Blocker(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "unia_med":
            raise ModuleNotFoundError(f"{name} is hidden by the test")


@contextmanager
def without_package() -> Iterator[None]:
    """As if unia_med were not installed; what is imported inside is forgotten afterwards."""
    before, path = dict(sys.modules), list(sys.path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "unia_med"]:
        del sys.modules[name]
    blocker = _Blocker()
    sys.meta_path.insert(0, blocker)
    try:
        yield
    finally:
        sys.meta_path.remove(blocker)
        for name in [name for name in sys.modules if name.startswith("scripts_")]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name.startswith("unia_med")})
        sys.path[:] = path


def _run_bundle(bundle: Path, images: Path, output: Path, **changes: Any) -> None:
    with without_package():
        monai.bundle.run(
            config_file=str(bundle / "configs" / "inference.json"),
            bundle_root=str(bundle),
            dataset_dir=str(images),
            output_dir=str(output),
            device="cpu",
            **{"save_uncertainty": True, **changes},
        )


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory, run: Path, images: Path) -> Path:
    """What `unia-med predict` writes."""
    output = tmp_path_factory.mktemp("predicted")
    arguments = ["--input", str(images), "--output", str(output), "--uncertainty", "--device", "cpu"]
    assert main(["predict", "--model", str(run), *arguments]) == 0
    return output


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, bundle: Path, images: Path) -> Path:
    """What the bundle writes, in this process."""
    output = tmp_path_factory.mktemp("results")
    _run_bundle(bundle, images, output)
    return output


def _voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def _assert_same_results(found: Path, wanted: Path) -> None:
    names = sorted(path.name for path in wanted.glob("*.nii*"))  # `predict` adds its records
    assert sorted(path.name for path in found.iterdir()) == names
    assert len(names) == 12
    for name in names:
        one, other = nib.load(found / name), nib.load(wanted / name)
        assert one.header == other.header, name
        if name.endswith("_seg.nii.gz"):
            np.testing.assert_array_equal(_voxels(found / name), _voxels(wanted / name), err_msg=name)
        else:
            np.testing.assert_allclose(_voxels(found / name), _voxels(wanted / name), atol=2e-6, err_msg=name)


def test_masks_are_voxel_equal_to_those_of_predict(results: Path, predicted: Path) -> None:
    _assert_same_results(results, predicted)
    values = np.unique(np.concatenate([_voxels(path).ravel() for path in predicted.glob("*_seg.nii.gz")]))
    assert values.tolist() == [0, 1, 2, 3]  # otherwise equality would say little


def test_results_keep_the_geometry_of_the_image(results: Path, images: Path) -> None:
    for path in sorted(images.rglob("*.nii*")):
        if path.name.startswith("plain_gt"):
            continue
        image, mask = nib.load(path), nib.load(results / f"{path.name.split('.')[0]}_seg.nii.gz")
        assert mask.shape == image.shape
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert mask.header.get_zooms() == image.header.get_zooms()
        assert mask.header.get_xyzt_units() == ("mm", "msec")


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_the_unit_of_space_changes_no_mask(
    bundle: Path, results: Path, images: Path, tmp_path: Path, unit: str, factor: float
) -> None:
    source = nib.load(images / "plain.nii.gz")
    affine = source.affine.copy()
    affine[:3] *= factor
    image = nib.Nifti1Image(np.asarray(source.dataobj), affine, source.header)
    image.header.set_xyzt_units(unit)
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "plain.nii.gz")
    _run_bundle(bundle, tmp_path / "in", tmp_path / "out", save_uncertainty=False)
    result = nib.load(tmp_path / "out" / "plain_seg.nii.gz")
    # Rounding of the header decides a few voxels of an untrained network, whose classes are nearly equal everywhere.
    assert (np.asarray(result.dataobj) == _voxels(results / "plain_seg.nii.gz")).mean() > 0.999
    np.testing.assert_array_equal(result.affine, nib.load(tmp_path / "in" / "plain.nii.gz").affine)
    assert result.header.get_xyzt_units()[0] == unit


def test_damaged_weights_are_refused(bundle: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    weights = tmp_path / "bundle" / "models" / "model.pt"
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    weights.write_bytes(bytes(damaged))
    with pytest.raises(Exception) as caught:  # noqa: B017 - MONAI wraps it
        _run_bundle(tmp_path / "bundle", images / "single.nii.gz", tmp_path / "out")
    assert "the weights are damaged" in _told(caught) and not (tmp_path / "out").exists()


def test_a_script_that_was_cut_is_named(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle", ignore=shutil.ignore_patterns("__pycache__"))
    (script,) = (tmp_path / "bundle").glob("scripts_*/inference/native.py")
    script.write_bytes(script.read_bytes()[:40])
    with pytest.raises(UserError, match="not as it was exported") as caught:
        Bundle(tmp_path / "bundle").predictor()
    assert caught.value.where == script


def test_a_setting_that_was_changed_is_said(bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    caplog.set_level("INFO")
    Bundle(tmp_path / "bundle").predictor()
    assert "not as it was exported" not in caplog.text
    config = tmp_path / "bundle" / "configs" / "inference.json"
    changed = config.read_text().replace('"batch_slices": ', '"batch_slices": 1')
    assert changed != config.read_text()
    config.write_text(changed)
    Bundle(tmp_path / "bundle").predictor()
    assert f"{tmp_path / 'bundle'}: not as it was exported: configs/inference.json; edited, or damaged" in caplog.text


def test_uncertainty_can_be_left_out(bundle: Path, images: Path, tmp_path: Path) -> None:
    _run_bundle(bundle, images / "single.nii.gz", tmp_path / "out", save_uncertainty=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["single_seg.nii.gz"]


@pytest.mark.parametrize(
    "component",
    [True, "foreground", ["MYO"]],
)
@pytest.mark.slow
def test_postprocessing_of_the_run_is_that_of_the_bundle(
    component: bool | str | list[str], untrained: ModuleType, images: Path, tmp_path: Path
) -> None:
    """Settings that differ from every default reach the bundle."""
    inference = {
        "batch_slices": 2,
        "temperature": 2.5,
        "postprocess": {
            "largest_component": component,
            "fill_holes": True,
            "slice_gaps": False,
            "by_length": component != "foreground",
        },
    }
    data = {"grid": {"spacing_mm": None, "size": [48, 64], "percentiles": [5, 90], "slice_axis": "sagittal"}}
    untrained.write_run(tmp_path / "run", inference=inference, data=data)
    export_bundle(tmp_path / "run", tmp_path / "other_segmentation", onnx=False)
    arguments = ["--input", str(images / "flipped.nii.gz"), "--output", str(tmp_path / "wanted"), "--uncertainty"]
    assert main(["predict", "--model", str(tmp_path / "run"), *arguments, "--device", "cpu"]) == 0
    _run_bundle(tmp_path / "other_segmentation", images / "flipped.nii.gz", tmp_path / "found")
    for name in ("flipped_seg.nii.gz", "flipped_uncertainty.nii.gz"):
        np.testing.assert_allclose(_voxels(tmp_path / "found" / name), _voxels(tmp_path / "wanted" / name), atol=2e-6)
    assert len(np.unique(_voxels(tmp_path / "found" / "flipped_seg.nii.gz"))) > 1


@pytest.mark.slow
def test_views_and_smoothing_by_default_are_those_of_the_bundle(
    untrained: ModuleType, images: Path, tmp_path: Path
) -> None:
    found = {}
    views = {"tta": {"scales": [0.5, 1.0], "flips": True, "by_default": True}, "slice_smoothing": 0.8}
    for name, settings in (("smoothed", views), ("plain", {"tta": views["tta"]}), ("single", {"slice_smoothing": 0.8})):
        untrained.write_run(tmp_path / name, inference={**settings, "temperature": 2.5})
        arguments = ["--model", str(tmp_path / name), "--input", str(images), "--device", "cpu", "--uncertainty"]
        assert main(["predict", *arguments, "--output", str(tmp_path / f"{name}_masks")]) == 0
    export_bundle(tmp_path / "smoothed", tmp_path / "smoothed_segmentation", onnx=False)
    _run_bundle(tmp_path / "smoothed_segmentation", images, tmp_path / "found")
    for at in ("found", "smoothed_masks", "plain_masks", "single_masks"):
        found[at] = {path.name: _voxels(path) for path in (tmp_path / at).glob("*.nii.gz")}
    assert len(found["found"]) > 4
    assert found["found"].keys() == found["smoothed_masks"].keys()
    for name, voxels in found["found"].items():
        np.testing.assert_allclose(voxels, found["smoothed_masks"][name], atol=2e-6 if "uncertainty" in name else 0)
    for other in ("plain_masks", "single_masks"):
        differing = [name for name, voxels in found["found"].items() if (voxels != found[other][name]).any()]
        assert len(differing) > 2
    card = (tmp_path / "smoothed_segmentation" / "docs" / "README.md").read_text(encoding="utf-8")
    assert "along the stack" in card
    assert "sizes of 0.5, 1, plain and mirrored" in card


@pytest.mark.slow
def test_the_walk_of_the_run_is_that_of_the_bundle(untrained: ModuleType, images: Path, tmp_path: Path) -> None:
    # The random network gives all classes together 0.69 to 0.80: these thresholds make some pixels sure, either way.
    walker = {"foreground": 0.755, "background": 0.745, "beta": 500, "share": 0.9, "background_odds": 1.5}
    doubts = {}
    for name, inference in (("walked", {"walker": walker, "temperature": 2.5}), ("plain", {"temperature": 2.5})):
        untrained.write_run(tmp_path / name, inference=inference)
        arguments = ["--model", str(tmp_path / name), "--input", str(images / "single.nii.gz"), "--device", "cpu"]
        assert main(["predict", *arguments, "--output", str(tmp_path / f"{name}_masks"), "--uncertainty"]) == 0
        doubts[name] = _voxels(tmp_path / f"{name}_masks" / "single_uncertainty.nii.gz")
    assert np.abs(doubts["walked"] - doubts["plain"]).max() > 0.01
    export_bundle(tmp_path / "walked", tmp_path / "walked_segmentation", onnx=False)
    _run_bundle(tmp_path / "walked_segmentation", images / "single.nii.gz", tmp_path / "found")
    found = _voxels(tmp_path / "found" / "single_uncertainty.nii.gz")
    np.testing.assert_allclose(found, doubts["walked"], atol=2e-6)
    card = (tmp_path / "walked_segmentation" / "docs" / "README.md").read_text(encoding="utf-8")
    assert "unsure pixels" in card and "(weight 0.9); the odds of the background times 1.5" in card


def test_evaluate_config_gives_the_dice_of_the_masks(
    bundle: Path, images: Path, predicted: Path, tmp_path: Path
) -> None:
    configs = [str(bundle / "configs" / name) for name in ("inference.json", "evaluate.json")]
    folders = {"bundle_root": str(bundle), "dataset_dir": str(images), "output_dir": str(tmp_path)}
    with without_package():
        monai.bundle.run(config_file=configs, **folders, device="cpu")
    (row,) = csv.DictReader((tmp_path / "val_mean_dice_raw.csv").open())
    assert row["filename"].endswith("plain.nii.gz")
    truth, mask = _voxels(images / "plain_gt.nii.gz"), _voxels(predicted / "plain_seg.nii.gz")
    wanted = [dice(mask == value, truth == value) for value in (1, 2, 3)]
    found = [float(value) for name, value in row.items() if name.startswith("class")]
    assert found == pytest.approx(wanted, abs=1e-4)


def test_works_the_way_monai_label_loads_it(bundle: Path, images: Path, predicted: Path) -> None:
    """The steps of `monailabel.tasks.infer.bundle.BundleInferTask` 0.8.5, which is too large to install for a test."""
    with without_package():
        sys.path.insert(0, str(bundle))
        config = ConfigParser()
        config.read_config(str(bundle / "configs" / "inference.json"))
        config.config.update({"bundle_root": str(bundle), "device": "cpu"})
        parts = ("network_def", "preprocessing", "inferer", "postprocessing")
        network, before, inferer, after = (config.get_parsed_content(name, instantiate=True) for name in parts)
        network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True), strict=True)
        data = {"image": str(images / "plain.nii.gz")}
        for transform in before.transforms:
            data = transform(data)
        with torch.no_grad():
            data["pred"] = inferer(data["image"][None], network.eval())[0]
        kept = [transform for transform in after.transforms if not isinstance(transform, SaveImaged)]
        assert 0 < len(kept) < len(after.transforms)
        data = Compose(kept)(data)
    assert tuple(data["pred"].shape[1:]) == tuple(data["image"].meta["spatial_shape"])
    np.testing.assert_array_equal(data["pred"][0].numpy(), _voxels(predicted / "plain_seg.nii.gz"))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    (_, image), (_, pred) = (
        next(iter(metadata["network_data_format"][side].items())) for side in ("inputs", "outputs")
    )
    assert image["spatial_shape"] == [48, 48]
    assert pred["channel_def"] == {"0": "background", "1": "RV", "2": "MYO", "3": "LV"}


def _told(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """The messages of an error and of its causes, which MONAI puts in front."""
    told, error = "", caught.value
    while error is not None:
        told, error = f"{told}\n{error}", error.__cause__
    return told


def test_an_empty_or_missing_folder_is_an_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, wanted in ((tmp_path / "empty", "holds no volume"), (tmp_path / "absent", "no such file or folder")):
        with pytest.raises(RuntimeError) as caught:
            _run_bundle(bundle, folder, tmp_path / "out")
        assert f"{folder}: {wanted}" in _told(caught)


def test_a_bad_image_is_named(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    array = np.ones((40, 40, 2), np.float32)
    array.flat[3] = np.nan
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "bad.nii.gz")
    with pytest.raises(SystemExit) as ended:
        _run_bundle(bundle, tmp_path / "bad.nii.gz", tmp_path / "out")
    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert f"{tmp_path / 'bad.nii.gz'}: voxels that are NaN or infinite" in said
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_torchscript_equals_the_method_for_any_number_of_slices(bundle: Path, run: Path) -> None:
    files = {"metadata.json": "", "inference.json": ""}
    script = torch.jit.load(bundle / "models" / "model.ts", _extra_files=files)
    method, network = Run.open(run).predictor().method.eval(), load_network(bundle)
    for count in (1, 2, 7):
        images = torch.rand(count, 1, 48, 48)
        with torch.no_grad():
            wanted = method.predict(images).probabilities
            torch.testing.assert_close(script(images), wanted, atol=1e-6, rtol=0)
            torch.testing.assert_close(network(images), wanted, atol=1e-6, rtol=0)
    assert json.loads(files["metadata.json"])["network_data_format"]["outputs"]["pred"]["num_channels"] == 4


def test_no_trace_of_the_package_or_of_the_computer(bundle: Path) -> None:
    for path in bundle.rglob("*"):
        assert "__pycache__" not in path.name
        if path.suffix in (".py", ".json", ".yaml", ".md"):
            text = path.read_text()
            assert "import unia_med" not in text, path
            assert "from unia_med" not in text, path
            assert "/home/someone" not in text, path
            assert "{{" not in text, path
    assert "root: hearts" in (bundle / "docs" / "training_config.yaml").read_text()


def test_readme_and_metadata_tell_labels_training_and_scores(bundle: Path) -> None:
    readme = (bundle / "docs" / "README.md").read_text()
    for text in (
        "| 1 | RV |",
        "| 2 | MYO |",
        "| 3 | LV |",
        "1 LV, 2 MYO, 3 RV",
        "slice tags (derived from masks)",
        "| 0.710 | 0.620 | 0.830 | 0.720 |",
        "after iteration 4",
        "3D Slicer",
        "Not a medical device",
    ):
        assert text in readme, text
    assert "Apache License" in (bundle / "LICENSE").read_text()
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"]["val_dice"] == 0.72
    assert set(metadata["required_packages_version"]) == {"nibabel", "pytorch-ignite", "fire", "scipy"}


def test_a_folder_that_is_not_empty_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        export_bundle(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    assert main(["export", "--model", str(tmp_path / "run"), "--output", str(tmp_path / "bundle")]) == 2
    assert "checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_failed_export_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("unia_med.bundle.export.trace_prediction", fail)
    with pytest.raises(UserError, match="disk full"):
        export_bundle(run, tmp_path / "deep" / "bundle", onnx=False)
    assert list((tmp_path / "deep").iterdir()) == []


def test_random_draws_and_channel_files_are_refused(untrained: ModuleType, tmp_path: Path) -> None:
    untrained.write_run(tmp_path / "run", inference={"samples": 5})
    with pytest.raises(UserError, match="random draws"):
        export_bundle(tmp_path / "run", tmp_path / "bundle", onnx=False)


@pytest.mark.slow
@pytest.mark.timeout(900)  # four starts of MONAI
def test_in_an_environment_without_the_package(bundle: Path, images: Path, predicted: Path, tmp_path: Path) -> None:
    """MONAI's own commands, from another folder, in an environment that borrows all packages but this one."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    (site / "unia_med.py").write_text("raise ModuleNotFoundError('not installed here')")

    def call(*arguments: str, **environment: str) -> str:
        command = [str(python), *arguments]
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        settings = inherited | environment
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call("-c", "try:\n import unia_med\nexcept ModuleNotFoundError:\n pass\nelse:\n raise RuntimeError('installed')")
    config, metadata = str(bundle / "configs" / "inference.json"), str(bundle / "configs" / "metadata.json")
    folders = ("--bundle_root", str(bundle), "--dataset_dir", str(images), "--output_dir", str(tmp_path / "found"))
    uncertainty = ("--save_uncertainty", "True")
    call("-m", "monai.bundle", "run", "--config_file", config, *folders, *uncertainty, "--device", "cpu")
    _assert_same_results(tmp_path / "found", predicted)
    told = call("-m", "monai.bundle", "verify_metadata", "--meta_file", metadata, "--filepath", str(SCHEMA))
    assert "metadata is verified with no error" in told
    verify = ("verify_net_in_out", "--net_id", "network_def", "--meta_file", metadata, "--config_file", config)
    told = call("-m", "monai.bundle", *verify, "--device", "cpu", PYTHONPATH=str(bundle))
    assert "verified" in told


def test_one_bad_file_costs_no_other_its_mask_and_a_flat_file_works(
    bundle: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"no image")
    whole = nib.load(images / "single.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(whole.dataobj)[:, :, 0], whole.affine), tmp_path / "in" / "flat.nii.gz")
    shutil.copy(images / "single.nii.gz", tmp_path / "in")
    with pytest.raises(SystemExit) as ended:
        _run_bundle(bundle, tmp_path / "in", tmp_path / "out", save_uncertainty=False)
    assert ended.value.code == 1
    assert "1 of 3 images failed" in capfd.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["flat_seg.nii.gz", "single_seg.nii.gz"]
    flat, single = (_voxels(tmp_path / "out" / f"{name}_seg.nii.gz") for name in ("flat", "single"))
    np.testing.assert_array_equal(flat, single[:, :, 0])


def test_monai_alone_trains_the_bundle_further(bundle: Path, images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "plain.nii.gz", tmp_path)
    shutil.copy(images / "plain_gt.nii.gz", tmp_path)
    with without_package():
        monai.bundle.run(
            config_file=str(bundle / "configs" / "train.json"),
            bundle_root=str(bundle),
            dataset_dir=str(tmp_path),
            ckpt_dir=str(tmp_path / "weights"),
            device="cpu",
            max_epochs=2,
        )
    before = torch.load(bundle / "models" / "model.pt", weights_only=True)
    after = torch.load(tmp_path / "weights" / "model_finetuned.pt", weights_only=True)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_an_item_may_hold_the_path_of_its_image() -> None:
    from monai.data import MetaTensor

    from unia_med.bundle.clients import SharedItemSpacingd

    image = MetaTensor(torch.rand(1, 8, 6, 2), affine=torch.diag(torch.tensor([2.0, 2.0, 9.0, 1.0])))
    image.meta["filename_or_obj"] = "scan.nii.gz"
    found = SharedItemSpacingd("image", pixdim=(1.0, 1.0, -1.0))({"image": image, "image_path": "scan.nii.gz"})
    assert found["image_path"] == "scan.nii.gz"
    assert tuple(found["image"].shape) == (1, 15, 11, 2)
