"""A method's prediction computed by another runtime than torch: ONNX Runtime or OpenVINO, on the CPU.

The prediction is converted to ONNX once for each size of slices, when the first of that size comes, and kept for later
calls (`converted_models`); the number of slices is free. Height and width are not: networks that pad or resize fix them
while they are converted.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unia_med.errors import UserError, suggestion
from unia_med.inference.converted_models import keep_model, name_of, read_model
from unia_med.inference.likeness import backbone_of
from unia_med.inference.onnx import converted, onnx_session
from unia_med.methods.base import Method, Prediction

PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}
"""What each runtime needs; those of the extra of the same name."""

_WHERE = "--runtime"
_EXAMPLE_SLICES = 3  # with one or two, torch takes the number for a constant
_Compute = Callable[[np.ndarray], "list[np.ndarray]"]


def check_runtime(name: str, device: torch.device | str = "cpu", samples: int = 0) -> None:
    """Refuse a runtime that is unknown, not installed, or asked for what only torch does.

    Args:
        name: `torch`, `onnx` or `openvino`.
        device: where to compute.
        samples: draws of the features of each slice.

    Raises:
        UserError: it cannot be used.
    """
    if name not in PACKAGES:
        raise UserError(f"unknown runtime '{name}'", where=_WHERE, remedy=suggestion(name, PACKAGES))
    missing = [package for package in PACKAGES[name] if find_spec(package) is None]
    if missing:
        what = f"the runtime {name} needs {', '.join(missing)}"
        raise UserError(what, where=_WHERE, remedy=f"pip install 'unia-med[{name}]'")
    if name != "torch" and torch.device(device).type != "cpu":
        what = f"the runtime {name} computes on the CPU, not on {device}"
        raise UserError(what, where=_WHERE, remedy="Use --device cpu, or --runtime torch")
    if name != "torch" and samples:
        what = f"the runtime {name} draws no samples of features"
        raise UserError(what, where="inference.samples", remedy="Set it to 0, or use --runtime torch")


class ConvertedMethod:
    """Predicts as a method does, computed by another runtime.

    Args:
        method: with its trained weights, on the CPU.
        runtime: `onnx` or `openvino`.
    """

    def __init__(self, method: Method, runtime: str) -> None:
        self._method, self._runtime = method, runtime
        self._by_size: dict[tuple[int, ...], _Compute] = {}

    def predict(self, images: Tensor) -> tuple[Prediction, Tensor | None]:
        """Return the prediction, and the mean features (B, E) of the backbone where it has any.

        Args:
            images: (B, C, H, W) float32 in [0, 1], on the CPU. The caller has set eval mode and switched gradients off.

        Raises:
            UserError: the prediction cannot be converted.
        """
        size = tuple(images.shape[1:])
        if size not in self._by_size:
            self._by_size[size] = self._converted(size)
        arrays = self._by_size[size](np.ascontiguousarray(images.numpy()))
        probabilities, uncertainty, *features = (torch.from_numpy(array) for array in arrays)
        return Prediction(probabilities, uncertainty), features[0] if features else None

    def _converted(self, size: tuple[int, ...]) -> _Compute:
        network = _Flat(self._method).eval()
        name = name_of(network, size)
        content = read_model(name)
        if content is None:
            content = self._convert(network, size)
            keep_model(name, content)
        return _COMPILERS[self._runtime](content)

    def _convert(self, network: nn.Module, size: tuple[int, ...]) -> bytes:
        names, example = ("probabilities", "uncertainty", "features"), torch.rand(_EXAMPLE_SLICES, *size)
        try:
            with torch.no_grad():
                results = network(example)
                program = converted(network, example, names[: len(results)])
            content: bytes = program.model_proto.SerializeToString()
            return content
        except Exception as error:  # torch.onnx raises dozens of types, most of them its own
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            what = f"the prediction of {type(self._method).__name__} cannot be converted to ONNX ({reason})"
            raise UserError(what, where=_WHERE, remedy="Use --runtime torch") from error


class _Flat(nn.Module):
    """A method's prediction as a tuple of tensors: probabilities, uncertainty, and mean features where it has any."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors."""
        features: list[Tensor] = []

        def keep(module: Any, inputs: Any, output: Any) -> None:
            tokens = getattr(output, "tokens", None)
            if isinstance(tokens, Tensor) and tokens.ndim == 4:
                features.append(tokens.float().mean((2, 3)))

        backbone = backbone_of(self.method)
        handle = None if backbone is None else backbone.register_forward_hook(keep)
        try:
            found = self.method.predict(image)
        finally:
            if handle is not None:
                handle.remove()
        return (found.probabilities.float(), found.uncertainty.float(), *features[:1])


def _onnx(model: bytes) -> _Compute:
    session = onnx_session(model)

    def compute(images: np.ndarray) -> list[np.ndarray]:
        return list(session.run(None, {"image": images}))

    return compute


def _openvino(model: bytes) -> _Compute:
    import openvino

    core = openvino.Core()
    # Without the hint, CPUs with bfloat16 compute in it.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    with _same_signal_stack():
        compiled = core.compile_model(core.read_model(model), "CPU", hints)

    def compute(images: np.ndarray) -> list[np.ndarray]:
        found = compiled({"image": images})
        return [np.array(found[place]) for place in range(len(compiled.outputs))]  # its memory is used again

    return compute


class _SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _same_signal_stack() -> Iterator[None]:
    """Leave the thread's alternate signal stack as it was.

    OpenVINO (2026.4) sets one for each compiled model and frees it with the model, while the thread still points to it:
    the next signal that Python handles, such as that of a child process that ended, then ends the process.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    library, before = ctypes.CDLL(None), _SignalStack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)


_COMPILERS: dict[str, Callable[[bytes], _Compute]] = {"onnx": _onnx, "openvino": _openvino}
