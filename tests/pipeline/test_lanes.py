"""Work beside each other: what runs at the same time, what is logged, faults, and stopping."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from unia_med.errors import UserError
from unia_med.pipeline.lanes import Lane, run_lanes


def note(folder: Path, name: str, until: str | None = None) -> None:
    """Leave a file, then wait for that of another lane."""
    (folder / name).touch()
    print("said by", name, flush=True)
    end = time.monotonic() + 60
    while until is not None and not (folder / until).exists():
        if time.monotonic() > end:
            raise UserError(f"{until} never began", name)
        time.sleep(0.05)


def fail(folder: Path) -> None:
    print("up to here it went well", flush=True)
    raise UserError("no such thing", folder)


def test_lanes_run_at_the_same_time_and_say_it_in_their_logs(tmp_path: Path) -> None:
    logs = {name: tmp_path / "logs" / f"{name}.txt" for name in "ab"}
    looks: list[int] = []
    lanes = [
        Lane(name, functools.partial(note, tmp_path, name, other), logs[name]) for name, other in ("ab", "ba")
    ]  # each ends only if the other has begun
    run_lanes(lanes, 2, lambda: looks.append(sum((tmp_path / name).exists() for name in "ab")))
    assert looks[-1] == 2
    assert [logs[name].read_text() for name in "ab"] == ["said by a\n", "said by b\n"]


def test_no_more_than_asked_for_run_at_once(tmp_path: Path) -> None:
    seen: list[set[str]] = []
    lanes = [Lane(name, functools.partial(note, tmp_path, name), tmp_path / f"{name}.txt") for name in "abc"]
    run_lanes(lanes, 1, lambda: seen.append({path.name for path in tmp_path.glob("?")}))
    assert {"a"} in seen and {"a", "b"} in seen and seen[-1] == {"a", "b", "c"}


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    lanes = [
        Lane("bad", functools.partial(fail, tmp_path), tmp_path / "bad.txt"),
        Lane("worse", functools.partial(sys.exit, 3), tmp_path / "worse.txt"),
        Lane("good", functools.partial(note, tmp_path, "good"), tmp_path / "good.txt"),
    ]
    with pytest.raises(UserError) as caught:
        run_lanes(lanes, 1)
    said = str(caught.value)
    assert "2 of 3" in said and f"bad: error: {tmp_path}: no such thing" in said and "worse: it printed nothing" in said
    assert str(tmp_path / "bad.txt") in said and "good" not in said
    assert (tmp_path / "good").exists()


def test_an_interruption_stops_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "a").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    lanes = [Lane(name, functools.partial(note, tmp_path, name, "never"), tmp_path / f"{name}.txt") for name in "ab"]
    begun = time.monotonic()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_lanes(lanes, 1)
    thread.join()
    assert time.monotonic() - begun < 50  # the first was stopped, not waited for
    assert not (tmp_path / "b").exists()
