"""The exception for faults of the user's input: what is wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SHORT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_MEMORY = "Close other programs, take a computer with more memory, or cut the image to the region that matters"


class UserError(Exception):
    """A fault in what the user gave: a file, a key, a case.

    The command line prints it as one message without traceback and ends with exit code 2.

    Args:
        what: what was found and, where it helps, what was expected.
        where: the file, configuration key or case at fault.
        remedy: what to do about it.

    Example:
        >>> print(UserError("file not found", where="scan.nii.gz", remedy="check --input"))
        scan.nii.gz: file not found. check --input
    """

    def __init__(self, what: str, where: str | Path | None = None, remedy: str | None = None) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where is not None else ""
        cure = f"{'' if self.what.endswith(('.', '!', '?')) else '.'} {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{cure}"


def memory_fault(error: BaseException, where: str | Path | None = None) -> UserError | None:
    """Return the message for an error that says that memory is short; None for any other.

    Args:
        error: a MemoryError, or one of torch, which raises a RuntimeError.
        where: what was worked on.

    Example:
        >>> print(memory_fault(RuntimeError("DefaultCPUAllocator: can't allocate memory"), "a.nii").what)
        not enough memory (DefaultCPUAllocator: can't allocate memory)
        >>> memory_fault(RuntimeError("shapes differ")) is None
        True
    """
    said = str(error).splitlines()[0] if str(error) else ""
    torch_says = isinstance(error, RuntimeError) and any(words in said.lower() for words in _SHORT_OF_MEMORY)
    if not isinstance(error, MemoryError) and not torch_says:
        return None
    return UserError(f"not enough memory{f' ({said})' if said else ''}", where, _MEMORY)


@contextmanager
def memory_checked(where: str | Path | None = None) -> Iterator[None]:
    """Turn an allocation that fails within the block into a `UserError`, so that one large image costs no other.

    Args:
        where: what is worked on.

    Raises:
        UserError: memory is short.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        fault = memory_fault(error, where)
        if fault is None:
            raise
        raise fault from error


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option most like a misspelt name, or None when none is close.

    Args:
        name: what the user wrote; case does not matter.
        options: the names that would have been right.

    Example:
        >>> nearest("wieghts", ["weights", "width"])
        'weights'
        >>> nearest("colour", ["weights", "width"]) is None
        True
    """
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def suggestion(name: str, options: Iterable[str]) -> str:
    """Return a remedy for an unknown name: the nearest known one, then all of them.

    Args:
        name: what the user wrote.
        options: the names that would have been right.

    Example:
        >>> suggestion("unai", ["unia", "supervised"])
        "Did you mean 'unia'? Known: supervised, unia"
    """
    known = sorted(options)
    guess = nearest(name, known)
    listing = f"Known: {', '.join(known)}"
    return f"Did you mean '{guess}'? {listing}" if guess else listing
