"""`unia-med predict` on small volumes, with a network that returns its own input and with a real one."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from unia_med import build
from unia_med.cli.main import main
from unia_med.config.load import dump_config, plain
from unia_med.config.schema import RunConfig
from unia_med.engine.checkpoint import save_checkpoint
from unia_med.methods.base import Batch, Method, Prediction

OBLIQUE = np.array([[1.2, 0.3, -1.0, 30], [-0.4, 1.1, 2.0, -12], [0.3, 0.5, 7.5, 5], [0, 0, 0, 1]])


class Echo(Method):
    """Classes 0..3 by intensity, times a weight that only training could have set to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.gain.sum()}

    def predict(self, images: Tensor) -> Prediction:
        classes = (images[:, 0] * 3 * self.gain).round().long().clamp(0, 3)
        probabilities = torch.nn.functional.one_hot(classes, 4).permute(0, 3, 1, 2).float()
        return Prediction(probabilities, torch.zeros_like(images[:, 0]))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose network is `Echo`, its averaged weights holding the right gain and the others not."""
    monkeypatch.setattr(build, "build_method", lambda config: Echo())
    config = RunConfig.model_validate(
        {
            "data": {"grid": {"spacing_mm": None, "size": [32, 32], "percentiles": [0, 100]}},
            "inference": {"batch_slices": 4, "postprocess": {"largest_component": True}},
        }
    )
    state = {
        "model": {"gain": torch.zeros(1)},
        "ema": {"gain": torch.ones(1)},
        "config": plain(config),
        "classes": ["RV", "MYO", "LV"],
        "step": 7,
    }
    folder = tmp_path / "run"
    save_checkpoint(state, folder / "checkpoints" / "best.pt")
    dump_config(config, folder / "config.yaml")
    return folder


def classes(shape: tuple[int, ...]) -> np.ndarray:
    """0..3 in blocks; all four in every frame."""
    labels = np.zeros(shape, np.uint8)
    for value in (1, 2, 3):
        labels[2 + 4 * value : 6 + 4 * value, 3:9] = value
    return labels


def save_image(path: Path, shape: tuple[int, ...] = (21, 14, 3)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = classes(shape)
    image = nib.Nifti1Image(50 + 100 * labels.astype(np.int16), OBLIQUE)
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header["pixdim"][4] = 0.04
    nib.save(image, path)
    return labels


def predict(run: Path, source: Path, output: Path, *more: str) -> int:
    return main(
        ["predict", "--model", str(run), "--input", str(source), "--output", str(output), "--device", "cpu", *more]
    )


@pytest.mark.parametrize("shape", [(21, 14, 3), (19, 32, 1), (20, 11, 2, 3)])
def test_same_grid_same_header_known_labels(run: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = save_image(tmp_path / "scan.nii.gz", shape)
    assert predict(run, tmp_path / "scan.nii.gz", tmp_path / "out", "--uncertainty") == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == ["scan_seg.nii.gz", "scan_uncertainty.nii.gz"]
    source = nib.load(tmp_path / "scan.nii.gz")
    for name, kind in (("seg", np.uint8), ("uncertainty", np.float32)):
        result = nib.load(tmp_path / "out" / f"scan_{name}.nii.gz")
        assert result.get_data_dtype() == kind and result.shape == shape
        np.testing.assert_array_equal(result.affine, source.affine)
        assert result.header.get_xyzt_units() == source.header.get_xyzt_units()
        assert result.header.get_zooms() == source.header.get_zooms()
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj), labels)


def test_a_folder_like_acdc(run: Path, tmp_path: Path) -> None:
    patient = tmp_path / "data" / "training" / "patient001"
    for name in ("frame01", "frame12", "frame01_gt", "frame01_scribble", "4d"):
        save_image(patient / f"patient001_{name}.nii.gz")
    save_image(tmp_path / "data" / "other" / "cine_4d.nii.gz", (20, 11, 2, 2))
    save_image(tmp_path / "data" / "old_seg.nii.gz")
    save_image(tmp_path / "data" / ".hidden.nii.gz")
    assert predict(run, tmp_path / "data", tmp_path / "out") == 0
    names = sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz"))
    assert names == ["cine_4d_seg.nii.gz", "patient001_frame01_seg.nii.gz", "patient001_frame12_seg.nii.gz"]


def test_a_named_4d_file_is_predicted(run: Path, tmp_path: Path) -> None:
    save_image(tmp_path / "p_frame01.nii.gz")
    save_image(tmp_path / "p_4d.nii.gz", (20, 11, 2, 2))
    assert predict(run, tmp_path / "p_4d.nii.gz", tmp_path / "out") == 0
    assert nib.load(tmp_path / "out" / "p_4d_seg.nii.gz").shape == (20, 11, 2, 2)


def test_debug_says_where_the_time_went(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "p_4d.nii.gz", (20, 11, 2, 2))
    assert predict(run, tmp_path / "p_4d.nii.gz", tmp_path / "plain") == 0
    assert "CPU seconds" not in capsys.readouterr().err
    assert predict(run, tmp_path / "p_4d.nii.gz", tmp_path / "out", "--debug") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "CPU seconds" in line]
    parts = dict(re.findall(r"(\w+) (\d+\.\d\d) \(", line))
    assert parts.keys() == {"load", "read", "prepare", "network", "back", "clean", "write", "other"}


def test_results_inside_the_input_folder_are_not_read_again(run: Path, tmp_path: Path) -> None:
    save_image(tmp_path / "data" / "a.nii.gz")
    save_image(tmp_path / "data" / "out" / "b.nii.gz")
    for _ in range(2):
        assert predict(run, tmp_path / "data", tmp_path / "data" / "out", "--uncertainty") == 0
    assert {p.name for p in (tmp_path / "data" / "out").glob("*.nii.gz")} == {
        "a_seg.nii.gz",
        "a_uncertainty.nii.gz",
        "b.nii.gz",
    }
    assert predict(run, tmp_path / "data", tmp_path / "data") == 0
    assert predict(run, tmp_path / "data", tmp_path / "data") == 0
    assert (tmp_path / "data" / "a_seg.nii.gz").is_file()
    assert not (tmp_path / "data" / "a_seg_seg.nii.gz").exists()


def test_one_bad_image_costs_no_other(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "data" / "good.nii.gz")
    save_image(tmp_path / "data" / "zz.nii.gz")
    (tmp_path / "data" / "foreign.nii.gz").write_bytes(b"not a volume")
    whole = (tmp_path / "data" / "good.nii.gz").read_bytes()
    (tmp_path / "data" / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    save_image(tmp_path / "out" / "short_seg.nii.gz")
    assert predict(run, tmp_path / "data", tmp_path / "out") == 1
    printed = capsys.readouterr().err
    assert "2 of 4 images failed" in printed and "foreign.nii.gz" in printed and "short.nii.gz" in printed
    assert "short_seg.nii.gz is from an earlier run" in printed
    assert (tmp_path / "out" / "good_seg.nii.gz").is_file() and (tmp_path / "out" / "zz_seg.nii.gz").is_file()
    assert not (tmp_path / "out" / "foreign_seg.nii.gz").exists()


def test_an_unforeseen_error_is_named_too(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_image(tmp_path / "data" / "a.nii.gz")
    save_image(tmp_path / "data" / "b.nii.gz", (21, 14, 2))

    def picky(self: Echo, images: Tensor) -> Prediction:
        if len(images) == 2:
            raise RuntimeError("two slices")
        return Prediction(torch.full((len(images), 4, *images.shape[-2:]), 0.25), images[:, 0])

    monkeypatch.setattr(Echo, "predict", picky)
    assert predict(run, tmp_path / "data", tmp_path / "out") == 1
    assert "b.nii.gz: RuntimeError: two slices" in capsys.readouterr().err
    assert (tmp_path / "out" / "a_seg.nii.gz").is_file()
    with pytest.raises(RuntimeError, match="two slices"):
        predict(run, tmp_path / "data", tmp_path / "out", "--debug")


def test_inputs_are_checked_before_the_weights(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        pytest.fail("the weights were loaded")

    monkeypatch.setattr(torch, "load", never)
    (tmp_path / "bad.nii.gz").write_bytes(b"not a volume")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    save_image(tmp_path / "masks" / "a_gt.nii.gz")
    for source, said in (
        ("nowhere.nii.gz", "no such file"),
        ("bad.nii.gz", "bad.nii.gz"),
        ("notes.txt", "NIfTI, NRRD or MetaImage"),
        ("empty", "holds no volume"),
        ("masks", "holds no image, only 1 file n"),
    ):
        assert predict(run, tmp_path / source, tmp_path / "out") == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "data" / "scan.nii.gz")
    save_image(tmp_path / "data" / "scan.nii")
    assert predict(run, tmp_path / "data", tmp_path / "out") == 2
    assert "would have results of the name scan" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_split_of_a_data_set(run: Path, tmp_path: Path) -> None:
    for patient in ("patient012", "patient013"):
        folder = tmp_path / "acdc" / patient
        for frame in ("01", "02"):
            save_image(folder / f"{patient}_frame{frame}.nii.gz")
        (folder / "Info.cfg").write_text("ED: 1\nES: 2\n")
    assert predict(run, tmp_path / "acdc", tmp_path / "out", "--split", "val") == 0  # 13 validates by default
    names = sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz"))
    assert names == ["patient013_frame01_seg.nii.gz", "patient013_frame02_seg.nii.gz"]


def test_postprocessing_can_be_switched_off(run: Path, tmp_path: Path) -> None:
    labels = save_image(tmp_path / "scan.nii.gz")
    image = nib.load(tmp_path / "scan.nii.gz")
    stray = np.asarray(image.dataobj).copy()
    stray[0, 0, 0] = 350
    nib.save(nib.Nifti1Image(stray, image.affine), tmp_path / "scan.nii.gz")
    found = []
    for more in ([], ["--no-postprocess"]):
        assert predict(run, tmp_path / "scan.nii.gz", tmp_path / "out", *more) == 0
        found.append(np.asarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj))
    np.testing.assert_array_equal(found[0], labels)
    assert found[1][0, 0, 0] == 3


def test_runs_that_cannot_be_used(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "scan.nii.gz")
    checkpoint = run / "checkpoints" / "best.pt"
    whole = checkpoint.read_bytes()

    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "owned").touch, ())

    torch.save({"model": Hostile(), "format": 1}, tmp_path / "hostile.pt", pickle_module=pickle)
    for content in (whole[: len(whole) // 2], b"", (tmp_path / "hostile.pt").read_bytes()):
        checkpoint.write_bytes(content)
        assert predict(run, tmp_path / "scan.nii.gz", tmp_path / "out") == 2
        assert "best.pt" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()
    checkpoint.unlink()
    assert predict(run, tmp_path / "scan.nii.gz", tmp_path / "out") == 2
    assert predict(tmp_path / "nowhere", tmp_path / "scan.nii.gz", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_last_checkpoint_and_plain_weights_will_do(run: Path, tmp_path: Path) -> None:
    labels = save_image(tmp_path / "scan.nii.gz")
    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    state |= {"model": state["ema"], "ema": None}
    save_checkpoint(state, run / "checkpoints" / "last.pt")
    (run / "checkpoints" / "best.pt").unlink()
    (run / "config.yaml").unlink()  # the checkpoint has a copy
    assert predict(run, tmp_path / "scan.nii.gz", tmp_path / "out") == 0
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj), labels)


def test_a_config_with_other_classes_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "scan.nii.gz")
    values = yaml.safe_load((run / "config.yaml").read_text())
    values["data"]["classes"] = ["RV", "MYO", "LA"]
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    assert predict(run, tmp_path / "scan.nii.gz", tmp_path / "out") == 2
    assert "LA" in capsys.readouterr().err


def test_an_output_that_is_a_file(run: Path, tmp_path: Path) -> None:
    save_image(tmp_path / "scan.nii.gz")
    assert predict(run, tmp_path / "scan.nii.gz", tmp_path / "scan.nii.gz") == 2


def test_with_a_real_network(tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {
            "data": {"grid": {"spacing_mm": 2.0, "size": [32, 32]}},
            "network": {"weights": "none", "width": 16, "depth": 3},
        }
    )
    method = build.build_method(config)
    weights = {name: tensor for name, tensor in method.state_dict().items()}
    state = {"model": weights, "ema": weights, "config": plain(config), "classes": ["RV", "MYO", "LV"], "step": 1}
    save_checkpoint(state, tmp_path / "run" / "checkpoints" / "last.pt")
    save_image(tmp_path / "scan.nii.gz", (40, 37, 2))
    assert predict(tmp_path / "run", tmp_path / "scan.nii.gz", tmp_path / "out", "--uncertainty", "--tta") == 0
    uncertainty = nib.load(tmp_path / "out" / "scan_uncertainty.nii.gz").get_fdata()
    assert uncertainty.shape == (40, 37, 2)
    assert 0 <= uncertainty.min() and uncertainty.max() <= 1
    assert nib.load(tmp_path / "out" / "scan_seg.nii.gz").get_fdata().max() <= 3
    network = predict(tmp_path / "run", tmp_path / "scan.nii.gz", tmp_path / "own", "--uncertainty", "network")
    own = nib.load(tmp_path / "own" / "scan_uncertainty.nii.gz").get_fdata()
    assert network == 0 and own.shape == uncertainty.shape and not np.allclose(own, uncertainty, atol=0.01)
    assert 0 <= own.min() and own.max() <= 1


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_the_unit_of_space_changes_no_mask(run: Path, tmp_path: Path, unit: str) -> None:
    save_image(tmp_path / "in" / "a.nii.gz")
    image = nib.load(tmp_path / "in" / "a.nii.gz")
    affine = image.affine.copy()
    affine[:3] *= {"meter": 1e-3, "micron": 1e3}[unit]
    other = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    other.header.set_xyzt_units(unit)
    nib.save(other, tmp_path / "in" / "b.nii.gz")
    assert predict(run, tmp_path / "in", tmp_path / "out") == 0
    one, two = (nib.load(tmp_path / "out" / f"{name}_seg.nii.gz") for name in "ab")
    assert np.asarray(one.dataobj).any() and np.array_equal(one.dataobj, two.dataobj)
    assert np.array_equal(two.affine, nib.load(tmp_path / "in" / "b.nii.gz").affine)
    assert two.header.get_xyzt_units()[0] == unit


def test_linked_folders_are_searched_and_the_rest_is_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_image(tmp_path / "in" / "a.nii.gz")
    save_image(tmp_path / "elsewhere" / "b.nii.gz")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "c.nii.gz").symlink_to(tmp_path / "nowhere")
    save_image(tmp_path / "in" / "a_gt.nii.gz")
    assert predict(run, tmp_path / "in", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*_seg.nii.gz")) == ["a_seg.nii.gz", "b_seg.nii.gz"]
    told = capsys.readouterr().err
    assert all(part in told for part in ("found 2 images, left out 2: ", "1 linked to nothing", "1 named like labels"))
