"""Settings of AA&LR."""

from __future__ import annotations

from typing import Literal

from unia_med.config.section import Section


class AalrConfig(Section):
    """AA&LR: single stage, adaptive affinity loss and label reassign loss."""

    name: Literal["aalr"] = "aalr"
