"""Compressed voxels, read to the end of their stream, where the checksum stands.

Libraries that read volumes stop at the last voxel, a few bytes before it, and some go on after an error: a flipped bit
would give other voxels in silence.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

GZIP = b"\x1f\x8b"
"""The first bytes of a gzip stream."""

_PART = 1 << 16
_GZIP_OR_ZLIB = 47
"""`wbits` of zlib that take either head."""


class Unpacked(io.RawIOBase):
    """The bytes of a gzip or zlib stream, or of gzip streams one after another; zlib compares the checksum of each.

    What follows the last stream, as some programs append, is left out.

    Args:
        packed: open file, at the beginning of the stream.
    """

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__()
        self._packed = packed
        self._rest = b""
        self._stream: Any = zlib.decompressobj(_GZIP_OR_ZLIB)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Put bytes into a buffer, at least one unless all are read; return how many.

        Args:
            buffer: writable bytes.

        Raises:
            EOFError: the file is cut off.
            zlib.error: the stream is damaged.
        """
        while self._stream is not None:
            data = self._rest or self._packed.read(_PART)
            if not data:
                raise EOFError("cut off within its compressed voxels")
            found = self._stream.decompress(data, min(len(buffer), _PART))
            self._rest = self._stream.unconsumed_tail
            if self._stream.eof:
                self._rest = self._stream.unused_data or self._packed.read(_PART)
                self._stream = zlib.decompressobj(_GZIP_OR_ZLIB) if self._rest.startswith(GZIP) else None
            if found:
                buffer[: len(found)] = found
                return len(found)
        return 0


class CheckedGzip:
    """A gzip file for nibabel, opened at its first read, and read to its end once its last voxel is read.

    Args:
        path: the file.
        end: bytes of the unpacked file up to the end of its voxels.
    """

    def __init__(self, path: Path, end: int) -> None:
        self.name = str(path)
        self._end = end
        self._packed: BinaryIO | None = None
        self._unpacked: io.BufferedReader[Unpacked] = io.BufferedReader(Unpacked(io.BytesIO()))
        self._place = 0
        self._checked = False

    def read(self, size: int) -> bytes:
        """Return bytes from the current place on.

        Args:
            size: at most as many.

        Raises:
            EOFError: as `Unpacked.readinto`.
            zlib.error: likewise.
        """
        found = self._opened().read(size)
        self._went(len(found))
        return found

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the current place on; return how many bytes are in it.

        Args:
            buffer: writable bytes.

        Raises:
            EOFError: as `Unpacked.readinto`.
            zlib.error: likewise.
        """
        count = self._opened().readinto(buffer)
        self._went(count)
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the unpacked file; return it.

        Args:
            offset: bytes from its beginning.
            whence: must be `io.SEEK_SET`.
        """
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("places are counted from the beginning")
        if offset < self._place:
            self.close()
        file = self._opened()
        while self._place < offset and (skipped := len(file.read(min(_PART, offset - self._place)))):
            self._place += skipped
        return self._place

    def tell(self) -> int:
        """Return the current place in the unpacked file."""
        return self._place

    def write(self, data: bytes) -> int:
        """Refuse to write; nibabel takes for a file what has this method.

        Args:
            data: bytes.
        """
        raise io.UnsupportedOperation("opened for reading")

    def close(self) -> None:
        """Close the file; a later read opens it again, at its beginning."""
        if self._packed is not None:
            self._packed.close()
        self._packed, self._place = None, 0

    def _opened(self) -> io.BufferedReader[Unpacked]:
        if self._packed is None:
            self._packed = cast(BinaryIO, open(self.name, "rb"))
            self._unpacked = io.BufferedReader(Unpacked(self._packed), _PART)
        return self._unpacked

    def _went(self, count: int) -> None:
        self._place += count
        if self._checked or self._place < self._end:
            return
        self._checked = True
        try:
            while self._unpacked.read(_PART):
                pass
        finally:
            self.close()  # to go back would unpack all of it again; who reads on says from where


def unpacked_size(path: Path, start: int = 0) -> int:
    """Return how many bytes a gzip or zlib stream stands for, after a look at its checksum.

    Args:
        path: the file.
        start: where in it the stream begins.

    Raises:
        EOFError: as `Unpacked.readinto`.
        zlib.error: likewise.
    """
    with path.open("rb") as packed:
        packed.seek(start)
        stream, buffer, total = Unpacked(packed), bytearray(_PART), 0
        while count := stream.readinto(buffer):
            total += count
        return total
