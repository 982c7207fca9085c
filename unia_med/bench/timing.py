"""Two forms of one part: compared, then timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Callable[[], Tensor]
ROUNDS = 5
"""Timed runs of each form; the fastest counts, being the one that other programs disturbed least."""


@dataclass(frozen=True)
class Benchmark:
    """Two ways to one result.

    Attributes:
        summary: what is compared, for people.
        make: given a device, the form used here and the plain form.
        tolerance: largest share of result values that may differ by more than 1e-3; labels on ties may.
        least_cosine: of a form that approximates: the results must point the same way to this cosine, and how far they
            are apart is said; None for one that does not.
    """

    summary: str
    make: Callable[[torch.device], tuple[Form, Form]]
    tolerance: float = 0.0
    least_cosine: float | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of the two forms, each at its fastest, and in words how far their results agree."""

    used: float
    plain: float
    agreement: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster the form used here is."""
        return self.plain / self.used


def time_benchmark(benchmark: Benchmark, device: torch.device, rounds: int = ROUNDS) -> Timing:
    """Compare the results of both forms, then time them in turn.

    Args:
        benchmark: what to time.
        device: where.
        rounds: timed runs of each form.

    Raises:
        RuntimeError: the forms do not agree, so their times mean nothing.
    """
    torch.manual_seed(0)
    used, plain = benchmark.make(device)
    agreement = agreement_of(benchmark, used(), plain())  # Also warms caches and the allocator.
    pairs = [(_seconds(used, device), _seconds(plain, device)) for _ in range(rounds)]
    first, second = (min(column) for column in zip(*pairs, strict=True))
    return Timing(first, second, agreement)


def agreement_of(benchmark: Benchmark, first: Tensor, second: Tensor) -> str:
    """Return in words how far two results agree.

    Args:
        benchmark: says what is enough.
        first: result of the form used here.
        second: of the plain form.

    Raises:
        RuntimeError: they agree less than that.
    """
    first, second = first.float().flatten(), second.float().flatten()
    if benchmark.least_cosine is not None:
        cosine = F.cosine_similarity(first, second, dim=0).item()
        words = f"cosine {cosine:.5f}, relative error {((first - second).norm() / second.norm()).item():.4f}"
        if cosine < benchmark.least_cosine:
            raise RuntimeError(f"the two forms are too far apart: {words}")
        return words
    differing = (~torch.isclose(first, second, rtol=1e-3, atol=1e-3)).float().mean().item()
    if differing > benchmark.tolerance:
        raise RuntimeError(f"the two forms differ in {differing:.2%} of the values")
    return f"{differing:.3%} of the values differ" if differing else "same values"


def _seconds(form: Form, device: torch.device) -> float:
    """Return the seconds of one call, averaged over calls that take 0.05 s together, since the clock is coarse."""
    calls, start = 0, time.perf_counter()
    while True:
        form()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
        if elapsed > 0.05:
            return elapsed / calls
