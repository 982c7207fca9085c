"""Settings of a segmentation network on whatever pixels are labelled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section


class PartialWeights(Section):
    """Weights of the loss terms; 0 leaves a term out."""

    cross_entropy: float = Field(1.0, ge=0)
    """Cross-entropy, mean over the labelled pixels."""
    dice: float = Field(1.0, ge=0)
    """Soft Dice over the labelled pixels; useful where labels cover whole structures, not for thin scribbles."""
    annotations: float = Field(0.0, ge=0)
    """Cross-entropy on the weak labels alone, half background, half foreground: gives a few annotated pixels
    weight against many pseudo-labelled ones."""
    tags: float = Field(0.0, ge=0)
    """Classification of the slice by its most certain pixel of each class."""

    @model_validator(mode="after")
    def _check(self) -> PartialWeights:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0")
        return self


class PartialConfig(Section):
    """A segmentation network on labelled pixels alone: partial supervision, or full when all are labelled."""

    name: Literal["partial"] = "partial"
    weights: PartialWeights = PartialWeights()
    pseudo_confidence: float = Field(0.6, ge=0.5, lt=1)
    """Where no weak label is, the class of the prior's or the earlier round's scores is learned if its score is above
    this; doubtful pixels have 0.5."""
