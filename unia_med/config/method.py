"""Settings of the training methods, one model each.

Numbers marked [R] are the published ones of UniA (UniA specification, sections 7-17); the defaults depart from them
where the published code is known to be wrong or unfit for cardiac slices.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class ThresholdConfig(Section):
    """How an activation map in [0, 1] becomes a label (section 7)."""

    high: Fraction = 0.70
    """Above it a pixel is foreground; a larger value labels less."""
    low: Fraction = 0.25
    """Up to it a pixel is background; between low and high it is ignored."""
    background: Fraction = 0.50
    """Two-valued rule used where nothing may be ignored (validation table)."""

    @model_validator(mode="after")
    def _check(self) -> ThresholdConfig:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


class LossWeights(Section):
    """Weight of each loss term (section 16); a term of weight 0 is not computed."""

    classification: Weight = 1.0
    auxiliary: Weight = 1.0
    distribution: Weight = 0.1
    affinity: Weight = 0.1
    token_contrast: Weight = 0.2
    segmentation: Weight = 1.0
    dense_energy: Weight = 0.05


class GateConfig(Section):
    """When a part starts, as a fraction of all iterations (section 16)."""

    segmentation: Fraction = 0.10
    token_contrast: Fraction = 0.0
    affinity: Fraction = 0.0
    row2: Fraction = 0.30
    """From here on a label on which activation map and pixel refinement agree wins (section 11, row 2)."""
    final_labels: Fraction = 0.40
    """From here on the fused label replaces the auxiliary one as target of the affinity and distribution losses."""
    row1: Fraction | None = None
    """From here on the activation map fills what pixel refinement ignores; published for ACDC as 0.45. null: never,
    since the maps of MYO and LV coincide (section B6)."""


class PixelRefineConfig(Section):
    """Pixel-adaptive refinement, PAR (section 8)."""

    dilations: list[Annotated[int, Field(ge=1)]] = [1, 2, 4, 8, 12, 24]
    """Distances in pixels of the 8-neighbourhoods; scale them with the input size."""
    iterations: int = Field(10, ge=0)
    """Propagation steps; more smooth further."""


PUBLISHED: dict[str, Any] = {
    "scales": [1.0, 0.5, 0.75, 1.5],
    "flip": True,
    "weights": {"token_contrast": 0.3, "affinity": 0.1, "distribution": 0.1, "segmentation": 0.15, "dense_energy": 0.05},
    "affinity_loss": "infonce_all",
    "affinity_norm": "none",
    "affinity_power": 1,
    "shared_statistics_head": True,
    "feature_factor": 2.0,
    "label_source": "P2",
}
"""What preset `published` sets where the config says nothing: VOC settings of the authors' log."""


class UniaConfig(Section):
    """UniA: uncertainty inference and affinity diversification from image tags."""

    name: Literal["unia"] = "unia"
    preset: Literal["default", "published"] = "default"
    """Starting point of the settings below: this package's, or the published ones [R]."""
    thresholds: ThresholdConfig = ThresholdConfig()
    scales: list[Annotated[float, Field(gt=0, le=4)]] = [1.0]
    """Input scales of the activation maps; more are slower. [R] 1, 0.5, 0.75, 1.5."""
    flip: bool = False
    """Also use mirrored images for activation maps. [R] true; off for hearts, where left and right differ (B3)."""
    weights: LossWeights = LossWeights()
    gates: GateConfig = GateConfig()
    distribution: Literal["kl", "vae", "variance_aware"] = "kl"
    """Form of the distribution loss (section 4). [R] kl."""
    affinity_loss: Literal["contrastive", "infonce_all", "margin"] = "contrastive"
    """Form of the affinity loss (section 12). [R] infonce_all."""
    affinity_temperature: float = Field(0.5, gt=0)
    """Temperature of the contrastive forms; smaller is sharper."""
    affinity_norm: Literal["sinkhorn", "column", "none"] = "sinkhorn"
    """How affinities are scaled before labels are spread along them (section 10). [R] none."""
    affinity_power: int = Field(2, ge=1, le=4)
    """Exponent applied to affinities first; larger trusts strong links more."""
    affinity_steps: int = Field(1, ge=1, le=4)
    """How often labels are spread."""
    radius: int = Field(7, ge=1)
    """Tokens further apart than this (Chebyshev distance) are unrelated."""
    mask: Literal["multiplicative", "bias"] = "multiplicative"
    """How ambiguous tokens are masked (section 3, step 6). [R] multiplicative."""
    shared_statistics_head: bool = False
    """[R] true: one projection gives both log-variance and mean [A1]."""
    feature_factor: float = Field(1.0, gt=0)
    """Factor on the masked features; [R] 2 [A5]."""
    par: PixelRefineConfig = PixelRefineConfig()
    label_source: Literal["P1", "P2", "F"] = "F"
    """What trains the decoder after the gate `final_labels`: the activation map, its pixel refinement, or the fused
    label. Before it always P2. [R] P2."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("preset") != "published":
            return values
        return _overlay(PUBLISHED, values)


class SupervisedConfig(Section):
    """Full supervision with masks: the upper bound beside weak results."""

    name: Literal["supervised"] = "supervised"


MethodConfig = Annotated[UniaConfig | SupervisedConfig, Field(discriminator="name")]


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """The base with every value that top names replaced, folder by folder."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _overlay(base[key], value) if both else value
    return merged
