"""Networks in ONNX, and ONNX Runtime to compute them on the CPU."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unia_med.errors import UserError
from unia_med.progress import lasting

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install 'unia-med[onnx]'"
TOLERANCE = 1e-4
"""Largest difference of a probability between ONNX Runtime and PyTorch."""


def missing_packages() -> list[str]:
    """Return what of the extra `onnx` is not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def converted(network: nn.Module, example: Tensor, outputs: Sequence[str] = ("probabilities",)) -> Any:
    """Return a network as torch's ONNX program, for any number N of slices `image` (N, C, H, W) of one size.

    Args:
        network: in eval mode, on the CPU.
        example: at least two slices.
        outputs: names of its results, in order.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quiet = contextlib.redirect_stdout(io.StringIO())
        with lasting("converting the network to ONNX"), warnings.catch_warnings(), quiet:
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("slices", min=1, max=65536)},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None  # without a file name, and with dynamo, torch returns the program
    return program


def write_onnx(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write `image` (N, C, H, W) to `probabilities` (N, K, H, W) for any number N of slices.

    Args:
        network: in eval mode, on the CPU.
        example: at least two slices.
        path: the file, weights included.

    Raises:
        UserError: packages are missing, or do not fit together.
    """
    missing = missing_packages()
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}", where="--onnx", remedy=INSTALL)
    try:
        program = converted(network, example)
    except Exception as error:  # torch.onnx raises dozens of types; installations may be broken
        raise _failed("the network cannot be converted to ONNX", error) from error
    program.save(str(path), external_data=False)


def onnx_session(model: str | bytes) -> Any:
    """Return ONNX Runtime's session of a model, on the CPU, with as many threads as torch uses.

    Args:
        model: its file, or its bytes.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a model that is damaged, or newer than this version, and of broken installations
        raise _failed("ONNX Runtime cannot load the network", error) from error


def _failed(what: str, error: Exception) -> UserError:
    said = str(error).splitlines()[0] if str(error) else ""
    remedy = f"Run: {INSTALL} --upgrade, or do without ONNX (export --no-onnx, predict --runtime torch)"
    return UserError(f"{what} ({type(error).__name__}: {said})", "onnx", remedy)


def run_onnx(path: Path, images: Tensor) -> Tensor:
    """Probabilities that ONNX Runtime computes on the CPU.

    Args:
        path: of the model.
        images: (N, C, H, W).
    """
    (found,) = onnx_session(str(path)).run(None, {"image": np.ascontiguousarray(images.numpy())})
    return torch.from_numpy(found)
