"""Settings of AGMM."""

from __future__ import annotations

from typing import Literal

from unia_med.config.section import Section


class AgmmConfig(Section):
    """AGMM: online Gaussian mixtures on sparse labels."""

    name: Literal["agmm"] = "agmm"
