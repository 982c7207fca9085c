"""A class whose predicted area falls to none is named with the step, once, and at the end."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from unia_med.engine.collapse import CollapseWatch, present
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch, Method, Prediction


class Says(Method):
    """Predict in one corner pixel whatever classes it is told to see."""

    def __init__(self, *classes: int) -> None:
        super().__init__()
        self.seen = classes

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {}

    def predict(self, images: Tensor) -> Prediction:
        labels = torch.zeros(len(images), 4, 4, dtype=torch.long)
        for place, label in enumerate(self.seen):
            labels[:, 0, place] = label
        return Prediction(nn.functional.one_hot(labels, 3).movedim(-1, 1).float(), labels.float())


def _batch(tags: list[list[int]]) -> Batch:
    return Batch(torch.zeros(len(tags), 1, 4, 4), torch.tensor(tags, dtype=torch.int8))


BOTH = _batch([[1, 1]] * 10)


def test_a_class_that_vanishes_is_named_once_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch(["RV", "LV"], 1000)
    with caplog.at_level(logging.WARNING):
        watch.look(Says(1, 2), BOTH, 20)
        for step in range(40, 200, 20):
            watch.look(Says(1), BOTH, step)
        watch.report()
    assert watch.collapsed == {"LV": 100}  # 40 slices after step 20
    said, at_the_end = caplog.messages
    assert said.startswith("step 100: LV is predicted in none of the last 40") and "last at step 20" in said
    assert "at the end of training LV is predicted nowhere, as since step 100" in at_the_end


def test_a_class_that_comes_back_is_no_fault_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch(["RV", "LV"], 1000)
    watch.look(Says(1, 2), BOTH, 20)
    for step in range(40, 120, 20):
        watch.look(Says(1), BOTH, step)
    watch.look(Says(1, 2), BOTH, 120)
    caplog.clear()
    watch.report()
    assert watch.collapsed == {} and caplog.messages == []


def test_what_is_not_learned_yet_or_not_there_is_no_collapse(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch(["RV", "LV"], 1000)
    for step in range(20, 500, 20):
        watch.look(Says(), BOTH, step)  # nothing was ever found, in the first half
    assert watch.collapsed == {}
    watch.look(Says(), BOTH, 500)
    assert watch.collapsed == {"RV": 500, "LV": 500} and "never so far" in caplog.text
    absent = CollapseWatch(["RV", "LV"], 100)
    for step in range(20, 200, 20):
        absent.look(Says(1, 2) if step == 20 else Says(1), _batch([[1, 0], [1, -1]] * 10), step)
    assert absent.collapsed == {}


def test_labels_say_what_is_there_too() -> None:
    labels = torch.full((2, 4, 4), IGNORE)
    labels[1, 2, 2] = 2
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.tensor([[1, -1], [0, -1]], dtype=torch.int8), labels=labels)
    assert present(batch).tolist() == [[True, False], [False, True]]


def test_a_forced_collapse_in_training_is_logged(
    tiny: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From step 30 on the bias of the second class is so low that it cannot win."""
    training = tiny.settings(iterations=200, log_every=1, validate_every=200, checkpoint_every=200, learning_rate=1e-6)
    metadata = {"classes": ["RV", "LV"]}
    trainer = tiny.tiny_trainer(tmp_path, training=training, metadata=metadata)
    losses = trainer.method.losses

    def acting(batch: Batch, step: int) -> dict[str, Tensor]:
        if step in (0, 30):
            for method in (trainer.method, trainer.ema_method):
                with torch.no_grad():
                    method.head.bias[2] = 100.0 if step == 0 else -100.0
        return losses(batch, step)

    trainer.method.losses = acting
    with caplog.at_level(logging.WARNING):
        trainer.run()
    said = [message for message in caplog.messages if "LV" in message]
    assert len(said) == 2 and "last at step 30" in said[0] and said[1].startswith("at the end of training LV")
