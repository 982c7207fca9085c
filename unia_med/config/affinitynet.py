"""Settings of the trained stages of AffinityNet."""

from __future__ import annotations

from typing import Literal

from unia_med.config.section import Section


class CamConfig(Section):
    """The classifier whose activation maps start AffinityNet; alone, the CAM baseline."""

    name: Literal["cam"] = "cam"


class AffinityNetConfig(Section):
    """Pixel affinity (or boundaries), learned from confident activation maps."""

    name: Literal["affinitynet"] = "affinitynet"
