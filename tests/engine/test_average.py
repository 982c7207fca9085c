"""The weight average against its definition."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from unia_med.engine.average import WeightAverage


def _move(method: torch.nn.Module, step: int) -> None:
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.fill_(float(step * step))
        method.body[1].running_mean.fill_(float(step))
        method.body[1].num_batches_tracked.fill_(step)


def test_average_is_the_recursion_with_warm_up(tiny: ModuleType) -> None:
    method = tiny.TinyMethod()
    _move(method, 3)
    average = WeightAverage(method, 0.35)
    expected = 9.0
    for step in range(8):
        _move(method, step)
        average.update()
        decay = min(0.35, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step * step
    values = torch.cat([parameter.flatten() for parameter in average.method.parameters()])
    torch.testing.assert_close(values, torch.full_like(values, expected))
    assert average.updates == 8


def test_buffers_are_those_of_the_latest_step(tiny: ModuleType) -> None:
    method = tiny.TinyMethod()
    average = WeightAverage(method, 0.99)
    _move(method, 5)
    average.update()
    norm = average.method.body[1]
    assert norm.running_mean.tolist() == [5.0] * 4
    assert int(norm.num_batches_tracked) == 5


def test_without_decay_it_follows_exactly(tiny: ModuleType) -> None:
    method = tiny.TinyMethod()
    average = WeightAverage(method, 0.0)
    _move(method, 7)
    average.update()
    assert all(torch.equal(a, b) for a, b in zip(average.method.parameters(), method.parameters(), strict=True))


def test_average_is_apart_frozen_and_in_eval_mode(tiny: ModuleType) -> None:
    method = tiny.TinyMethod()
    average = WeightAverage(method, 0.5)
    assert method.training and not average.method.training
    assert not any(parameter.requires_grad for parameter in average.method.parameters())
    assert all(parameter.requires_grad for parameter in method.parameters())
    assert average.current_decay() == pytest.approx(0.1)
