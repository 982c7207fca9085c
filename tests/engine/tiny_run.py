"""A tiny method, a tiny data set and a short training; as a program, one run of it that a test can kill."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unia_med import distributed
from unia_med.config.schema import AugmentConfig, TrainingConfig
from unia_med.engine.interrupt import Interrupted
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


class PlainMethod(TinyMethod):
    """Nothing random and no batch statistics; two processes can be compared with one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        logits = self.head(self.body(batch.images)).amax((2, 3))[:, 1:]
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, batch.tags.float())}


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
    """Twelve steps with a checkpoint every five, in single precision whatever the processor computes fast."""
    values = {"iterations": 12, "batch_size": 4, "learning_rate": 0.05, "ema": 0.9, "amp": False}
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


def main() -> int:
    """Train in the folder that is named; a signal and a step make the process signal itself there."""
    run_dir, signal_number, at_step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    training = settings(**json.loads(sys.argv[4])) if len(sys.argv) > 4 else settings()
    plain = {"augment": None, "dataset": TinySlices(16)} if "plain" in sys.argv else {}
    with distributed.process_group(torch.device("cpu")):
        method = PlainMethod() if plain else TinyMethod()
        trainer = tiny_trainer(run_dir, method=method, training=training, **plain)
        losses = method.losses

        def signalling(batch: Batch, step: int) -> dict[str, Tensor]:
            if step == at_step:
                os.kill(os.getpid(), signal_number)
            return losses(batch, step)

        method.losses = signalling
        try:
            trainer.run()
        except Interrupted as stop:
            return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
