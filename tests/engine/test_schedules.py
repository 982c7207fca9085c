"""Learning rates against the published log and closed forms (UniA specification, section 17)."""

from __future__ import annotations

import math

import pytest

from unia_med.engine.schedule import cosine_factor, poly_factor, rate_factor


@pytest.mark.parametrize(("iteration", "rate"), [(200, 7.96e-6), (2000, 5.457e-5), (10000, 3.216e-5)])
def test_the_published_log_is_reproduced(iteration: int, rate: float) -> None:
    """The log prints the rate of the iteration before."""
    factor = poly_factor(iteration - 1, 20000, 1500, continuous=False)
    assert 6e-5 * factor == pytest.approx(rate, rel=2e-3)


def test_the_continuous_form_has_no_jump_where_the_published_one_drops() -> None:
    assert poly_factor(1500, 20000, 1500) == pytest.approx(1.0)
    assert poly_factor(1499, 20000, 1500) == pytest.approx(1.0, abs=1e-3)
    assert poly_factor(1500, 20000, 1500, continuous=False) == pytest.approx((1 - 0.075) ** 0.9)


def test_schedules_end_at_zero_and_rise_first() -> None:
    for name in ("poly", "poly_published", "cosine"):
        factor = rate_factor(name, 100, 0.1)
        assert factor(100) == pytest.approx(0, abs=1e-9)
        assert factor(1) < factor(5) < factor(9)
    assert cosine_factor(25, 100, 0) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
