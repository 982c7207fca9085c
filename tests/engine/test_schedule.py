"""Learning rate schedules against the published log and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from unia_med.engine.schedule import cosine_factor, poly_factor, rate_factor, rate_scheduler, restarted_factor


@pytest.mark.parametrize(("iteration", "rate"), [(200, 7.96e-6), (2000, 5.457e-5), (10000, 3.216e-5)])
def test_published_schedule_meets_the_training_log(iteration: int, rate: float) -> None:
    # The log counts from 1 and prints the rate with which its iteration was made.
    found = 6e-5 * poly_factor(iteration - 1, 20000, 1500, continuous=False)
    assert found == pytest.approx(rate, rel=5e-4)


def test_published_schedule_drops_where_the_warmup_ends_and_ours_does_not() -> None:
    before = poly_factor(1499, 20000, 1500)
    assert poly_factor(1500, 20000, 1500, continuous=False) == pytest.approx(0.925**0.9)
    assert poly_factor(1500, 20000, 1500) == 1.0
    assert before == pytest.approx(1499 / 1500, rel=1e-5)


@pytest.mark.parametrize("name", ["poly", "poly_published", "cosine"])
def test_every_schedule_starts_low_ends_at_zero_and_falls_after_its_peak(name: str) -> None:
    factor = rate_factor(name, 100, 0.1)
    values = [factor(step) for step in range(101)]
    assert values[0] == pytest.approx(1e-6)
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[-1] == pytest.approx(0.0, abs=1e-12)


def test_no_warmup_starts_at_the_full_rate() -> None:
    assert rate_factor("poly", 10, 0.0)(0) == 1.0


def test_the_share_of_the_warmup_is_rounded_to_steps() -> None:
    factor = rate_factor("cosine", 100, 0.29)  # 28.999999999999996 of 100 steps
    assert factor(28) < 1.0 == factor(29)


def test_cosine_is_a_half_cosine() -> None:
    for step in (20, 45, 90):
        assert cosine_factor(step, 100, 20) == pytest.approx((1 + math.cos(math.pi * (step - 20) / 80)) / 2)


def test_groups_keep_their_own_base_rates() -> None:
    a, b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 10.0}])
    scheduler = rate_scheduler(optimizer, rate_factor("poly", 4, 0.0))
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.75**0.9, 10 * 0.75**0.9])


def test_a_restarted_schedule_is_that_of_its_part() -> None:
    factor = restarted_factor("cosine", 100, 0.1, [40])
    first, second = rate_factor("cosine", 40, 0.1), rate_factor("cosine", 60, 0.1)
    assert [factor(step) for step in range(40)] == [first(step) for step in range(40)]
    assert [factor(step) for step in range(40, 101)] == [second(step) for step in range(61)]
    plain, whole = restarted_factor("poly", 100, 0.0, ()), rate_factor("poly", 100, 0.0)
    assert [plain(step) for step in range(101)] == [whole(step) for step in range(101)]
