"""Other runtimes than torch give its labels, uncertainty and features."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unia_med
from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.render import frame_image
from unia_med.cli.main import main
from unia_med.config.schema import RunConfig
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.inference import runtime as runtimes
from unia_med.inference.predictor import Predictor
from unia_med.methods.base import Batch, Method, Prediction

RUNTIMES = [
    pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}"))
    for name in ("onnx", "openvino")
    for missing in [[one for one in runtimes.PACKAGES[name] if runtimes.find_spec(one) is None]]
]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIA_MED_CACHE", str(tmp_path_factory.getbasetemp() / "converted_by_tests"))


class Backbone(nn.Module):
    """Features at a quarter of the image's resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1))

    def forward(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(tokens=self.layers(images))


class Small(Method):
    """A network of random weights that looks at every pixel, and fits its result to the image's size."""

    samples_features = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone, self.head = Backbone(), nn.Conv2d(9, 4, 3, padding=1)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.head.weight.sum()}

    def predict(self, images: Tensor) -> Prediction:
        features = F.interpolate(self.backbone(images).tokens, images.shape[-2:], mode="bilinear")
        probabilities = (8 * self.head(torch.cat((features, images), 1))).softmax(1)
        return Prediction(probabilities, 1 - probabilities.amax(1))


def config(**inference: object) -> RunConfig:
    data = {"grid": {"spacing_mm": None, "size": (32, 48)}}
    return RunConfig.model_validate({"data": data, "inference": {"batch_slices": 4, **inference}})


def noise() -> Volume:
    return Volume(np.random.default_rng(2).normal(100, 20, (48, 32, 9)).astype(np.float32), np.diag([1.5, 1.5, 8, 1]))


def _write(path: Path, volume: Volume) -> None:
    nib.save(nib.Nifti1Image(volume.array.astype(np.float32), volume.affine), path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_labels_uncertainty_and_features_are_those_of_torch(runtime: str) -> None:
    settings = config(uncertainty="network", tta={"flips": True, "scales": [1.0, 1.5]})
    plain = Predictor(Small(), settings, tta=True)
    other = Predictor(Small(), settings, tta=True, runtime=runtime)
    with plain.watching() as wanted_seen:
        wanted = plain.predict_volume(noise())
    with other.watching() as seen:
        found = other.predict_volume(noise())
    assert len(np.unique(wanted.labels)) > 2
    assert (found.labels == wanted.labels).mean() >= 0.9999
    np.testing.assert_allclose(found.uncertainty, wanted.uncertainty, atol=1e-4)
    assert len(seen.vector) == 13 + 8  # quantiles of intensities, features
    np.testing.assert_allclose(seen.vector, wanted_seen.vector, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES[1:])
def test_results_stay_when_more_is_predicted(runtime: str) -> None:
    method = Small().eval()
    network = runtimes.ConvertedMethod(method, runtime)
    images = torch.rand(2, 5, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    first, _ = network.predict(images[0])
    network.predict(images[1])
    with torch.no_grad():
        torch.testing.assert_close(first.probabilities, method.predict(images[0]).probabilities, atol=1e-4, rtol=0)


class Looping(Small):
    """No graph holds a loop that depends on values."""

    def predict(self, images: Tensor) -> Prediction:
        for _ in range(int(images.sum().item())):
            images = images + 1
        return super().predict(images)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signal stacks are looked at in Linux's form")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_signal_stack_is_left_behind(runtime: str) -> None:
    """A stack that is freed while the thread still points to it ends the process with the next signal."""

    def stack() -> bytes:
        found = ctypes.create_string_buffer(64)  # more than `stack_t` takes
        assert ctypes.CDLL(None).sigaltstack(None, found) == 0
        return found.raw

    before = stack()
    converted = runtimes.ConvertedMethod(Small().eval(), runtime)
    converted.predict(torch.rand(1, 1, 16, 16))
    assert stack() == before


def test_what_cannot_be_done_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(UserError, match=r"onnxruntime.*pip install 'unia-med\[onnx\]'"):
        unia_med.load("cardiac-sax", runtime="onnx")
    with pytest.raises(UserError, match=r"unknown runtime 'onix'.*onnx"):
        unia_med.load("cardiac-sax", runtime="onix")
    with pytest.raises(UserError, match="samples of features"):
        Predictor(Small(), config(samples=2), runtime="openvino")
    with pytest.raises(UserError, match="computes on the CPU"):
        runtimes.check_runtime("openvino", "cuda:0")


@pytest.mark.parametrize("runtime", RUNTIMES[:1])
def test_a_prediction_without_a_graph_is_refused(runtime: str) -> None:
    with pytest.raises(UserError, match=r"Looping cannot be converted.*--runtime torch"):
        Predictor(Looping(), config(), runtime=runtime).predict_volume(noise())


def test_packages_that_do_not_fit_together_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from unia_med.inference import onnx

    def broken(*arguments: object) -> object:
        raise ModuleNotFoundError("No module named 'onnxscript._framework_apis.torch_2_11'")

    monkeypatch.setattr(onnx, "missing_packages", list)
    monkeypatch.setattr(onnx, "converted", broken)
    with pytest.raises(UserError, match=r"ModuleNotFoundError.*pip install 'unia-med\[onnx\]' --upgrade.*--no-onnx"):
        onnx.write_onnx(nn.Identity(), torch.zeros(2, 1, 4, 4), tmp_path / "model.onnx")
    with pytest.raises(UserError, match="ONNX Runtime cannot load the network"):
        onnx.onnx_session(b"damaged")


def test_the_command_refuses_a_missing_package_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    _write(tmp_path / "scan.nii.gz", noise())
    arguments = ["--input", str(tmp_path / "scan.nii.gz"), "--output", str(tmp_path / "out"), "--runtime", "openvino"]
    assert main(["predict", "--model", "cardiac-sax", *arguments]) == 2
    assert "pip install 'unia-med[openvino]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_shipped_heart_model_gives_the_same_masks(runtime: str, tmp_path: Path) -> None:
    patient = patient_of(seed=3, index=0)
    scan = tmp_path / "scan.nii.gz"
    _write(scan, Volume(frame_image(patient, 1), np.diag([*patient.scan.spacing_mm, 1.0])))
    for name in ("torch", runtime):
        call = ["--input", str(scan), "--output", str(tmp_path / name), "--runtime", name]
        assert main(["predict", "--model", "cardiac-sax", *call]) == 0
    plain, other = (unia_med.read_volume(tmp_path / name / "scan_seg.nii.gz").array for name in ("torch", runtime))
    assert set(np.unique(plain)) == {0, 1, 2, 3}
    assert (plain == other).mean() >= 0.9999
    records = [json.loads((tmp_path / name / "scan_seg.json").read_text()) for name in ("torch", runtime)]
    assert [record["settings"]["runtime"] for record in records] == ["torch", runtime]
    assert {record["settings"]["tta"] for record in records} == {"as the model's config says"}
