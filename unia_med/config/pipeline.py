"""Settings of a recipe: several runs that feed each other, as `unia-med pipeline` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section


class StageConfig(Section):
    """One stage of a recipe."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """What the stage and its folder are called: small letters, digits, underscores."""
    step: str
    """What it does: a name in `unia_med.registry.STEPS`."""
    settings: dict[str, Any] = {}
    """Settings of the step; for `train` those of a config file, laid over the recipe's `config`."""
    reads: dict[str, str] = {}
    """Earlier stages by the setting that takes their output, e.g. `data.labels: confident`."""


class RecipeConfig(Section):
    """A recipe: what all stages share, and the stages in order."""

    config: dict[str, Any] = {}
    """Settings that every training of the recipe shares, as in a config file."""
    stages: list[StageConfig] = Field(min_length=1)
    """The stages, each after those it reads."""

    @model_validator(mode="after")
    def _check(self) -> RecipeConfig:
        known: list[str] = []
        for stage in self.stages:
            if stage.name in known:
                raise ValueError(f"two stages are called '{stage.name}'")
            for read in stage.reads.values():
                if read not in known:
                    earlier = f"earlier ones are {', '.join(known)}" if known else "it is the first"
                    raise ValueError(f"stage '{stage.name}' reads '{read}', which is no earlier stage; {earlier}")
            known.append(stage.name)
        return self


class LabelStepConfig(Section):
    """The step `labels`: a trained run labels the training volumes, on their own grid."""

    run: Path
    """Run folder of the network; usually given by `reads`."""
    column: str
    """Which of the method's label maps: `confident`, `walk`, `CAM`, ... (those of the validation table)."""
    method: dict[str, Any] = {}
    """Settings of the method that take other values than in the run, such as thresholds."""
    seeds: Literal["none", "labels"] = "none"
    """`labels`: give the method the weak labels of the run's data, which it trusts."""
    score: bool = False
    """Compare the labels with the masks of training cases that have one, for `quality.json`; nothing else reads it."""
