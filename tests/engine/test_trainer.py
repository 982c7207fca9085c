"""The training loop: interrupted runs end where uninterrupted ones do, and bad losses are named."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unia_med.config.schema import AugmentConfig, TrainingConfig
from unia_med.engine.checkpoint import load_checkpoint
from unia_med.engine.interrupt import Interrupted
from unia_med.engine.trainer import Trainer
from unia_med.errors import UserError
from unia_med.methods.base import Batch, Method, Prediction


class Slices:
    """Twenty random slices that know their names."""

    def __init__(self) -> None:
        self.images = np.random.default_rng(0).random((20, 1, 16, 16), dtype=np.float32)
        self.cases = [(f"case{i:02d}", 0) for i in range(20)]

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": torch.from_numpy(self.images[index]), "tags": torch.ones(1, dtype=torch.int8), "index": index}


class Tiny(Method):
    """A convolution with batch norm and dropout, so that weights, buffers and random numbers all matter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 2, 1))
        self.break_at: int | None = None
        self.stop_at: int | None = None

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        value = (self.net(batch.images) - batch.images).square().mean()
        noise = torch.rand(()) * value
        bad = value * float("nan") if step == self.break_at else value * 0
        return {"loss": value + noise + bad, "value": value, "bad": bad}

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.net(images).softmax(1), torch.zeros_like(images[:, 0]))


def _trainer(folder: Path, method: Tiny | None = None, **settings: Any) -> Trainer:
    values = {"iterations": 12, "batch_size": 4, "checkpoint_every": 3, "validate_every": 6, "log_every": 2, **settings}
    training = TrainingConfig.model_validate(values)
    return Trainer(method or Tiny(), Slices(), training, AugmentConfig(), folder, torch.device("cpu"), seed=7)


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stop_at", [0, 4, 7, 10])
def test_an_interrupted_run_ends_with_the_same_weights_bit_by_bit(tmp_path: Path, stop_at: int) -> None:
    whole = _trainer(tmp_path / "whole")
    whole.run()
    method = Tiny()
    method.stop_at = stop_at
    with pytest.raises(Interrupted) as stop:
        _trainer(tmp_path / "parts", method).run()
    assert stop.value.exit_code == 130
    resumed = _trainer(tmp_path / "parts")
    assert resumed.step == stop_at + 1
    resumed.run()
    assert _same(whole.method.state_dict(), resumed.method.state_dict())
    assert _same(whole.ema_method.state_dict(), resumed.ema_method.state_dict())
    rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert rows[0] == rows[1]


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one, two = _trainer(tmp_path / "a"), _trainer(tmp_path / "b")
    two.seed = 8
    one.run()
    two.run()
    assert not _same(one.method.state_dict(), two.method.state_dict())


def test_a_loss_that_is_not_finite_names_step_term_and_cases(tmp_path: Path) -> None:
    method = Tiny()
    method.break_at = 5
    with pytest.raises(UserError, match=r"step 5: .*bad is nan.*cases: case\d\d"):
        _trainer(tmp_path, method).run()
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt", ["step"])["step"] == 3


def test_boundaries_see_the_averaged_method_at_their_step_once(tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []
    trainer = _trainer(tmp_path)
    trainer.boundaries = {6: lambda method: seen.append((trainer.step, method is trainer.ema_method))}
    trainer.run()
    assert seen == [(6, True)]


def test_the_best_checkpoint_follows_validation_only_when_asked(tmp_path: Path) -> None:
    scores = {6: 0.9, 12: 0.5}
    for keep, expected in (("dice", 6), ("none", 12)):
        trainer = _trainer(tmp_path / keep, keep_best_by=keep)
        trainer.validation = lambda method, step: {"val_dice": scores[step]}
        trainer.run()
        assert load_checkpoint(tmp_path / keep / "checkpoints" / "best.pt", ["step"])["step"] == expected


def test_the_average_follows_its_closed_form(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, ema=0.5, iterations=4)
    weight = trainer.method.net[0].weight
    expected = weight.detach().clone()
    update = trainer.average.update

    def follow() -> None:
        nonlocal expected
        decay = min(0.5, (1 + trainer.average.updates) / (10 + trainer.average.updates))
        update()
        expected = decay * expected + (1 - decay) * weight.detach()

    trainer.average.update = follow
    trainer.run()
    torch.testing.assert_close(trainer.ema_method.net[0].weight, expected)


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    _trainer(tmp_path).run()
    before = (tmp_path / "checkpoints" / "last.pt").stat().st_mtime_ns
    again = _trainer(tmp_path)
    again.run()
    assert again.step == 12
    assert (tmp_path / "checkpoints" / "last.pt").stat().st_mtime_ns == before
