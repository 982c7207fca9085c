"""Two forms of one part: compared, then timed in turn."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Callable[[], Tensor]
ROUNDS = 5
"""Timed runs of each form, in turn; the median of their ratios counts."""


@dataclass(frozen=True)
class Benchmark:
    """Two ways to one result.

    Attributes:
        summary: what is compared, for people.
        make: given a device, the form used here and the plain form.
        tolerance: largest share of result values that may differ by more than 1e-3; labels on ties may.
        least_cosine: of a form that approximates: the results must point the same way to this cosine, and how far they
            are apart is said; None for one that does not.
        value_first: the first number of a result is the value of a loss, of which the others are the gradient.
        rounds: timed runs of each form; fewer where the plain form takes many seconds.
        runtime: whose packages the form used here needs, a name of `inference.runtime`.
    """

    summary: str
    make: Callable[[torch.device], tuple[Form, Form]]
    tolerance: float = 0.0
    least_cosine: float | None = None
    value_first: bool = False
    rounds: int = ROUNDS
    runtime: str = "torch"


@dataclass(frozen=True)
class Timing:
    """Seconds of the two forms in each round, and in words how far their results agree."""

    used: tuple[float, ...]
    plain: tuple[float, ...]
    agreement: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster the form used here is: the median over the rounds."""
        return statistics.median(plain / used for used, plain in zip(self.used, self.plain, strict=True))


def time_benchmark(benchmark: Benchmark, device: torch.device) -> Timing:
    """Compare the results of both forms, then time them in turn: on a CPU its seconds, of one thread.

    Args:
        benchmark: what to time.
        device: where.

    Raises:
        RuntimeError: the forms do not agree, so their times mean nothing.
    """
    with _one_thread():
        torch.manual_seed(0)
        used, plain = benchmark.make(device)
        agreement = agreement_of(benchmark, used(), plain())  # Also warms caches and the allocator.
        pairs = [(_seconds(used, device), _seconds(plain, device)) for _ in range(benchmark.rounds)]
    first, second = zip(*pairs, strict=True)
    return Timing(first, second, agreement)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, so that the seconds of the CPU do not depend on who else waits for a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        words = ""
        if benchmark.value_first:
            words = f"value {(first[0] / second[0] - 1).item():+.3%}, gradient: "
            first, second = first[1:], second[1:]
        cosine = F.cosine_similarity(first, second, dim=0).item()
        words += f"cosine {cosine:.5f}, error {((first - second).norm() / second.norm()).item():.2%}"
        if cosine < benchmark.least_cosine:
            raise RuntimeError(f"the two forms are too far apart: {words}")
        return words
    differing = (~torch.isclose(first, second, rtol=1e-3, atol=1e-3)).float().mean().item()
    if differing > benchmark.tolerance:
        raise RuntimeError(f"the two forms differ in {differing:.2%} of the values")
    return f"{differing:.3%} of the values differ" if differing else "same values"


def _cpu_seconds() -> float:
    """Return the CPU's seconds of this process and of those that it started and waited for."""
    spent = os.times()
    return time.process_time() + spent.children_user + spent.children_system


def _seconds(form: Form, device: torch.device) -> float:
    """Return the seconds of one call, averaged over calls that take 0.05 s together, since the clock is coarse."""
    clock = time.perf_counter if device.type == "cuda" else _cpu_seconds
    calls, start = 0, clock()
    while True:
        form()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = clock() - start
        if elapsed > 0.05:
            return elapsed / calls
