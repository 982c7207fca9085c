"""Settings of the trained stages of AffinityNet (PSA, Ahn and Kwak, CVPR 2018) and of its boundary variant (IRN).

Numbers in brackets are sections of the AffinityNet specification.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section


class ConfidentConfig(Section):
    """Which pixels of the activation maps are trusted to teach affinity [4, 8]."""

    background: Literal["alpha", "constant"] = "alpha"
    """`alpha`: background score (1 - highest map)^alpha, as PSA; `constant`: fixed scores, 0.3 and 0.05, as IRN."""
    foreground_alpha: float = Field(4.0, ge=1)
    """`alpha`: exponent for sure foreground; a larger one gives more of it."""
    background_alpha: float = Field(32.0, ge=1)
    """`alpha`: exponent for sure background; a larger one gives less of it."""
    refine: Literal["none", "par", "crf"] = "par"
    """What lets scores follow intensity edges first: `par`, pixel-adaptive refinement; `crf`, the published dense CRF,
    exact and slow (PSA's of scores with `background: alpha`, IRN's of labels with `constant`)."""

    @model_validator(mode="after")
    def _check(self) -> ConfidentConfig:
        if self.foreground_alpha > self.background_alpha:
            raise ValueError("foreground_alpha must not exceed background_alpha")
        return self


class MapConfig(Section):
    """The classifier whose activation maps start AffinityNet."""

    pooling: Literal["max", "score_max", "logsumexp", "mean"] = "max"
    """`max`: highest value of each feature; `score_max`: highest score of each class; `logsumexp`: a smooth form of it;
    `mean`: as published, with dropout. On ACDC only the first looks at the object."""
    scales: list[Annotated[float, Field(gt=0)]] = [1.0]
    """Image sizes over which activation maps are summed [3]; each costs a pass. Published 1, 0.5, 1.5, 2."""
    flip: bool = False
    """Add the mirrored image to the activation maps [3]; off where left and right differ between classes."""
    background: float = Field(0.4, gt=0, le=1)
    """Constant background score of the prediction [3]; a larger one leaves less foreground. Published 0.2."""


class CamConfig(MapConfig):
    """The tag classifier of AffinityNet alone, with its activation maps: the CAM baseline."""

    name: Literal["cam"] = "cam"
    confident: ConfidentConfig = ConfidentConfig()


class WalkConfig(Section):
    """How activation maps are spread along affinities [6, 8]."""

    beta: float = Field(8.0, gt=0)
    """Sharpness of affinities; a larger one crosses weak links less. Published 8, boundary 10."""
    alpha: float = Field(16.0, ge=1)
    """Exponent of the background score that walks along."""
    background: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Constant background score after the walk instead, maps being divided by their peak; null: alpha. IRN: 0.25."""


PUBLISHED_BOUNDARY: dict[str, Any] = {
    "radius": 10.0,
    "train_backbone": False,
    "confident": {"background": "constant"},
    "walk": {"beta": 10.0, "background": 0.25},
}
"""What the boundary variant sets where the user does not [8]."""


class AffinityNetConfig(Section):
    """Pixel affinity (or boundaries), learned from confident activation maps or from weak labels."""

    name: Literal["affinitynet"] = "affinitynet"
    affinity: Literal["feature", "boundary"] = "feature"
    """`feature`: distance of features (PSA); `boundary`: strongest edge on the way (IRN), which brings its own
    defaults of `radius`, `train_backbone`, `confident` and `walk`."""
    classifier: Path | None = None
    """Run folder of a method `cam` with the same `cam` settings, which stays as it is; null trains one alongside."""
    cam: MapConfig = MapConfig()
    confident: ConfidentConfig = ConfidentConfig()
    walk: WalkConfig = WalkConfig()
    stride: Literal[2, 4, 8] = 4
    """Pixels from one cell of the affinity grid to the next. Published 8; ACDC's thinnest class is 5 pixels wide."""
    radius: float = Field(5.0, gt=1)
    """Pairs nearer than this many cells are learned; boundary published 10."""
    widths: tuple[int, int, int] = (32, 64, 128)
    """Channels from three depths of the backbone; published 64, 128, 256. `boundary` uses the first."""
    train_backbone: bool = True
    """Off: only the heads learn, as in IRN; a step costs half."""

    @model_validator(mode="before")
    @classmethod
    def _boundary_defaults(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("affinity") == "boundary":
            sections = {name: preset for name, preset in PUBLISHED_BOUNDARY.items() if isinstance(preset, dict)}
            parts = {name: {**preset, **_plain(values.get(name))} for name, preset in sections.items()}
            return {**PUBLISHED_BOUNDARY, **values, **parts}
        return values

    @model_validator(mode="after")
    def _check(self) -> AffinityNetConfig:
        if min(self.widths) < 8:
            raise ValueError(f"widths {list(self.widths)} must be 8 or more each")
        return self


def _plain(part: Any) -> Any:
    return part.model_dump() if isinstance(part, Section) else part or {}
