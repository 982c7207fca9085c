"""Settings of AGMM. Numbers in brackets are sections of the AGMM specification."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section


class AgmmWeights(Section):
    """Weights of the loss terms [6]; a term of weight 0 is not computed."""

    segmentation: float = Field(1.0, ge=0)
    """Cross-entropy on labelled pixels."""
    self_supervision: float = Field(1.0, ge=0)
    """Between the mixture's responses and the network's probabilities, everywhere."""
    mixture: float = Field(1.0, ge=0)
    """What trains the mixture on labelled pixels, see `mix_loss`."""
    separation: float = Field(1.0, ge=0)
    """Pushes the centres of classes apart; with `mix_loss: bce` only."""
    absent_classes: float = Field(0.5, ge=0)
    """Classes known to be absent must not be predicted [11: 0.5 on ACDC; published 1]."""
    classification: float = Field(0.0, ge=0)
    """Tag classifier whose activation maps give seeds; with `seeds.use` only."""

    @model_validator(mode="after")
    def _check(self) -> AgmmWeights:
        if self.segmentation == 0:
            raise ValueError("segmentation must be above 0")
        return self


class SeedSettings(Section):
    """Labels from activation maps, for classes that are tagged in a slice but not drawn there [8]."""

    use: bool = False
    """Needed with image-level tags; sharpens boxes and fills in classes that were not drawn."""
    start: float = Field(0.2, ge=0, le=1)
    """Share of the iterations before the first seeds; until then only the classifier learns from tags."""


RELEASED: dict[str, Any] = {
    "centres_per_class": [1],
    "variance": "fixed",
    "em_rounds": 0,
    "mix_loss": "bce",
    "self_target": "response",
    "self_ramp": 0.0,
    "balance": 0.0,
    "position_weight": 0.0,
    "intensity_weight": 0.0,
    "weights": {"absent_classes": 1.0},
}
"""One Gaussian exp(-d^2) per class on 256 channels, all losses from the first step with weight 1 [5, 6]. Its sum of
class centres over a batch is a mean here [10.1]."""


class AgmmConfig(Section):
    """AGMM: adaptive Gaussian mixtures on sparse labels (Wu et al., CVPR 2023 and TPAMI 2025)."""

    name: Literal["agmm"] = "agmm"
    preset: Literal["default", "released"] = "default"
    """`released`: the form of the released conference code, see `RELEASED`; what is set besides wins."""
    weights: AgmmWeights = AgmmWeights()
    balance: float = Field(0.0, ge=0, le=1)
    """How alike classes count in the losses on labelled pixels: 0: by their pixels, as published; 1: all classes of a
    batch the same. Where a rule completes the background, it has a hundred times the pixels of the scribbles."""
    centres_per_class: list[Annotated[int, Field(ge=1, le=8)]] = Field([3, 1], min_length=1)
    """Gaussians of the background, then of each class; the last number holds for all further classes. Lung, fat,
    muscle and vessels are no single Gaussian [11]."""
    variance: Literal["adaptive", "fixed", "pooled"] = "adaptive"
    """`adaptive`: of the predicted class, per slice [5]; `fixed`: exp(-d^2), what the released code runs; `pooled`: the
    adaptive ones' mean, so that a broad class does not take all pixels that lie between centres."""
    em_rounds: int = Field(2, ge=0, le=10)
    """Rounds of online expectation-maximisation per step [7]; 0: centres of the labelled pixels alone."""
    mix_loss: Literal["posterior", "bce"] = "posterior"
    """`posterior`: log posterior of the labelled class [7]; `bce`: as released, cross-entropy and `separation`."""
    self_target: Literal["response", "posterior"] = "response"
    """What the network is compared with: unnormalised responses, as published, or posteriors, which sum to 1."""
    self_ramp: float = Field(0.2, ge=0, le=1)
    """Share of the iterations over which `self_supervision` rises linearly to its weight [11]; published 0."""
    position_weight: float = Field(0.0, ge=0)
    """Adds this times the mean offset along both axes, in half image sides, to the distance in features [11]."""
    intensity_weight: float = Field(0.0, ge=0)
    """Adds this times the difference in intensity, of an image in [0, 1], to the distance in features. Sparse labels
    lie in the middle of structures; without it the network halves the way between them, wherever the edge is."""
    seeds: SeedSettings = SeedSettings()

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") == "released":
            weights = values.get("weights") or {}
            weights = weights.model_dump() if isinstance(weights, Section) else weights
            return {**RELEASED, **values, "weights": {**RELEASED["weights"], **weights}}
        return values

    @model_validator(mode="after")
    def _check(self) -> AgmmConfig:
        if self.seeds.use and self.weights.classification == 0:
            raise ValueError("seeds.use needs weights.classification above 0: the maps are those of the tag classifier")
        return self
