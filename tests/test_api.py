"""The Python interface: every kind of image gives the voxels of `unia-med predict`, and gets its own kind back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

import unia_med
from unia_med.build import build_method
from unia_med.cli.main import main
from unia_med.config.load import dump_config, load_config, plain
from unia_med.config.schema import RunConfig
from unia_med.engine.checkpoint import save_checkpoint

SPACING = (1.5, 1.5, 8.0)


def oblique() -> np.ndarray:
    """An affine whose axes are turned about x and z."""
    a, b = 0.3, -0.7
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z * SPACING
    affine[:3, 3] = (30, -12, 5)
    return affine


def write_run(folder: Path, **data: Any) -> Path:
    """A run of a small untrained network whose classes all appear."""
    torch.manual_seed(3)
    config = RunConfig.model_validate(
        {
            "data": {"grid": {"spacing_mm": 2.0, "size": [32, 32]}, **data},
            "network": {"backbone": "lite0", "weights": "none", "decoder_widths": [8, 8, 4, 4]},
            "method": {"name": "partial"},
        }
    )
    method = build_method(config)
    with torch.no_grad():  # logits of an untrained network are nearly even: make them differ by place
        for value in method.parameters():
            value.mul_(1.5)
    state = {"model": method.state_dict(), "ema": method.state_dict(), "config": plain(config), "step": 1}
    save_checkpoint({**state, "classes": config.data.target_classes}, folder / "checkpoints" / "best.pt")
    dump_config(config, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def model(run: Path) -> Any:
    return unia_med.load(run, device="cpu")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    coarse = np.random.default_rng(0).integers(0, 800, (8, 7, 4))
    array = np.kron(coarse, np.ones((5, 5, 1))).astype(np.int16)
    return save_nifti(folder / "scan.nii.gz", array, oblique())


@pytest.fixture(scope="module")
def written(run: Path, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Mask and uncertainty that the command writes."""
    out = tmp_path_factory.mktemp("out")
    assert predict(run, scan, out, "--uncertainty") == 0
    files = (out / "scan_seg.nii.gz", out / "scan_uncertainty.nii.gz")
    mask, doubt = (np.asarray(nib.load(file).dataobj) for file in files)
    assert len(np.unique(mask)) > 1  # the comparisons are of something
    return mask, doubt


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def predict(run: Path, source: Path, output: Path, *more: str) -> int:
    call = ["predict", "--model", str(run), "--input", str(source), "--output", str(output), "--device", "cpu"]
    return main([*call, *more])


def equal(found: Any, wanted: np.ndarray) -> None:
    found = np.asarray(found)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_importing_costs_nothing() -> None:
    code = "import time; start = time.process_time(); import unia_med, sys; print(time.process_time() - start, "
    code += "'torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, torch_in, numpy_in = done.stdout.split()
    assert float(seconds) < 0.1 and (torch_in, numpy_in) == ("False", "False")
    assert set(unia_med.__all__) <= set(dir(unia_med)) and callable(unia_med.predict)
    # A room of the same name would take the verb's place once it is imported.
    rooms = {path.name.removesuffix(".py") for path in Path(unia_med.__file__).parent.iterdir()}
    assert not rooms & set(unia_med.__all__)
    with pytest.raises(AttributeError, match="wieghts"):
        unia_med.wieghts  # noqa: B018


def test_a_tilde_is_the_home_folder_in_every_call(
    run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(run, tmp_path / "home" / "run")
    shutil.copytree(scan.parent, tmp_path / "home" / "scans")
    (tmp_path / "home" / "c.yaml").write_text("data: {root: ~/scans}")
    model = unia_med.load("~/run", device="cpu")
    model("~/scans/scan.nii.gz").save("~/one")
    assert [case.error for case in unia_med.predict("~/run", "~/scans", "~/two", device="cpu")] == [None]
    assert [case.error for case in unia_med.predict(model, ["~/scans/scan.nii.gz"], "~/three")] == [None]
    for folder in ("one", "two", "three"):
        assert (tmp_path / "home" / folder / "scan_seg.nii.gz").is_file()
    assert unia_med.read_volume("~/one/scan_seg.nii.gz").shape == model("~/scans/scan.nii.gz").mask.shape
    unia_med.evaluate("~/one", "~/two", config="~/run/config.yaml").write("~/scores.json")
    assert (tmp_path / "home" / "scores.json").is_file() and unia_med.Run.open("~/run").folder.is_absolute()
    for call in (
        lambda: unia_med.train("~/c.yaml", "~/new"),
        lambda: unia_med.inspect("~/c.yaml"),
        lambda: unia_med.export("~/run", "~/scans"),
        lambda: unia_med.choose_next("~/run", "~/scans", "~/one"),
    ):
        with pytest.raises(unia_med.UserError, match=str(tmp_path / "home")):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_path_gives_what_the_command_writes(
    model: Any, scan: Path, written: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    result = model(str(scan))
    equal(result.mask.array, written[0])
    equal(result.uncertainty.array, written[1])
    np.testing.assert_array_equal(result.mask.affine, nib.load(scan).affine)
    assert result.classes == ("RV", "MYO", "LV")
    files = result.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan_seg.nii.gz", "scan_uncertainty.nii.gz"]
    equal(nib.load(files["labels"]).dataobj, written[0])
    assert nib.load(files["labels"]).header.get_xyzt_units() == ("mm", "sec")


def test_nibabel_in_nibabel_out(model: Any, scan: Path, written: tuple[np.ndarray, np.ndarray]) -> None:
    image = nib.load(scan)
    result = model(image)
    assert type(result.mask) is nib.Nifti1Image and result.mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(result.mask.affine, image.affine)
    equal(result.mask.dataobj, written[0])
    equal(result.uncertainty.dataobj, written[1])


def test_simple_itk_in_simple_itk_out(
    model: Any, scan: Path, written: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    image = sitk.ReadImage(str(scan))
    result = model(image)
    for found in (result.mask, result.uncertainty):
        assert isinstance(found, sitk.Image) and found.GetSize() == image.GetSize()
        assert found.GetSpacing() == image.GetSpacing() and found.GetOrigin() == image.GetOrigin()
        assert found.GetDirection() == image.GetDirection()
    mask = sitk.GetArrayFromImage(result.mask).transpose()
    # ITK keeps direction and spacing apart: its affine differs from that of the NIfTI file by rounding, and this
    # network's probabilities are nearly even. A file with ITK's own geometry gives exactly the same.
    assert (mask == written[0]).mean() > 0.998
    np.testing.assert_allclose(sitk.GetArrayFromImage(result.uncertainty).transpose(), written[1], atol=0.01)
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    equal(mask, model(tmp_path / "scan.nrrd").mask.array)


def test_arrays_of_two_to_four_dimensions(model: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 500, (30, 26, 3)).astype(np.int16)
    wanted = model(save_nifti(tmp_path / "a.nii.gz", array, np.diag([*SPACING, 1.0]))).mask.array
    found = model(array, spacing_mm=SPACING)
    assert type(found.mask) is np.ndarray
    equal(found.mask, wanted)
    equal(model(np.asfortranarray(array.astype(">i2")), spacing_mm=list(SPACING)).mask, wanted)
    cine = model(np.stack([array, array[::-1]], -1), spacing_mm=SPACING)
    assert cine.mask.shape == (30, 26, 3, 2)
    equal(cine.mask[..., 0], wanted)
    equal(cine.mask[..., 1], model(array[::-1], spacing_mm=SPACING).mask)
    flat = model(array[:, :, 1], spacing_mm=SPACING[:2])
    assert flat.mask.shape == (30, 26)
    equal(flat.mask, model(array[:, :, 1:2], spacing_mm=SPACING).mask[:, :, 0])


def test_images_of_two_and_four_dimensions(model: Any) -> None:
    array = np.random.default_rng(2).integers(0, 500, (24, 20, 2, 3)).astype(np.float32)
    cine = sitk.GetImageFromArray(array.transpose(), isVector=False)
    cine.SetSpacing((*SPACING, 0.04))
    cine.SetOrigin((1.0, 2.0, 3.0, 0.5))
    result = model(cine).mask
    assert (result.GetSize(), result.GetSpacing(), result.GetOrigin()) == (
        cine.GetSize(),
        cine.GetSpacing(),
        cine.GetOrigin(),
    )
    equal(sitk.GetArrayFromImage(result).transpose(), model(array, spacing_mm=SPACING).mask)
    flat = sitk.GetImageFromArray(array[:, :, 0, 0].transpose())
    flat.SetSpacing(SPACING[:2])
    assert model(flat).mask.GetSize() == (24, 20) and model(flat).mask.GetSpacing() == SPACING[:2]
    whole = nib.Nifti1Image(array, np.diag([*SPACING, 1.0]))
    assert model(whole).mask.shape == whole.shape
    slice_image = nib.Nifti1Image(array[:, :, 0, 0], np.diag([*SPACING, 1.0]))
    assert model(slice_image).mask.shape == (24, 20)


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        (np.zeros((8, 8, 2)), {}, r"spacing_mm: .*model\(array, spacing_mm=\(1.5, 1.5, 8.0\)\)"),
        (np.zeros((8, 8, 2)), {"spacing_mm": (1, -1, 1)}, "spacing_mm"),
        (np.zeros((8, 8, 2)), {"spacing_mm": 2.0}, "three distances"),
        (np.zeros((8, 8, 2)), {"spacing_mm": (1.0, float("nan"), 1.0)}, "above 0"),
        (np.zeros((8, 8, 2), complex), {"spacing_mm": SPACING}, "complex128.*numpy.abs"),
        (np.zeros((0, 8, 2)), {"spacing_mm": SPACING}, "none of them empty"),
        (np.full((8, 8, 2), np.inf), {"spacing_mm": SPACING}, "128 of 128 voxels are NaN or infinite.*nan_to_num"),
        (np.zeros(8), {"spacing_mm": SPACING}, "1 dimensions"),
        (np.zeros((2, 2, 2, 2, 2)), {"spacing_mm": SPACING}, "5 dimensions"),
        (np.array([["a"]]), {"spacing_mm": SPACING}, "<U1"),
        ([1, 2], {}, r"type list.*predict\(model"),
        (None, {}, r"NoneType.*nibabel_image"),
        ("nowhere.nii.gz", {}, "no such file"),
        (sitk.Image([8, 8, 2], sitk.sitkVectorFloat32, 2), {}, "2 channels"),
        (sitk.Image([8, 8, 2], sitk.sitkComplexFloat32), {}, "complex.*ComplexToModulus"),
        (nib.Nifti1Image(np.zeros((8, 8, 2), np.complex64), np.eye(4)), {}, "complex"),
        (nib.Nifti1Image(np.zeros((8, 8, 2), np.float32), np.eye(4)), {"spacing_mm": SPACING}, "Leave it out"),
    ],
)
def test_what_is_wrong_is_said_with_the_right_call(model: Any, image: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(unia_med.UserError, match=f"(?s){said}"):
        model(image, **options)


def test_a_folder_without_dicom_names_the_other_verb(model: Any, scan: Path) -> None:
    with pytest.raises(unia_med.UserError, match=r"unia_med.predict\(model"):
        model(scan.parent)


def test_many_images_one_after_another(model: Any, scan: Path, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "deep/b.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(scan.read_bytes())
    (tmp_path / "bad.nii.gz").write_bytes(b"not a volume")
    cases = unia_med.predict(model, tmp_path)
    assert len(cases) == 3
    first, bad, last = cases
    assert (first.name, bad.name, last.name) == ("a", "bad", "b") and first.error is last.error is None
    assert isinstance(bad.error, unia_med.UserError) and "bad.nii.gz" in str(bad.error)
    equal(first.mask.array, model(scan).mask.array)
    with pytest.raises(unia_med.UserError, match="bad.nii.gz"):
        bad.mask  # noqa: B018


def test_an_iterator_of_images_is_read_as_it_goes(model: Any, scan: Path) -> None:
    asked: list[int] = []

    def images() -> Any:
        for image in (scan, nib.load(scan), np.zeros((8, 8, 2)), "nowhere.nii.gz"):
            asked.append(1)
            yield image

    cases = unia_med.predict(model, images(), spacing_mm=SPACING)
    assert asked == [] and next(cases).name == "scan" and len(asked) == 1
    rest = list(cases)
    assert [case.name for case in rest] == ["image002", "image003", "nowhere"]
    assert [case.error is None for case in rest] == [True, True, False]
    with pytest.raises(unia_med.UserError, match=r"model\(image\)"):
        unia_med.predict(model, np.zeros((8, 8, 2)))


def test_written_results_are_noticed(run: Path, model: Any, scan: Path, tmp_path: Path) -> None:
    (case,) = unia_med.predict(run, scan, tmp_path / "out", uncertainty=True, device="cpu")
    assert case.result is None and set(case.files) == {"labels", "uncertainty"}
    equal(case.mask.array, model(scan).mask.array)
    equal(case.uncertainty.array, model(scan).uncertainty.array)
    (again,) = unia_med.predict(run, scan, tmp_path / "out", skip_existing=True, device="cpu")
    assert again.skipped
    with pytest.raises(unia_med.UserError, match="output"):
        unia_med.predict(run, scan, skip_existing=True)
    with pytest.raises(unia_med.UserError, match="Did you mean 'entropy'"):
        unia_med.predict(model, scan, uncertainty="entropie")


def test_pictures_next_to_volumes(tmp_path: Path) -> None:
    grid = {"units": "pixels", "spacing_mm": None, "size": [32, 32], "resize": "stretch"}
    run = write_run(tmp_path / "run", name="volumes", classes=["RIB", "LUNG"], grid=grid)
    rng = np.random.default_rng(5)
    grey = np.kron(rng.integers(0, 60000, (6, 5)), np.ones((7, 8))).astype(np.uint16)
    folder = tmp_path / "data" / "deep"
    folder.mkdir(parents=True)
    Image.fromarray(grey).save(folder / "deep16.png")
    Image.fromarray((grey >> 8).astype(np.uint8)).save(folder / "byte.tif")
    Image.fromarray(np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, 2)).save(folder / "colour.png")
    save_nifti(tmp_path / "data" / "scan.nii.gz", grey[:, :, None].astype(np.int32), np.eye(4))
    save_nifti(tmp_path / "data" / "old_seg.nii.gz", grey[:, :, None].astype(np.int32), np.eye(4))
    assert predict(run, tmp_path / "data", tmp_path / "out", "--uncertainty") == 0
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix not in (".json", ".csv")}
    masks = {"deep16_seg.png", "byte_seg.png", "colour_seg.png", "scan_seg.nii.gz"}
    assert names == masks | {name.replace("_seg", "_uncertainty") for name in masks}
    model = unia_med.load(run, device="cpu")
    found = np.asarray(Image.open(tmp_path / "out" / "deep16_seg.png"))
    assert found.shape == grey.shape and len(np.unique(found)) > 1
    equal(found, np.asarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj)[:, :, 0])
    equal(model(grey).mask, found)  # pixels need no spacing
    equal(model(folder / "deep16.png").mask.array[:, :, 0], found)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert predict(run, tmp_path / "data", tmp_path / "out", "--uncertainty", "--skip-existing") == 0
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_a_run_in_millimetres_reads_no_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "x.png")
    assert predict(run, tmp_path / "x.png", tmp_path / "out") == 2
    assert "millimetres" in capsys.readouterr().err


def test_the_crf_refines_volumes_slice_by_slice(run: Path, tmp_path: Path, scan: Path) -> None:
    from unia_med.localise.dense_crf import CrfSettings, dense_crf

    config = load_config(run / "config.yaml", ["inference.crf.iterations=3"])
    refined = tmp_path / "refined"
    (refined / "checkpoints").mkdir(parents=True)
    (refined / "checkpoints" / "best.pt").write_bytes((run / "checkpoints" / "best.pt").read_bytes())
    dump_config(config, refined / "config.yaml")
    volume = unia_med.read_volume(scan)
    before = unia_med.Run.open(run).predictor().predict_in_detail(volume)
    low, high = np.percentile(volume.array.astype(np.float32), (1, 99))
    image = torch.from_numpy(((volume.array - low) / (high - low)).clip(0, 1).astype(np.float32))
    probabilities = torch.from_numpy(before.probabilities)
    settings = CrfSettings(**config.inference.crf.model_dump())
    wanted = [dense_crf(image[None, :, :, z], probabilities[..., z], settings).argmax(0) for z in range(4)]
    found = unia_med.load(refined, device="cpu")(scan)
    share = (found.mask.array == torch.stack(wanted, -1).numpy()).mean()
    assert share > 0.999 and (found.mask.array != before.labels).any()
    np.testing.assert_allclose(found.uncertainty.array, before.entropy, atol=1e-6)


def test_a_run_by_itself(run: Path, tmp_path: Path) -> None:
    opened = unia_med.Run.open(run)
    assert opened.classes == ("RV", "MYO", "LV") and "partial" in repr(opened) and opened.name == "run"
    assert opened.checkpoint == run / "checkpoints" / "best.pt" and unia_med.Run.open(opened) is opened
    (tmp_path / "metrics.csv").write_text("step,val_dice,val_dice_RV\n5,0.5,\n10,0.75,0.25\n")
    rows = unia_med.Run.open(tmp_path).metrics
    assert rows == [{"step": 5.0, "val_dice": 0.5}, {"step": 10.0, "val_dice": 0.75, "val_dice_RV": 0.25}]
    with pytest.raises(unia_med.UserError, match="holds no checkpoints"):
        unia_med.load(tmp_path)
    with pytest.raises(unia_med.UserError, match="no such run folder"):
        unia_med.load(tmp_path / "nowhere")


def test_shipped_models_by_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unia_med import runs

    folder = tmp_path / "models" / "two_words"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    (folder / "weights.pt").write_bytes((run / "checkpoints" / "best.pt").read_bytes())
    monkeypatch.setattr(runs, "_MODELS", tmp_path / "models")
    model = unia_med.load("two-words", device="cpu")
    assert "shipped model two-words" in repr(model) and model.classes == ("RV", "MYO", "LV")
    with pytest.raises(unia_med.UserError, match="Did you mean 'two-words'"):
        unia_med.load("two-wrods")


def test_training_scoring_and_inspecting(tmp_path: Path, tiny_acdc: Path) -> None:
    changes: dict[str, Any] = {"data.root": tiny_acdc, "data.grid.size": [32, 32], "data.grid.spacing_mm": 2}
    changes |= {"training.iterations": 2, "training.validate_every": 2, "training.learning_rate": 1e-05}
    changes |= {"method": {"name": "partial"}, "network": {"backbone": "lite0", "weights": "none"}}
    changes["data.split"] = {"kind": "lists", "train": ["patient001", "patient002"], "val": ["patient013"]}
    changes |= {"data.labels": [{"kind": "masks", "source": "masks"}], "prior": {}}
    run = unia_med.train("phantom_tiny.yaml", tmp_path / "run", set=changes, device="cpu")
    assert run.config.training.learning_rate == 1e-05 and run.config.data.root == tiny_acdc
    assert [row["step"] for row in run.metrics] == [2]
    cases = list(unia_med.predict(run, tiny_acdc, tmp_path / "masks", split="val", device="cpu"))
    assert [case.name for case in cases] == ["patient013_frame01", "patient013_frame07"]
    scores = unia_med.evaluate(tmp_path / "masks", tiny_acdc, config=run.config, split="val")
    assert [case.case for case in scores.cases] == ["patient013_frame01", "patient013_frame07"]
    found = unia_med.inspect(run.config)
    assert found.cases == 6 and not found.faults and "6 cases" in repr(found)
    with pytest.raises(unia_med.UserError, match="a run is here already"):
        unia_med.train(run.config, tmp_path / "run")
    with pytest.raises(unia_med.UserError, match="data.rooot"):
        unia_med.train("phantom_tiny.yaml", tmp_path / "other", set={"data.rooot": "x"})
    with pytest.raises(unia_med.UserError, match=r"set=\{"):
        unia_med.inspect("phantom_tiny.yaml", set="data.root=x")
    with pytest.raises(unia_med.UserError, match="type int"):
        unia_med.inspect(3)  # type: ignore[arg-type]  # what a user may do


@pytest.mark.slow
def test_a_bundle_runs_its_own_code(run: Path, scan: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b_segmentation"
    unia_med.export(run, bundle, onnx=False)
    model = unia_med.load(bundle, device="cpu")
    assert "bundle" in repr(model) and "2 mm" in repr(model) and model.classes == ("RV", "MYO", "LV")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(bundle / "configs/inference.json")]
    command += ["--bundle_root", str(bundle), "--dataset_dir", str(scan.parent), "--output_dir", str(tmp_path / "out")]
    command += ["--save_uncertainty", "True"]
    done = subprocess.run([*command, "--device", "$torch.device('cpu')"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = model(nib.load(scan))
    equal(result.mask.dataobj, np.asarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj))
    equal(result.uncertainty.dataobj, np.asarray(nib.load(tmp_path / "out" / "scan_uncertainty.nii.gz").dataobj))
    assert not type(model.predictor._network).__module__.startswith("unia_med")
    for asked in (True, False):
        with pytest.raises(unia_med.UserError, match=f"tta={asked}"):
            unia_med.load(bundle, tta=asked)
    with pytest.raises(unia_med.UserError, match="bundle already"):
        unia_med.export(model, tmp_path / "again")
    assert predict(bundle, scan, tmp_path / "cli") == 0
    equal(nib.load(tmp_path / "cli" / "scan_seg.nii.gz").dataobj, np.asarray(result.mask.dataobj))
    (bundle / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(unia_med.UserError, match="metadata.json"):
        unia_med.load(bundle)
