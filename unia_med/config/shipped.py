"""Where the shipped configurations and pipelines lie: in the wheel inside the package, in a checkout beside it."""

from __future__ import annotations

from pathlib import Path

from unia_med.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str = "configs") -> Path:
    """The folder `configs` or `pipelines` of this installation."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def shipped_configs() -> list[Path]:
    """All shipped configurations, sorted by name."""
    return sorted(shipped_folder().glob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """The file behind a path or a shipped config's bare name.

    Raises:
        UserError: When there is neither, with the nearest shipped name.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {candidate.stem: candidate for candidate in shipped_configs()}
    bare = path.name.removesuffix(".yaml").removesuffix(".yml")
    if path.parent == Path() and bare in shipped:
        return shipped[bare]
    guess = nearest(bare, shipped)
    hint = f"did you mean {guess}.yaml? " if guess else ""
    raise UserError(
        "no such file, and no shipped config of that name",
        where=path,
        remedy=f"{hint}shipped are {', '.join(sorted(shipped)) or 'none'}",
    )
