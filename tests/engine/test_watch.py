"""Loss terms: means, and the first value that is not finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unia_med.engine.watch import Divergence, LossWatch, RunningMeans
from unia_med.errors import UserError


def _losses(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def _watch(every_step: bool = False, method: nn.Module | None = None) -> LossWatch:
    return LossWatch(method or nn.Linear(1, 1), lambda index: f"case{index}", every_step)


def test_terms_may_come_and_go() -> None:
    watch, means = _watch(), RunningMeans()
    watch.record(0, _losses(loss=1.0, tags=4.0), [0])
    watch.record(1, _losses(loss=3.0), [1])
    means.add(watch.read())
    assert means.means() == {"loss": 2.0, "tags": 4.0}
    assert watch.read() == []


def test_the_first_bad_step_is_named_although_it_is_found_later() -> None:
    watch = _watch()
    watch.record(5, _losses(loss=1.0, affinity=1.0), [0, 1])
    watch.record(6, _losses(loss=float("nan"), affinity=float("inf")), [2, 2, 7])
    watch.record(7, _losses(loss=float("nan"), affinity=float("nan")), [3, 4])
    with pytest.raises(
        UserError, match="step 6: loss is nan, affinity is inf; cases: case2, case7$|step 6: .*case7\\."
    ):
        watch.read()


def test_on_a_cpu_the_step_itself_fails_and_names_bad_weights() -> None:
    method = nn.Linear(1, 1)
    watch = _watch(True, method)
    watch.record(0, _losses(loss=1.0), [0])
    with torch.no_grad():
        method.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="weights were bad before this step, first weight"):
        watch.record(1, _losses(loss=float("nan")), [0])


def test_a_loss_that_grows_far_beyond_its_start_is_told_once_and_refused_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    divergence = Divergence()
    with caplog.at_level("WARNING", "unia_med"):
        divergence.look([{"loss": 3.0}, {"loss": 170.0}], 2)  # a mean of 86.5: less than thirty times 3
        divergence.check()
        assert not caplog.records
        divergence.look([{"loss": 400.0}, {"loss": 400.0}], 4)
        divergence.look([{"loss": 500.0}], 5)
    assert len(caplog.records) == 1 and "step 4: the training diverges: the loss is 400" in caplog.text
    with pytest.raises(UserError, match=r"diverged: the loss is 500, at the first step it was 3.*learning_rate"):
        divergence.check()
    divergence.look([{"loss": 2.0}], 6)
    divergence.check()


def test_a_small_first_loss_counts_as_one_and_a_sign_does_not_matter() -> None:
    divergence = Divergence()
    divergence.look([{"loss": -0.01}, {"loss": 59.0}], 2)  # a mean of 29.505
    assert not divergence.diverged and divergence.first == 0.01
    divergence.look([{"segmentation": 1e9}], 3)  # no loss, nothing new
    assert divergence.latest == pytest.approx(29.505)
    divergence.look([{"loss": -31.0}], 4)
    assert divergence.diverged


def test_means_survive_a_checkpoint() -> None:
    one, other = RunningMeans(), RunningMeans()
    one.add([{"loss": 1.0}, {"loss": 2.0}])
    other.load(one.state())
    for means in (one, other):
        means.add([{"loss": 6.0}])
    assert one.means() == other.means() == {"loss": 3.0}
    one.clear()
    assert one.means() == {}
