"""Settings of a method that lies outside the package and registered itself; see `examples/custom_method.py`."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from unia_med.config.section import Section


class CustomConfig(Section):
    """A method of one's own, known to `unia_med.registry.METHODS` or to an installed package's entry points."""

    name: Literal["custom"] = "custom"
    use: str
    """Name under which the method was registered: `METHODS["mine"] = "my_module:MyMethod"` in Python, or an entry point
    of the group `unia_med.methods`. A config names it and never holds code."""
    settings: dict[str, JsonValue] = {}
    """Handed to the method as it stands, as `config.method.settings`; the method checks it."""
