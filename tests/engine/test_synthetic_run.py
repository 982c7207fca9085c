"""A run without data: it learns from its prior's slices, resumes bit by bit, and says what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from unia_med.config.device import described
from unia_med.config.load import parse_config
from unia_med.config.schema import RunConfig
from unia_med.engine.checkpoint import load_checkpoint
from unia_med.engine.session import train
from unia_med.errors import UserError


def _config(**training: Any) -> RunConfig:
    values = {
        "data": {
            "name": "synthetic",
            "classes": ["RV", "MYO", "LV"],
            "tags": {"source": "none"},
            "grid": {"size": [32, 32], "spacing_mm": 7.5},
        },
        "network": {"backbone": "lite0", "weights": "none", "decoder_widths": [8, 8, 8, 8]},
        "method": {"name": "partial"},
        "prior": {"names": ["phantom"], "phantom": {"slices": 24, "any_direction": True}},
        "training": {"batch_size": 4, "checkpoint_every": 3, **training},
    }
    return parse_config(values, "test")


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / "last.pt", keys=("ema",))["ema"]


def test_a_run_without_data_leaves_a_run_folder(tmp_path: Path) -> None:
    assert train(_config(iterations=4), tmp_path / "run", device="cpu") == 0
    assert (tmp_path / "run" / "checkpoints" / "best.pt").is_file()
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unia_med.engine.trainer import Trainer

    train(_config(iterations=6), tmp_path / "whole", device="cpu")
    save, calls = Trainer._save, []

    def stop_after_the_first(self: Trainer, path: Path) -> None:
        save(self, path)
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_save", stop_after_the_first)
        train(_config(iterations=6), tmp_path / "parts", device="cpu")
    train(_config(iterations=6), tmp_path / "parts", resume=True, device="cpu")
    whole, parts = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_run_without_data_needs_a_prior_that_draws() -> None:
    values = {
        "data": {"name": "synthetic", "classes": ["RV"]},
        "method": {"name": "partial"},
        "prior": {"names": ["ring"]},
    }
    with pytest.raises(UserError, match="phantom"):
        parse_config(values, "test")


def test_slices_of_any_direction_are_square(tmp_path: Path) -> None:
    config = _config(iterations=2)
    grid = config.data.grid.model_copy(update={"size": (32, 48)})
    config = config.model_copy(update={"data": config.data.model_copy(update={"grid": grid})})
    with pytest.raises(UserError, match="square"):
        train(config, tmp_path / "run", device="cpu")


def test_it_starts_from_the_weights_that_are_named(tmp_path: Path) -> None:
    """At a learning rate of nearly nothing it ends where it started."""
    train(_config(iterations=2), tmp_path / "first", device="cpu")
    first = _weights(tmp_path / "first")
    config = _config(iterations=2, start_from="first", learning_rate=1e-12)
    train(config, tmp_path / "second", device="cpu", start=lambda name: (first, ["RV", "MYO", "LV"]))
    second = _weights(tmp_path / "second")
    learned = [name for name, value in first.items() if value.dim() == 4]
    assert learned
    for name in learned:
        assert torch.allclose(second[name], first[name], atol=1e-6), name


def test_a_start_from_another_network_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    config = _config(iterations=2, start_from="other")
    with pytest.raises(UserError, match="another network"):
        train(config, tmp_path / "run", device="cpu", start=lambda name: ({}, ["RV", "MYO", "LV"]))
    assert not (tmp_path / "run").exists()


def test_no_teacher_is_announced_where_the_run_itself_learns_from_the_slices() -> None:
    assert described(_config(iterations=4), "cpu", "float32") == "cpu, float32: 4 steps of 4 slices"
