"""Standard output and error: what is wrong with them must not cost the results of a command."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from unia_med.errors import UserError

_GONE = (errno.EPIPE, errno.EIO)
"""What the system says where the reader of a pipe, such as `head`, or the terminal is gone."""


class LastingFile(io.FileIO):
    """An open file whose first error is kept, and into which nothing is written from then on.

    Work goes on where the reader of a pipe has enough, or a terminal is closed.
    """

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes; return how many are taken.

        Args:
            data: bytes, or a view of them.
        """
        if self.lost is None:
            try:
                return super().write(data)
            except BlockingIOError:
                raise
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


def prepare_terminal() -> None:
    """Make both streams usable whatever they are, and let one that cannot show a letter show its code.

    A stream that is closed (`>&-`) would give its number to the next file that is opened, and what libraries print
    would be written into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if _is_number(stream, number):
                setattr(sys, name, _lasting(stream, number))


def finish_output() -> None:
    """Write what standard output still holds.

    Raises:
        UserError: it could not be written, for another reason than that nobody reads it any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    raw = _raw(sys.stdout)
    lost = raw.lost if isinstance(raw, LastingFile) else None
    if lost is not None and lost.errno not in _GONE:
        remedy = "Send it to a place with free space; files that the command names are written"
        raise UserError(f"cannot be written: {lost.strerror}", "standard output", remedy)


def _is_number(stream: io.TextIOWrapper, number: int) -> bool:
    """Return whether a stream writes to the process's own output, and not to what a caller or a test put there."""
    raw = _raw(stream)
    return type(raw) is io.FileIO and raw.fileno() == number


def _raw(stream: Any) -> Any:
    """Return what writes the bytes of a text stream; with PYTHONUNBUFFERED there is no buffer between them."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _lasting(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    stream.flush()
    raw: Any = LastingFile(number, "w", closefd=False)
    file = raw if _raw(stream) is stream.buffer else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        file,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
