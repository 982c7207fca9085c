"""A tiny method, a tiny data set and short training settings, shared by the engine's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unia_med.config.schema import AugmentConfig, TrainingConfig
from unia_med.engine.trainer import Trainer
from unia_med.methods.base import Batch, Method, Prediction

SIZE = 16


class TinyMethod(Method):
    """A convolution, a norm, dropout and a head: everything that can spoil an exact resume."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Conv2d(4, 3, 1)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        logits = self.head(self.body(batch.images))
        tags = nn.functional.binary_cross_entropy_with_logits(logits.amax((2, 3))[:, 1:], batch.tags.float())
        noise = (logits * torch.randn_like(logits)).mean()
        return {"loss": tags + 0.1 * noise, "tags": tags}

    def predict(self, images: Tensor) -> Prediction:
        probabilities = self.head(self.body(images)).softmax(1)
        return Prediction(probabilities, probabilities[:, 0])


class TinySlices:
    """Random slices that know their cases."""

    def __init__(self, count: int = 10) -> None:
        generator = torch.Generator().manual_seed(1)
        self.images = torch.rand(count, 1, SIZE, SIZE, generator=generator)
        self.tags = torch.randint(0, 2, (count, 2), generator=generator, dtype=torch.int8)
        self.cases = [(f"patient{index // 3:03d}", index % 3) for index in range(count)]
        self.scores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"image": self.images[index], "tags": self.tags[index], "index": index}
        return item if self.scores is None else {**item, "scores": self.scores[index]}


def settings(**changes: Any) -> TrainingConfig:
    """Twelve steps with a checkpoint every five."""
    values = {"iterations": 12, "batch_size": 4, "learning_rate": 0.05, "ema": 0.9}
    return TrainingConfig(**{**values, "validate_every": 6, "checkpoint_every": 5, "log_every": 4, **changes})


def tiny_trainer(run_dir: Path, **arguments: Any) -> Trainer:
    """A trainer of all of these; keyword arguments replace its own, `training=...` the settings."""
    values = {
        "method": TinyMethod(),
        "dataset": TinySlices(),
        "training": settings(),
        "augment": AugmentConfig(),
        "run_dir": run_dir,
        "device": torch.device("cpu"),
        "seed": 3,
    }
    return Trainer(**{**values, **arguments})


@pytest.fixture
def make_trainer() -> Callable[..., Trainer]:
    """`tiny_trainer`, for tests that need nothing else of this file."""
    return tiny_trainer
