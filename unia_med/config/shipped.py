"""Where the shipped configs and pipelines lie: in the wheel inside the package, in a checkout next to it."""

from __future__ import annotations

from pathlib import Path

from unia_med.errors import UserError, suggestion
from unia_med.files import at_home

RENAMED = {"volumes.yaml": "volumes_tags.yaml"}
"""Shipped configs of version 0.1 by the name that they have now."""

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(kind: str = "configs") -> Path | None:
    """Return the folder of shipped files of this installation, or None when there is none.

    Args:
        kind: `configs` or `pipelines`.
    """
    inside, beside = _PACKAGE / kind, _PACKAGE.parent / kind
    if inside.is_dir():
        return inside
    # In site-packages a folder of that name may be anybody's; a checkout has its pyproject.toml next to it.
    is_checkout = (beside.parent / "pyproject.toml").is_file()
    return beside if is_checkout and beside.is_dir() else None


def shipped_configs(kind: str = "configs") -> list[Path]:
    """All shipped files, sorted by name.

    Args:
        kind: `configs` or `pipelines`.
    """
    folder = shipped_folder(kind)
    return sorted(folder.glob("*.yaml")) if folder else []


def find_config(name: str | Path, kind: str = "configs") -> Path:
    """Return the file behind a path, or behind the bare name of a shipped config.

    Args:
        name: an existing file wins; otherwise a bare name, with or without `.yaml`.
        kind: `configs` or `pipelines`.

    Raises:
        UserError: there is neither; the message holds the nearest shipped name.
    """
    path = at_home(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError("is a folder, expected a YAML file", where=name)
    shipped = {candidate.name: candidate for candidate in shipped_configs(kind)}
    bare = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    bare = RENAMED.get(bare, bare)
    if path.parent == Path() and bare in shipped:
        return shipped[bare]
    remedy = suggestion(bare, shipped) if shipped else "Give the path of a YAML file"
    raise UserError("no such file, and no shipped config of that name", where=name, remedy=remedy)
