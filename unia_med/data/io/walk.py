"""The one way to search a folder for files: links are followed once, and skipped files are counted and reported."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from unia_med.data.io.label_names import NAMED
from unia_med.data.io.suffixes import PAIR_SUFFIXES, UNREAD_SUFFIXES, volume_suffix

_LOG = logging.getLogger(__name__)
_WILD = re.compile(r"\[!?[^]]+\]|.", re.DOTALL)
_SHOWN = 3
"""Paths named for each reason."""

DANGLING = "linked to nothing"
LOOP = "linked to a folder that is searched anyway"
CLOSED = "in a folder that may not be read"
NO_FILE = "a pipe, socket or device and no file"
UNREAD = "in a format that is not read"
HIDDEN = "hidden, with a dot before the name"
NO_HEADER = "without its .hdr"


@dataclass
class LeftOut:
    """Files that a search skipped, by reason.

    Example:
        >>> left = LeftOut()
        >>> left.add(Path("a/x_seg.nii.gz"), "named like a result")
        >>> left.line(2, "image")
        'found 2 images, left out 1: 1 named like a result (a/x_seg.nii.gz)'
        >>> LeftOut().line(1, "image")
        'found 1 image'
    """

    by_reason: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, path: Path, why: str) -> None:
        """Count a file.

        Args:
            path: the file or folder.
            why: the reason, a phrase that follows a number and fits one and many: "named like a result".
        """
        self.by_reason.setdefault(why, []).append(path)

    def add_all(self, paths: Iterable[Path], why: str) -> None:
        """Count files, in order of their paths.

        Args:
            paths: the files.
            why: as in `add`.
        """
        for path in sorted(paths):
            self.add(path, why)

    def line(self, count: int, what: str) -> str:
        """Return "found N, left out M: why".

        Args:
            count: files that were taken.
            what: a word for one of them; its plural ends in s.
        """
        head = f"found {count} {what}{'' if count == 1 else 's'}"
        total = sum(map(len, self.by_reason.values()))
        if not total:
            return head
        return f"{head}, left out {total}: {'; '.join(_told(why, paths) for why, paths in self.by_reason.items())}"

    def say(self, count: int, what: str, where: Path) -> None:
        """Log that line.

        Args:
            count: files that were taken.
            what: a word for one of them.
            where: the folder that was searched.
        """
        _LOG.info("%s: %s", where, self.line(count, what))


def walk(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """Return all files of a folder and below it, in order of their paths.

    Links to folders are followed; a folder that two ways lead to is searched once, by the way without links where there
    is one, so that loops end and no file is met twice.

    Args:
        folder: where to search; it exists.
        left_out: counts links that lead nowhere, links to folders that are searched anyway, and closed folders.
    """
    left = LeftOut() if left_out is None else left_out
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    links: list[Path] = []
    while waiting or links:
        linked = not waiting
        place = waiting.pop() if waiting else links.pop(0)
        if not _first_visit(place, seen):
            if linked:
                left.add(place, LOOP)
            continue
        for entry in _entries(place, left):
            path = place / entry.name
            fault, mode = _looked_at(path)
            if fault:
                left.add(path, fault)
            elif stat.S_ISDIR(mode):
                (links if entry.is_symlink() else waiting).append(path)
            elif stat.S_ISREG(mode):
                files.append(path)
            else:
                left.add(path, NO_FILE)
    return sorted(files)


def find_volumes(
    folder: Path, left_out: LeftOut | None = None, wanted: Callable[[Path], object] = volume_suffix
) -> list[Path]:
    """Return the volumes of a folder and below it, in order of their paths; a pair of .hdr and .img is one, its .hdr.

    Args:
        folder: where to search; it exists.
        left_out: counts hidden files, formats that are not read, and what `walk` passes over.
        wanted: what files are taken, by suffix.
    """
    left = LeftOut() if left_out is None else left_out
    dangling = LeftOut()
    files = walk(folder, dangling)
    for why, paths in dangling.by_reason.items():
        for path in paths:
            may_be_folder = why == DANGLING and not path.suffix  # perhaps a folder on a drive that is not there
            if why not in (DANGLING, NO_FILE) or wanted(path) or may_be_folder:
                left.add(path, why)
    present = set(files)
    return [path for path in files if _is_taken(path, present, left, wanted)]


def glob_matcher(pattern: str) -> Callable[[str], object]:
    """Return a test of paths, written with slashes, against a glob pattern; links to folders count as folders.

    Args:
        pattern: as in `pathlib.Path.glob`: `*` and `?` within a folder's name, `**` for any number of folders.

    Example:
        >>> fits = glob_matcher("**/images/*.nii.gz")
        >>> bool(fits("images/a.nii.gz")), bool(fits("site/2/images/b.nii.gz")), bool(fits("images/x/c.nii.gz"))
        (True, True, False)
    """
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    parts = ["(?:[^/]+/)*" if name == "**" else f"{_WILD.sub(_translated, name)}/" for name in names]
    if names[-1:] == ["**"]:
        parts.append("[^/]+/")
    return re.compile("".join(parts)[:-1]).fullmatch


def _translated(part: re.Match[str]) -> str:
    found = part[0]
    if found in ("*", "?"):
        return "[^/]*" if found == "*" else "[^/]"
    if len(found) > 1:
        return f"[^{found[2:]}" if found[1] == "!" else found
    return re.escape(found)


def _told(why: str, paths: list[Path]) -> str:
    if why == NAMED:  # expected next to images
        return f"{len(paths)} {why}"
    shown = ", ".join(str(path) for path in paths[:_SHOWN])
    return f"{len(paths)} {why} ({shown}{', ...' if len(paths) > _SHOWN else ''})"


def _first_visit(folder: Path, seen: set[tuple[int, int]]) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return False
    identity = (status.st_dev, status.st_ino)
    if identity in seen and identity != (0, 0):  # some network file systems number nothing
        return False
    seen.add(identity)
    return True


def _looked_at(path: Path) -> tuple[str, int]:
    """Return why an entry of a folder leads nowhere, or nothing, and the mode of what it leads to."""
    try:
        return "", path.stat().st_mode
    except PermissionError:
        return CLOSED, 0
    except OSError:
        return DANGLING, 0


def _entries(folder: Path, left: LeftOut) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        left.add(folder, CLOSED)
        return []


def _is_taken(path: Path, present: set[Path], left: LeftOut, wanted: Callable[[Path], object]) -> bool:
    if not wanted(path):
        if not path.name.startswith(".") and path.name.lower().endswith(UNREAD_SUFFIXES):
            left.add(path, UNREAD)
        return False
    if path.name.startswith("."):
        left.add(path, HIDDEN)
        return False
    suffix = next((known for known in PAIR_SUFFIXES if path.name.lower().endswith(known)), "")
    if not suffix.startswith(".img"):
        return True
    if _header_of(path) not in present:
        left.add(path, NO_HEADER)
    return False


def _header_of(path: Path) -> Path:
    """Return the path of the header that belongs to the voxels in an `.img` or `.img.gz`."""
    stem, img, rest = path.name.rpartition(".img") if ".img" in path.name else path.name.rpartition(".IMG")
    header = ".hdr" if img == ".img" else ".HDR"
    return path.with_name(f"{stem}{header}{rest}")
