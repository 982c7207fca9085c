"""Messages of the package while it works: log records, which commands print to stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("unia_med")
"""Parent of every module's logger; in Python, attach handlers of your own."""


class _Notes(logging.Handler):
    """Log handler that prints lines with the command's name; looks up stderr each time, since it may be redirected."""

    last: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, unless it repeats the one before, as when a folder is searched twice."""
        message = record.getMessage()
        if message != self.last:
            print(f"unia-med: note: {message}", file=sys.stderr)
        self.last = message


def show_notes() -> None:
    """Show notes on stderr from now on; of several processes under torchrun the first one prints."""
    if os.environ.get("RANK", "0") != "0":
        return
    for handler in [handler for handler in LOGGER.handlers if isinstance(handler, _Notes)]:
        LOGGER.removeHandler(handler)
    LOGGER.addHandler(_Notes())
    LOGGER.setLevel(logging.INFO)


@contextmanager
def notes_hidden() -> Iterator[None]:
    """Hide the notes on stderr while another log shows them."""
    shown = [handler for handler in LOGGER.handlers if isinstance(handler, _Notes)]
    for handler in shown:
        LOGGER.removeHandler(handler)
    try:
        yield
    finally:
        for handler in shown:
            LOGGER.addHandler(handler)
