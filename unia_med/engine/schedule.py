"""Learning rate as a pure function of the step, so that a resumed run reads the same rate."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from functools import partial
from typing import Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

WARMUP_START_RATIO = 1e-6  # the published "warm-up rate" acts as a ratio of the base rate


class RateFactor(Protocol):
    """Factor on the base learning rate at a step."""

    def __call__(self, step: int) -> float:
        """Return the factor at a step, counted from 0."""


def poly_factor(step: int, total: int, warmup: int, power: float = 0.9, continuous: bool = True) -> float:
    """Polynomial decay after a linear warm-up.

    The published schedule (UniA's training log) decays with the absolute step, so the rate drops by about 7 % where
    the warm-up of 1500 of 20000 steps ends: `continuous=False`. The continuous form starts its decay at the end of
    the warm-up instead.

    Args:
        step: iterations done, from 0.
        total: iterations of the whole run; the factor is 0 there.
        warmup: iterations of the linear rise; 0 for none.
        power: exponent of the decay; larger falls faster.
        continuous: False for the published form.

    Example:
        >>> round(6e-5 * poly_factor(1999, 20000, 1500, continuous=False), 8)
        5.457e-05
        >>> poly_factor(1500, 20000, 1500)
        1.0
    """
    if step < warmup:
        return _warmup_factor(step, warmup)
    start = warmup if continuous else 0
    return (1.0 - _progress(step, start, total)) ** power


def cosine_factor(step: int, total: int, warmup: int) -> float:
    """Half a cosine from 1 to 0 after a linear warm-up (Loshchilov and Hutter 2017, without restarts).

    Args:
        step: iterations done, from 0.
        total: iterations of the whole run.
        warmup: iterations of the linear rise; 0 for none.

    Example:
        >>> round(cosine_factor(50, 100, 0), 6)
        0.5
    """
    if step < warmup:
        return _warmup_factor(step, warmup)
    return 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup, total)))


def restarted_factor(name: str, total: int, warmup_fraction: float, starts: Iterable[int]) -> RateFactor:
    """Return the schedule that a config names, restarted in each part of a run.

    Args:
        name: as in `rate_factor`.
        total: iterations of the whole run.
        warmup_fraction: share of each part with rising rate, in [0, 1).
        starts: steps at which a new part begins, besides 0.
    """
    edges = sorted({0, *starts})
    ends = [*edges[1:], total]
    parts = [rate_factor(name, end - begin, warmup_fraction) for begin, end in zip(edges, ends, strict=True)]

    def factor(step: int) -> float:
        part = bisect_right(edges, step) - 1
        return parts[part](step - edges[part])

    return factor


def rate_factor(name: str, total: int, warmup_fraction: float) -> RateFactor:
    """Return the schedule a config names.

    Args:
        name: `poly`, `poly_published` or `cosine`.
        total: iterations of the whole run.
        warmup_fraction: share of the run with rising rate, in [0, 1).
    """
    warmup = round(warmup_fraction * total)
    factors = {
        "poly": partial(poly_factor, total=total, warmup=warmup),
        "poly_published": partial(poly_factor, total=total, warmup=warmup, continuous=False),
        "cosine": partial(cosine_factor, total=total, warmup=warmup),
    }
    return factors[name]


def rate_scheduler(optimizer: Optimizer, factor: RateFactor) -> LambdaLR:
    """Return a torch scheduler that multiplies each group's own rate with the factor of the step.

    Args:
        optimizer: groups with their base rates.
        factor: see `rate_factor`.
    """
    return LambdaLR(optimizer, lambda step: factor(step))


def _warmup_factor(step: int, warmup: int) -> float:
    return 1.0 - (1.0 - step / warmup) * (1.0 - WARMUP_START_RATIO)


def _progress(step: int, start: int, total: int) -> float:
    return min(max(step - start, 0) / max(total - start, 1), 1.0)
