"""The stopwatch: an inner part counts alone, nothing is counted that nobody asks for."""

from __future__ import annotations

import pytest

from unia_med import stopwatch


def test_time_goes_to_the_innermost_part(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(stopwatch.Stopwatch, "_now", staticmethod(lambda: (float(next(clock)), 0.0)))
    with stopwatch.timed() as watch:  # 0
        with stopwatch.part("write"):  # 1
            with stopwatch.part("network"):  # 2
                pass  # 3
            with stopwatch.part("network"):  # 4
                pass  # 5
        # 6
    assert watch.seconds == {"write": (3.0, 0.0), "network": (2.0, 0.0)}
    assert str(watch) == "CPU seconds (of the clock): write 3.00 (0.00), network 2.00 (0.00)"


def test_a_part_that_fails_is_ended_and_without_a_stopwatch_nothing_happens() -> None:
    with stopwatch.timed() as watch:
        with pytest.raises(ValueError, match="no"), stopwatch.part("read"):
            raise ValueError("no")
        with stopwatch.part("clean"):
            pass
    assert list(watch.seconds) == ["read", "clean"]

    @stopwatch.part("read")
    def read(value: int) -> int:
        return value + 1

    assert read(1) == 2 and list(watch.seconds) == ["read", "clean"]
