"""Checksums of the files of a folder, in the form of the program `sha256sum`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from unia_med.files import write_text

_PART = 1 << 22


def write_sums(folder: Path, record: Path) -> None:
    """Write the SHA-256 of every file of a folder, in the form of `sha256sum`, which checks it, too.

    Args:
        folder: paths are relative to it.
        record: the file to write, within the folder; it is not among those files.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != record)
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_text(record, "".join(line for line in lines if "__pycache__" not in line))


def changed_files(folder: Path, record: Path) -> list[Path]:
    """Return the files of a folder that are not as they were when `write_sums` noted them; none without a record.

    Args:
        folder: paths are relative to it.
        record: as `write_sums` wrote it; a damaged one counts as changed itself.
    """
    try:
        sums = [line.split("  ", 1) for line in record.read_text(encoding="utf-8").splitlines()]
        noted = {folder / name: digest for digest, name in sums}
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return [record]
    return [path for path, digest in noted.items() if not path.is_file() or _sha256(path) != digest]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()
