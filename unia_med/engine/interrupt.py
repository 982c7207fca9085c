"""Ctrl-C, termination requests and a closed terminal: finish the step, write a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(Exception):
    """Training stopped early on request, with its checkpoint written."""

    def __init__(self, step: int, signal_number: int) -> None:
        """Say where it stopped.

        Args:
            step: iterations done; the checkpoint holds this state.
            signal_number: what asked for it.
        """
        super().__init__(f"stopped at step {step}")
        self.step = step
        # The shell's convention: 130 for Ctrl-C, 143 for termination, 129 for a closed terminal.
        self.exit_code = 128 + signal_number


class StopRequest:
    """Catches SIGINT, SIGTERM and SIGHUP for the time of a block; a second SIGINT ends the process at once.

    A SIGHUP that is ignored, as under `nohup`, stays so.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._earlier: dict[int, Any] = {}  # by signal number, as `signal.signal` gives and takes them

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def set(self, signal_number: int = signal.SIGTERM) -> None:
        """Ask for a stop from within the program.

        Args:
            signal_number: decides the exit code.
        """
        self.signal_number = signal_number

    def __enter__(self) -> StopRequest:
        # Python lets the main thread alone set handlers; elsewhere the owner of the main thread decides.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._earlier[number] = signal.signal(number, self._catch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._earlier.clear()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.set(number)
