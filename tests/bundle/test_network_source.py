"""Network code in a bundle: the same numbers as the method it was written from, whatever the method is made of."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from unia_med.bundle.export import export_bundle
from unia_med.bundle.source import network_source, network_weights
from unia_med.bundle.trace import trace_prediction
from unia_med.errors import UserError
from unia_med.inference.onnx import TOLERANCE, missing_packages, run_onnx, write_onnx
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.registry import METHODS
from unia_med.runs import Run


class Odd(Method):
    """What networks are rarely made of, beside an unused head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout())
        self.body.extra = nn.Conv2d(6, 6, 1)  # a name among numbers
        self.gains = nn.ParameterList([nn.Parameter(torch.rand(6, 1, 1)), nn.Parameter(torch.rand(6, 1, 1))])
        self.skipped = nn.ModuleList([nn.Linear(2, 2), nn.Conv2d(6, 3, 1)])  # only the second is used
        self.register_buffer("order", torch.tensor([2, 0, 1, 5, 4, 3]))
        self.register_buffer("steps", torch.tensor(7))
        self.unused = nn.Linear(4, 4)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": batch.images.sum()}

    def predict(self, images: Tensor) -> Prediction:
        features = self.body(images)[:, self.order]
        first, second = features.chunk(2, dim=1)
        features = torch.cat((second, first * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)), 1)
        count = images.shape[0]
        features = features.reshape(count * 2, 3, *images.shape[-2:]).reshape(count, 6, *images.shape[-2:])
        features.mul_(0.5)  # in place, its result unread
        features = features * self.gains[0] + self.gains[1] / self.steps
        best, _ = features.max(1, keepdim=True)
        masked = features.masked_fill(features > 2, float("-inf")).clamp_min(-9)
        logits = self.skipped[1](masked + best)
        with torch.autocast("cpu", enabled=False):
            best, index = logits.max(1, keepdim=True)
            with torch.enable_grad():
                shifted = logits - best
        logits = shifted + 0.1 * index
        logits[:, 1].unsqueeze(1)[:, 0] += 3.0  # into a view of a view
        return Prediction(logits.softmax(1), logits[:, 0])


class Looping(Odd):
    """Decides by values, which no graph can hold."""

    def predict(self, images: Tensor) -> Prediction:
        found = super().predict(images)
        return found if images.mean() > 0.5 else Prediction(found.probabilities * 0, found.uncertainty)


def _network(method: Method, folder: Path, size: tuple[int, int]) -> tuple[nn.Module, ModuleType]:
    program = trace_prediction(method, size)
    path = folder / "network.py"
    path.write_text(network_source(program, "A test."))
    spec = importlib.util.spec_from_file_location("network_of_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.Network()
    network.load_state_dict(network_weights(program), strict=True)
    return network.eval(), module


def _assert_equal(network: nn.Module, method: Method, size: tuple[int, int]) -> None:
    for count in (1, 2, 5):
        images = torch.rand(count, 1, *size)
        with torch.no_grad():
            torch.testing.assert_close(network(images), method.predict(images).probabilities, atol=1e-6, rtol=0)


def test_odd_parts(tmp_path: Path) -> None:
    method = Odd().eval()
    with torch.no_grad():
        method.body[1].running_mean.normal_()
    network, module = _network(method, tmp_path, (8, 10))
    _assert_equal(network, method, (8, 10))
    _assert_equal(torch.jit.script(network), method, (8, 10))
    own = method.state_dict()
    for name, tensor in network.state_dict().items():
        if name in own:
            assert torch.equal(tensor, own[name]), name
    assert not any(name.startswith(("unused", "skipped.0")) for name in network.state_dict())
    assert max(map(len, (tmp_path / "network.py").read_text().splitlines())) <= 120
    assert module.__doc__.startswith("A test.")


def test_a_prediction_that_depends_on_values_is_refused() -> None:
    with pytest.raises(UserError, match=r"Looping cannot be written as a graph.*\.item"):
        trace_prediction(Looping().eval(), (8, 8))


def _assert_onnx_agrees(method: Method, folder: Path, size: tuple[int, int]) -> None:
    network, _ = _network(method, folder, size)
    write_onnx(network, torch.rand(2, 1, *size), folder / "model.onnx")
    agreeing = total = 0
    for count in (1, 6):
        images = torch.rand(count, 1, *size)
        with torch.no_grad():
            wanted = method.predict(images).probabilities
        found = run_onnx(folder / "model.onnx", images)
        torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=0)
        agreeing += int((found.argmax(1) == wanted.argmax(1)).sum())
        total += wanted.argmax(1).numel()
    assert agreeing / total >= 0.9999
    assert [path.name for path in folder.glob("model*")] == ["model.onnx"]  # weights inside


needs_onnx = pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {missing_packages()}")


@needs_onnx
def test_onnx_agrees_with_torch(tmp_path: Path) -> None:
    _assert_onnx_agrees(Odd().eval(), tmp_path, (8, 10))


@pytest.mark.slow
@needs_onnx
def test_onnx_of_a_whole_network_agrees_with_torch(run: Path, tmp_path: Path) -> None:
    method = Run.open(run).predictor().method.eval().to(memory_format=torch.contiguous_format)
    _assert_onnx_agrees(method, tmp_path, (48, 48))


def test_missing_onnx_is_a_note_or_an_error(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unia_med.bundle.export.missing_packages", lambda: ["onnxscript"])
    with pytest.raises(UserError, match=r"onnxscript.*pip install 'unia-med\[onnx\]'"):
        export_bundle(run, tmp_path / "asked", onnx=True)
    monkeypatch.setattr("unia_med.bundle.export._write", lambda *_: None)
    notes = export_bundle(run, tmp_path / "left_segmentation")
    assert len(notes) == 1
    assert "pip install 'unia-med[onnx]'" in notes[0]


@pytest.mark.slow
def test_vit_exports(untrained: ModuleType, tmp_path: Path) -> None:
    network = {"backbone": "vit", "model": "vit_tiny_patch16_224", "weights": "none", "decoder": "largefov"}
    method = untrained.write_run(tmp_path / "run", network={**network, "input_size": 64})
    copy, _ = _network(method, tmp_path, (48, 48))
    _assert_equal(copy, method, (48, 48))
    assert "timm" not in (tmp_path / "network.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_exports(untrained: ModuleType, tmp_path: Path, name: str) -> None:
    method = untrained.write_run(tmp_path / "run", method={"name": name})
    copy, _ = _network(method, tmp_path, (48, 48))
    _assert_equal(copy, method, (48, 48))
    _assert_equal(torch.jit.script(copy), method, (48, 48))
