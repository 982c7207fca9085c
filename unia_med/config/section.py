"""The base of every part of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from unia_med.files import at_home


class Section(BaseModel):
    """A group of settings: typed, complete, unchangeable; unknown keys are refused.

    The string below a field is its help: unit, range and what a larger value does. `config.describe` reads it from the
    source when it is asked for; pydantic's `use_attribute_docstrings` would parse all sources at import.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,
    )

    @field_validator("*", mode="after")
    @classmethod
    def _home_is_expanded(cls, value: Any) -> Any:
        """Replace a leading `~` in paths, which no shell does in a YAML file."""
        return at_home(value) if isinstance(value, Path) else value
