"""A run folder as training leaves it, with a random network: exporting does not ask how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unia_med.build import build_method
from unia_med.config.load import dump_config, parse_config
from unia_med.engine.checkpoint import save_checkpoint
from unia_med.methods.base import Method

SMALL = {
    "data": {"root": "/home/someone/hearts", "grid": {"spacing_mm": 4.0, "size": [48, 48]}},
    "network": {"weights": "none", "width": 32, "depth": 3, "uncertainty_width": 32},
    "training": {"iterations": 4, "batch_size": 4},
    "inference": {"batch_slices": 3},
}
"""A network of a few thousand tokens on slices of 48 x 48 pixels."""

METRICS = """step,loss,val_dice_RV,val_dice_MYO,val_dice_LV,val_dice
2,0.9,0.1,0.2,0.3,0.2
4,0.5,0.71,0.62,0.83,0.72
"""


def write_run(folder: Path, **changes: Any) -> Method:
    """Write a run of `SMALL` with parts replaced, and return its method in eval mode.

    Args:
        folder: run folder to make.
        changes: whole sections of the config.
    """
    values = {**SMALL, **changes}
    config = parse_config(values, "test")
    torch.manual_seed(1)
    method = build_method(config).eval()
    _shake(method, config.data.channels)
    folder.mkdir(parents=True)
    dump_config(config, folder / "config.yaml")
    (folder / "metrics.csv").write_text(METRICS, encoding="utf-8")
    state = {"model": method.state_dict(), "ema": method.state_dict(), "step": 4}
    save_checkpoint(
        {**state, "config": config.model_dump(mode="json"), "classes": config.data.target_classes},
        folder / "checkpoints" / "best.pt",
    )
    return method


def _shake(method: Method, channels: int = 1) -> None:
    """Statistics of norms that are not the neutral ones, and a last layer that lets every class appear."""
    with torch.no_grad():
        for name, buffer in method.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        last = next((part for name, part in method.named_modules() if name.endswith("decoder.classifier")), None)
        if last is not None:
            last.weight.mul_(20)
            probabilities = method.predict(torch.rand(4, channels, 48, 48)).probabilities
            last.bias.sub_(probabilities.clamp_min(1e-30).log().mean((0, 2, 3)))
