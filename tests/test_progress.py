"""Progress: lines in a file now and then, nothing of short work, every item passed on."""

from __future__ import annotations

import io
import itertools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from unia_med import progress
from unia_med.cardiac.phantom.bank import draw_bank
from unia_med.cardiac.phantom.dataset import write_dataset as write_hearts
from unia_med.data.structured.dataset import write_dataset


def test_a_line_every_five_seconds_and_none_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 4))  # seconds: four per item
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.tracked(iter("abcdef"), "predicting", 6)) == list("abcdef")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["predicting: 2 of 6, about 16 s left", "predicting: 4 of 6, about 8 s left"]


def test_lines_become_rare_in_long_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(0, 30000, 5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.tracked(range(5000), "predicting", 5000))  # 25,000 seconds
    lines = capsys.readouterr().err.splitlines()
    assert 20 < len(lines) < 100 and lines[-1].startswith("predicting: 4")


def test_short_or_quiet_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.tracked([1, 2], "reading", 2)) == [1, 2]
    assert list(progress.tracked([1, 2], "reading", 2, quiet=True)) == [1, 2]
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    """Standard error of somebody who looks at it."""

    def isatty(self) -> bool:
        return True


def test_bars_within_bars_lie_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    seen = []
    for outer in progress.tracked("ab", "training", 2):
        for inner in progress.tracked("xyz", "validating", 3):
            (display,) = progress._SHOWN
            seen.append((outer + inner, *[(task.description, task.completed) for task in display.tasks]))
    pairs = itertools.product(enumerate("ab"), enumerate("xyz"))
    assert seen == [(outer + inner, ("training", i), ("validating", j)) for (i, outer), (j, inner) in pairs]
    assert not progress._SHOWN


def test_work_that_cannot_be_counted_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = set(threading.enumerate())  # one of an earlier test may end meanwhile
    with progress.lasting("converting"):
        pass
    assert capsys.readouterr().err == "" and set(threading.enumerate()) <= threads
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    said = ""
    with pytest.raises(ZeroDivisionError), progress.lasting("converting"):
        while "\n" not in said:
            time.sleep(0.01)
            said += capsys.readouterr().err
        raise ZeroDivisionError
    assert said.splitlines()[0] == "converting: 0 s so far" and set(threading.enumerate()) <= threads


@pytest.mark.parametrize(
    ("what", "draw"),
    [
        ("drawing synthetic slices", lambda folder: draw_bank(3, (32, 32), 5.0, seed=0)),
        ("writing patients", lambda folder: write_dataset(folder / "lesions", "lesions", patients=3)),
        ("writing patients", lambda folder: write_hearts(folder / "hearts", patients=3)),
    ],
)
def test_long_drawing_says_how_far_it_is(
    what: str,
    draw: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    clock = itertools.count(0, 4)  # seconds: four per item
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    draw(tmp_path)
    assert capsys.readouterr().err.splitlines() == [f"{what}: 2 of 3, about 4 s left"]
