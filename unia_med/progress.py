"""How far long work is: a bar on a terminal, a line now and then where the output is a file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Item = TypeVar("Item")

EVERY_S = 5.0
"""Seconds before the first line, and the least between two."""

_SHARE = 0.1  # of the time so far, between two lines: of a night's work they are not thousands


class Pace:
    """Tells when it is time to say how far work is."""

    def __init__(self) -> None:
        self._start = self._said = time.monotonic()

    def due(self) -> bool:
        """Whether enough time has passed since this was last true, or since the start."""
        now = time.monotonic()
        if now - self._said < max(EVERY_S, _SHARE * (now - self._start)):
            return False
        self._said = now
        return True

    def left(self, done: int, total: int) -> str:
        """Return in words how long the rest will take, at the pace so far.

        Args:
            done: since the start.
            total: to be done since the start.
        """
        return f"about {_duration((self._said - self._start) / max(done, 1) * (total - done))} left"


def tracked(items: Iterable[Item], what: str, total: int, quiet: bool = False) -> Iterator[Item]:
    """Yield items while saying on stderr how many are done; short work says nothing in a file.

    Args:
        items: one after another.
        what: is done with them, such as `predicting`.
        total: how many there will be.
        quiet: say nothing, as processes other than the first do.
    """
    if quiet:
        yield from items
        return
    with counted(what, total) as say:
        for done, item in enumerate(items, start=1):
            yield item
            say(done, total)


@contextmanager
def counted(what: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Give what takes how many items are done, and how many there are, and says so as `tracked` does.

    Args:
        what: is done with them.
        total: how many there are, where that is known from the beginning.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        with bar(what, Console(stderr=True), total) as update:
            yield lambda done, total: update(completed=done, total=total)
        return
    pace = Pace()

    def say(done: int, total: int) -> None:
        if done < total and pace.due():
            print(f"{what}: {done} of {total}, {pace.left(done, total)}", file=sys.stderr, flush=True)

    yield say


@contextmanager
def bar(what: str, console: Console, total: int | None = None, done: int = 0) -> Iterator[Callable[..., None]]:
    """Give what takes `completed`, `total` and `note` of a bar on a terminal, which is gone at the end of the block.

    Bars within bars lie below each other: two displays would write over each other.

    Args:
        what: is done.
        console: the terminal; of a bar within another one it is the other's.
        total: how much there is to do; None where that is not known.
        done: how much of it is done already.
    """
    with _display(console) as display:
        task = display.add_task(what, total=total, completed=done, note="")
        try:
            yield partial(display.update, task)
        finally:
            display.remove_task(task)


_SHOWN: list[Progress] = []
"""The display that is on the terminal, if there is one."""


@contextmanager
def _display(console: Console) -> Iterator[Progress]:
    if _SHOWN:
        yield _SHOWN[0]
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), transient=True, console=console) as display:
        _SHOWN.append(display)
        try:
            yield display
        finally:
            _SHOWN.clear()


@contextmanager
def lasting(what: str) -> Iterator[None]:
    """Say on stderr now and then how long one piece of work, which cannot be counted, has gone on; nothing if short.

    Args:
        what: is being done.
    """
    start, finished = time.monotonic(), threading.Event()

    def say() -> None:
        pause = EVERY_S
        while not finished.wait(pause):
            passed = time.monotonic() - start
            print(f"{what}: {_duration(passed)} so far", file=sys.stderr, flush=True)
            pause = max(EVERY_S, _SHARE * passed)

    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        finished.set()
        speaker.join()


def _duration(seconds: float) -> str:
    """Return a time as a person would say it.

    Example:
        >>> _duration(41.3), _duration(200), _duration(9000)
        ('41 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
