"""Settings of a method that lies outside the package: a file, or a registered name; see `examples/custom_method.py`."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from unia_med.config.section import Section

FILE_MARK = ".py:"
"""In `method.use`: what stands before the colon is a file, and not a registered name."""


class CustomConfig(Section):
    """A method of one's own: a class in a Python file, or one that is registered or offered by an installed package."""

    name: Literal["custom"] = "custom"
    use: str
    """`file.py:Class`, the file relative to the config's folder; it is run, so train and predict with files that you
    trust. Or a name: `METHODS["mine"] = "my_module:MyMethod"` in Python, or an entry point of the group
    `unia_med.methods`."""
    digest: str | None = None
    """Hash of the file, written into run folders with a copy of it; a copy that was changed since is refused. No need
    to set it."""
    settings: dict[str, JsonValue] = {}
    """Handed to the method as it stands, as `config.method.settings`; the method checks it."""
