"""The one way to write a file: under a temporary name, forced to the disk, then put in place.

No reader ever sees half a file, a process killed at any instant leaves the earlier file as it was, and a place that
cannot be written is reported with its path.
"""

from __future__ import annotations

import codecs
import csv
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from unia_med.errors import UserError
from unia_med.names import without_apostrophe

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PREFIX = ".writing_"
_STAGING = ".partial-"
_PART = 1 << 22
_RESTORE = "Restore it from a copy, or remove it"
_WRITABLE = "Name another place with --output, or give write permission and free space there"


@contextmanager
def replacing(path: Path, suffix: str = "", remedy: str = _WRITABLE) -> Iterator[Path]:
    """Yield a temporary path next to `path`; what is written there takes the place of `path` when the block ends.

    Args:
        path: final place; its folder is made.
        suffix: of the temporary name, for libraries that choose a format by it.
        remedy: what the user can do where the place cannot be written.

    Raises:
        UserError: the place cannot be written (missing permission, full disk, a file where a folder is needed).
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{_own_prefix()}{os.getpid()}_", suffix=suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; results are ordinary files.
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        cause = system_error(error)
        if cause is not None:
            raise unwritable(path, cause, remedy) from error
        raise
    _sync_folder(path.parent)


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Report with its path a folder in which other code writes, where that fails.

    Args:
        folder: that the user named.

    Raises:
        UserError: the block could not write.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = system_error(error)
        if cause is None:
            raise
        raise unwritable(folder, cause) from error


def system_error(error: BaseException) -> OSError | None:
    """Return what the system said, or None where the error is none of a file.

    Args:
        error: torch's zip writer raises a RuntimeError of its own while that of a full disk is on its way.
    """
    if isinstance(error, OSError):
        return error
    hidden = error.__context__ if isinstance(error, RuntimeError) else None
    return hidden if isinstance(hidden, OSError) else None


@contextmanager
def filled_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder within `output`, whose entries move there when the block ends without an error.

    An interrupted call leaves nothing that could be mistaken for data; what it leaves is removed by the next one.

    Args:
        output: a new or an empty folder.

    Raises:
        UserError: `output` is a file, or holds something.
    """
    if output.exists() and not output.is_dir():
        raise UserError("is a file, not a folder", output, "name a new or an empty folder")
    if output.is_dir() and any(not path.name.startswith(_STAGING) for path in output.iterdir()):
        raise UserError("the folder is not empty", output, "name a new or an empty folder")
    with writing_in(output):
        output.mkdir(parents=True, exist_ok=True)
        for leftover in output.glob(f"{_STAGING}*"):  # of a call that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=output))
        try:
            yield staging
            for entry in sorted(staging.iterdir()):
                entry.rename(output / entry.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a binary file through `replacing`.

    Args:
        path: final place; its folder is made.
        write: called with the open binary file.

    Raises:
        UserError: the place cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        write(file)


def write_text(path: Path, text: str) -> None:
    """Write a text file, stored as UTF-8, through `replacing`.

    Args:
        path: final place; its folder is made.
        text: whole content.
    """
    # Names of files that are no text in the system's encoding have lone surrogates, which JSON writes as \udcff, too.
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def write_json(path: Path, value: Any) -> None:
    """Write plain values as indented JSON through `replacing`.

    Args:
        path: final place; its folder is made.
        value: dicts, lists, strings, finite numbers, booleans and None.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def decoded(content: bytes) -> str:
    """Return a text in UTF-8, in UTF-16 with or without its mark, or in a Windows code page, without the mark.

    Args:
        content: of the file.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding).lstrip("\ufeff")  # two programs may have set one
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):  # of Latin letters, every other byte is 0
        others = content[1 - start :: 2]
        if content and len(content) % 2 == 0 and not any(content[start::2]) and all(others):
            return content.decode(encoding)
    if b"\0" in content:
        raise UnicodeDecodeError("utf-8", content, content.index(b"\0"), content.index(b"\0") + 1, "no text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def read_json(path: Path, remedy: str = _RESTORE) -> Any:
    """Return the content of a JSON file, in any encoding of `decoded`.

    Args:
        path: the file.
        remedy: what the user can do where it cannot be read.

    Raises:
        UserError: there is no such file, or it is no JSON.
    """
    try:
        return json.loads(decoded(path.read_bytes()))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"cannot be read as JSON ({error})", path, remedy) from error


def read_rows(path: Path, needed: str = "", remedy: str = _RESTORE) -> list[dict[str, str]]:
    """Return the rows of a table that this package wrote; names of columns without the apostrophe of a formula.

    Args:
        path: the file.
        needed: a column that every row fills; empty: none.
        remedy: what the user can do where it cannot be read.

    Raises:
        UserError: there is no such file, or it is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = [without_apostrophe(name) for name in next(csv.reader(file), [])]
            rows = list(csv.DictReader(file, head, restval=""))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot be read as a table ({error})", path, remedy) from error
    if any(None in row or needed and not row.get(needed) for row in rows):
        column = f" or lack the column {needed}" if needed else ""
        raise UserError(f"is damaged: rows have more cells than its head{column}", path, remedy)
    return rows


def content_digest(path: Path) -> str:
    """Return a hash of a file's bytes, which notices a change that keeps size and time.

    Args:
        path: the file.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def zip_damage(path: Path) -> str | None:
    """Return what is wrong with a zip file by its checksums, or None when it is whole, or no zip file at all.

    torch writes a checksum with every tensor of a checkpoint and does not look at it when it reads.

    Args:
        path: for example a checkpoint of torch, or an archive of arrays.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        return str(error) or type(error).__name__
    return None if damaged is None else f"the checksum of its part {damaged} does not fit"


def require_writable(path: Path, folder: bool) -> None:
    """Make sure, before any work is done, that a result can be written.

    Args:
        path: the file or folder of the result; it and its parents may be missing, and nothing is made.
        folder: whether it is a folder.

    Raises:
        UserError: there is a file where a folder is needed or the other way round, or writing is not allowed.
    """
    if folder and path.exists() and not path.is_dir():
        raise UserError("is a file, expected a folder", where=path, remedy="Choose another --output")
    if not folder and path.is_dir():
        raise UserError("is a folder, expected a file", where=path, remedy="Choose another --output")
    try:
        place = next(p for p in ((path, *path.parents) if folder else path.parents) if p.exists())
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is a file, where a folder is needed")
        tempfile.TemporaryFile(dir=place, prefix=_PREFIX).close()
    except OSError as error:
        raise unwritable(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left of `replacing` in a folder.

    Args:
        folder: where files were written; may be missing.
    """
    for part in folder.glob(f"{_PREFIX}*"):
        part.unlink(missing_ok=True)


@lru_cache(maxsize=1000)  # once in each folder
def _remove_abandoned(folder: Path) -> None:
    """Delete what processes of this computer that are no more left in a folder, and leave what others write now."""
    for part in folder.glob(f"{glob.escape(_own_prefix())}*"):
        writer = part.name[len(_own_prefix()) :].partition("_")[0]
        if writer.isdecimal() and not _runs(int(writer)):
            with suppress(OSError):
                part.unlink()


def _own_prefix() -> str:
    """Return how names of files in the making begin on this computer; folders may be shared with others."""
    return f"{_PREFIX}{re.sub('[^A-Za-z0-9.-]', '', socket.gethostname())}_"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # of another user
    return True


def unwritable(path: Path, error: OSError, remedy: str = _WRITABLE) -> UserError:
    """Return the message for a place that cannot be written.

    Args:
        path: the place.
        error: what the system said.
        remedy: what the user can do.
    """
    return UserError(f"cannot be written: {error.strerror or error}", where=path, remedy=remedy)


def at_home(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading `~` replaced by the user's home, as a shell does it.

    Args:
        path: as given in Python or in a file, where no shell has seen it.
    """
    given = Path(path)
    return given.expanduser() if given.parts[:1] == ("~",) else given


def umask() -> int:
    """Return the process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems cannot; the file itself is safe
    finally:
        os.close(handle)
