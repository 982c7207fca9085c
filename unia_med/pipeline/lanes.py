"""Pieces of work beside each other, each in a process of its own with its share of the cores.

Two trainings of one thread each get more done on two cores than one training of two threads, which waits for the slower
half of every operation.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from unia_med.errors import UserError

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Lane:
    """A piece of work.

    Attributes:
        name: for the user.
        work: what is done; it and what it holds can be pickled.
        log: file that everything it prints is added to.
    """

    name: str
    work: Callable[[], object]
    log: Path


def run_lanes(lanes: Sequence[Lane], at_once: int, look: Callable[[], object] = lambda: None) -> None:
    """Do all the work, a few pieces at once. One that fails does not stop the others.

    Args:
        lanes: in the order in which they are begun.
        at_once: processes at the same time, which share the cores; at least 1.
        look: called every few seconds and at the end, such as to rewrite tables.

    Raises:
        UserError: pieces failed; it says which, why, and where their logs are.
        KeyboardInterrupt: it was interrupted; what ran was asked to stop, and has stopped.
    """
    from unia_med.engine.interrupt import StopRequest

    waiting, running, failed = list(lanes), list[tuple[Lane, SpawnProcess, float]](), list[Lane]()
    threads = max(1, (os.cpu_count() or 1) // at_once)
    with StopRequest() as stop:
        try:
            while (waiting or running) and not stop:
                while waiting and len(running) < at_once:
                    running.append((waiting[0], _start(waiting.pop(0), threads), time.monotonic()))
                wait([process.sentinel for _, process, _ in running], POLL_SECONDS)
                for ended in [one for one in running if not one[1].is_alive()]:
                    running.remove(ended)
                    lane, process, begun = ended
                    failed += [lane] * bool(process.exitcode)
                    how = f"failed, see {lane.log}" if process.exitcode else "done"
                    print(f"{lane.name}: {how} ({(time.monotonic() - begun) / 60:.0f} min)", flush=True)
                look()
        finally:
            for _, process, _ in running:
                process.terminate()  # a training writes its checkpoint first
            for _, process, _ in running:
                process.join()
    if stop:
        raise KeyboardInterrupt
    if failed:
        reasons = "".join(f"\n  {lane.name}: {_last_line(lane.log)} (all of it: {lane.log})" for lane in failed)
        raise UserError(f"{len(failed)} of {len(lanes)} could not be finished:{reasons}")


def _start(lane: Lane, threads: int) -> SpawnProcess:
    print(f"{lane.name}: begun, says what it does in {lane.log}", flush=True)
    lane.log.parent.mkdir(parents=True, exist_ok=True)
    # A fork would copy the threads' locks of libraries in use.
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(lane.work, lane.log, threads))
    process.start()
    return process


def _work(work: Callable[[], object], log: Path, threads: int) -> None:
    import torch

    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the first process alone, which asks each of the others once
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    torch.set_num_threads(threads)
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    return next((text for text in reversed(lines) if text.strip()), "it printed nothing")
