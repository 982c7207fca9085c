"""How far long work is: a bar on a terminal, a line now and then where the output is a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

EVERY_S = 10.0
"""Seconds between lines."""


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
    elif sys.stderr.isatty():
        yield from _bar(items, what, total)
    else:
        yield from _lines(items, what, total)


def _bar(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total=total, transient=True, console=Console(stderr=True))


def _lines(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    start = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= EVERY_S and done < total:
            said = now
            left = (now - start) / done * (total - done)
            print(f"{what}: {done} of {total}, about {_duration(left)} left", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    """Return a time as a person would say it.

    Example:
        >>> _duration(41.3), _duration(200), _duration(9000)
        ('41 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
