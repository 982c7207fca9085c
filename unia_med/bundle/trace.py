"""The prediction of any method as one graph of plain tensor operations.

Only `Method.predict` is known here, so every method exports, with whatever network, and losses, classifiers and other
parts that serve training alone fall away.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from unia_med.errors import UserError
from unia_med.methods.base import Method
from unia_med.progress import lasting

OLDEST_TORCH = (2, 6)
"""Earlier versions break operations up into device-specific ones while exporting."""

_MOST_SLICES = 65536


class Probabilities(nn.Module):
    """A method's class probabilities (B, K, H, W) of slices (B, C, H, W), without its other results.

    Args:
        method: with its trained weights.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities."""
        return self.method.predict(image).probabilities


def trace_prediction(method: Method, size: tuple[int, int], channels: int = 1) -> ExportedProgram:
    """Return the graph of a method's prediction, for any number of slices of one size.

    Args:
        method: on the CPU, with its trained weights; put into eval mode.
        size: (H, W) of the slices, pixels.
        channels: C of the slices.

    Raises:
        UserError: torch is too old, or the prediction depends on the values it computes in a way no graph can hold.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        wanted = ".".join(map(str, OLDEST_TORCH))
        raise UserError(f"torch {torch.__version__} cannot export", remedy=f"Install torch {wanted} or newer")
    module = Probabilities(method).eval()
    # Three slices: with one or two, torch takes the number for a constant.
    example = (torch.rand(3, channels, *size),)
    try:
        with lasting("tracing the prediction"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            slices = Dim("slices", min=1, max=_MOST_SLICES)
            return torch.export.export(module, example, dynamic_shapes=({0: slices},), strict=False)
    except Exception as error:  # torch.export raises dozens of types, most of them its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the prediction of {type(method).__name__} cannot be written as a graph ({reason})",
            remedy="In Method.predict use tensor operations only: no .item(), no loop that depends on values",
        ) from error
