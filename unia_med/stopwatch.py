"""Where the time of a command goes: parts of its work by name, counted while someone asks for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Seconds of computing and of the clock by part; what a part calls in another part counts there alone."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}
        self._running: list[str] = []
        self._last = self._now()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of a block.

        Args:
            name: of the part.
        """
        self._settle()
        self._running.append(name)
        try:
            yield
        finally:
            self._settle()
            self._running.pop()

    @property
    def seconds(self) -> Mapping[str, tuple[float, float]]:
        """CPU seconds of all threads, and seconds of the clock, of each part in the order of their first use."""
        return {name: (cpu, clock) for name, (cpu, clock) in self._seconds.items()}

    def __str__(self) -> str:
        """Return the parts in one line."""
        parts = (f"{name} {cpu:.2f} ({clock:.2f})" for name, (cpu, clock) in self._seconds.items())
        return "CPU seconds (of the clock): " + ", ".join(parts)

    def _settle(self) -> None:
        """Book the time since the last change on the innermost part."""
        now = self._now()
        if self._running:
            booked = self._seconds.setdefault(self._running[-1], [0.0, 0.0])
            for index in (0, 1):
                booked[index] += now[index] - self._last[index]
        self._last = now

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()


_asked: list[Stopwatch] = []


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Give a stopwatch that counts what `part` names meanwhile."""
    watch = Stopwatch()
    _asked.append(watch)
    try:
        yield watch
    finally:
        _asked.pop()


@contextmanager
def part(name: str) -> Iterator[None]:
    """Count a block as a part of the work, where someone asks; no block may hand control away by `yield`.

    Args:
        name: of the part.
    """
    if not _asked:
        yield
        return
    with _asked[-1].part(name):
        yield
