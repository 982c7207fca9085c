"""The network of a bundle in ONNX, checked against PyTorch with ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unia_med.errors import UserError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install 'unia-med[onnx]'"
TOLERANCE = 1e-4
"""Largest difference of a probability between ONNX Runtime and PyTorch."""


def missing_packages() -> list[str]:
    """Return what of the extra `onnx` is not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def write_onnx(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write `image` (N, C, H, W) to `probabilities` (N, K, H, W) for any number N of slices.

    Args:
        network: in eval mode, on the CPU.
        example: at least two slices.
        path: the file, weights included.

    Raises:
        UserError: packages are missing.
    """
    missing = missing_packages()
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}", where="--onnx", remedy=INSTALL)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["image"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("slices", min=1, max=65536)},),
                verbose=False,
            )
            assert program is not None  # without a file name, and with dynamo, torch returns the program
            program.save(str(path), external_data=False)
    finally:
        logger.setLevel(level)


def run_onnx(path: Path, images: Tensor) -> Tensor:
    """Probabilities that ONNX Runtime computes on the CPU.

    Args:
        path: of the model.
        images: (N, C, H, W).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": np.ascontiguousarray(images.numpy())})
    return torch.from_numpy(found)
