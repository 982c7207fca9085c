"""Settings of plain cross-entropy on whatever pixels are labelled."""

from __future__ import annotations

from typing import Literal

from unia_med.config.section import Section


class PartialConfig(Section):
    """A segmentation network on labelled pixels alone: partial supervision, or full when all are labelled."""

    name: Literal["partial"] = "partial"
