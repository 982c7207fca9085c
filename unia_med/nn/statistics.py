"""Batch statistics that a pass leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def unrecorded_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms in training mode use the statistics of their batch without recording them.

    Extra passes over rescaled or mirrored images would otherwise enter the running statistics, which predictions use,
    more often than the images themselves.

    Args:
        module: whose batch norms are meant.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = not norm.training
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
