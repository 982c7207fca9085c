"""Settings of the method UniA, with the published form as a named preset.

Numbers in brackets are sections and defects of the UniA specification (Yang et al., IEEE TMM 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section


class ThresholdSettings(Section):
    """Background thresholds on class scores in [0, 1] [7]; the published VOC values are 0.70 / 0.25 / 0.50."""

    high: float = Field(0.70, ge=0, le=1)
    """Score above which a pixel gets its best class; a larger one labels less foreground."""
    low: float = Field(0.25, ge=0, le=1)
    """Score below which a pixel is background; between the two it is ignored."""
    background: float = Field(0.50, ge=0, le=1)
    """Threshold of the CAM column in the validation table."""

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdSettings:
        if self.low > self.high:
            raise ValueError(f"low {self.low} must not exceed high {self.high}")
        return self


class WeightSettings(Section):
    """Weights of the loss terms [16]; a term of weight 0 is not computed."""

    classification: float = Field(1.0, ge=0)
    """Tag classifier on the last features, whose activation maps become P1."""
    auxiliary: float = Field(1.0, ge=0)
    """Tag classifier on earlier features, whose maps guide the token contrast."""
    distribution: float = Field(0.1, ge=0)
    """Loss on the distribution of the Gaussian features, of the form that `distribution` names."""
    affinity: float = Field(0.1, ge=0)
    """Tokens of one class are drawn together, those of different classes apart."""
    token_contrast: float = Field(0.3, ge=0)
    """Contrast of the last tokens by the auxiliary maps, against over-smoothing (ToCo)."""
    segmentation: float = Field(0.15, ge=0)
    """Cross-entropy of the decoder on the refined labels."""
    dense_energy: float = Field(0.05, ge=0)
    """Near pixels of like intensity are predicted alike; the costliest term on a CPU."""


class GateSettings(Section):
    """When terms and rules switch on, as fractions of all iterations [6.11, 16, B6]; 1 means never."""

    token_contrast: float = Field(0.0, ge=0, le=1)
    """Start of the token contrast."""
    affinity: float = Field(0.0, ge=0, le=1)
    """Start of the affinity loss."""
    segmentation: float = Field(0.10, ge=0, le=1)
    """Start of the segmentation loss."""
    agreement: float = Field(0.30, ge=0, le=1, description="row 2 of the refinement: where CAM and PAR agree")
    final_labels: float = Field(0.40, ge=0, le=1, description="auxiliary labels give way to the fused ones")
    trust_cam: float = Field(1.0, ge=0, le=1, description="row 1, published for ACDC at 0.45; off by default [B6]")


PUBLISHED: dict[str, Any] = {
    "scales": (1.0, 0.5, 0.75, 1.5),
    "flip": True,
    "distribution": "kl",
    "affinity_loss": "infonce_all",
    "affinity_norm": "none",
    "label_source": "P2",
    "refine_pull": 1.0,
    "mask": "multiplicative",
    "segmentation_dice": False,
    "gates": {"segmentation": 0.10, "agreement": 0.30, "final_labels": 0.40},
}
"""[R]: what the public VOC script computes, as far as it is a setting."""
SCORE_PULL = 0.6
"""`refine_pull` for scores of a prior or of a round, and where nothing else is set."""


@dataclass(frozen=True)
class UniaForm:
    """What a preset decides besides settings.

    Attributes:
        shared_head: the mean goes through the log-variance's head [A1].
        doubled_features: features are doubled after the residual [A5].
        draw_samples: samples of the distribution map are drawn one by one, not in closed form [A3].
        token_purity: tokens of whose pixels a smaller share has one label are ignored [B3].
        relative_reach: dilations are shares of the image, and small images are refined at full size; otherwise
            dilations are pixels of the halved image.
        refine_temperature: of the softmax before the refinement.
        keep_detail: P3 keeps what is finer than a token.
        whole_cells: border tokens that fill no cell of 4 x 4 take part in the spatial branch [A24].
        sampled_target: the target of the distribution map is resized bilinearly, which reads 4 pixels a token [A14].
        relative_uncertainty: U is a slice's largest channel over its maximum, not comparable between slices [3.8].
        affinity_source: label of the affinity loss after `final_labels`; None: as the decoder [A9].
        distribution_source: label of the distribution map after `final_labels`; None: as the decoder [A10].
    """

    shared_head: bool = False
    doubled_features: bool = False
    draw_samples: bool = False
    token_purity: float = 0.6
    relative_reach: bool = True
    refine_temperature: float = 0.1
    keep_detail: bool = True
    whole_cells: bool = True
    sampled_target: bool = False
    relative_uncertainty: bool = False
    affinity_source: Literal["auxiliary"] | None = None
    distribution_source: Literal["F"] | None = None


FORMS = {
    "default": UniaForm(),
    "published": UniaForm(
        shared_head=True,
        doubled_features=True,
        draw_samples=True,
        token_purity=0.0,
        relative_reach=False,
        refine_temperature=1.0,
        keep_detail=False,
        whole_cells=False,
        sampled_target=True,
        relative_uncertainty=True,
        affinity_source="auxiliary",
        distribution_source="F",
    ),
}
"""The form of each preset."""


class UniaConfig(Section):
    """UniA: image-level labels, Gaussian features with uncertainty, affinity diversification."""

    name: Literal["unia"] = "unia"
    preset: Literal["default", "published"] = "default"
    """`published`: what the public VOC script computes; settings that are written out win over it."""
    thresholds: ThresholdSettings = ThresholdSettings()
    weights: WeightSettings = WeightSettings()
    gates: GateSettings = GateSettings()
    scales: tuple[float, ...] = (1.0,)
    """Image sizes over which activation maps are summed [6]; each but 1.0 costs a pass."""
    flip: bool = False
    """Add the mirrored image to the activation maps; off where left and right differ between classes [B3]."""
    cam_source: Literal["final", "auxiliary"] = Field(
        "final", description="features whose activation maps make P1: Z as published, or those before the last blocks"
    )
    cam_normalisation: Literal["class", "slice", "running"] = "class"
    """What becomes 1: `class`: the peak of each map, as published [6]; `slice`: the highest peak of a slice's maps;
    `running`: the running mean, over training, of the slices' highest peaks, so that a faint slice stays faint."""
    distribution: Literal["kl", "vae", "variance_aware", "heteroscedastic"] = "kl"
    """`kl`, published [4.1]: means rise on foreground, and the variances stay as they began; `vae` [4.2]: variances are
    drawn to 1 as well; `variance_aware` [4.3]: they shrink to their floor; none makes them say where errors are.
    `heteroscedastic` (not published; after Kendall and Gal 2017): the variance of a token is fitted to the squared
    error of the decoder there, so that U is high where it errs."""
    mask: Literal["off", "plain", "multiplicative", "bias"] = "multiplicative"
    """How features look away from ambiguous tokens: `multiplicative` scales them by their certainty, as published;
    `bias` lowers their weight; `plain` attends to all alike; `off` leaves the backbone's features as they are."""
    affinity_loss: Literal["contrastive", "infonce_all", "margin"] = "contrastive"
    """Form of the affinity loss [12]: this toolkit's own (`contrastive`), the published one (`infonce_all`) or AFA's
    (`margin`). Their ranges differ: a weight chosen for one does not fit another."""
    affinity_norm: Literal["sinkhorn", "column", "none"] = "sinkhorn"
    """How the affinity matrix is normalised before it spreads the maps: rows and columns of sum 1 (`sinkhorn`), columns
    divided by their sum + 0.1, or not at all, as published [10]."""
    radius: int = Field(7, ge=1, description="neighbourhood of the affinity in tokens, Chebyshev [9]")
    label_source: Literal["P1", "P2", "F"] = Field("F", description="label of the decoder after `final_labels`")
    refine_pull: float = Field(SCORE_PULL, gt=0, le=1)
    """Share of the neighbours in each step of the refinement of activation maps by pixels [8], the rest being its own
    score. 1, as published, leaves borders to the image alone, which suits even objects with a clear edge; less keeps
    thin and textured ones. Scores of a prior always have 0.6."""
    dense_energy_grid: int = Field(64, ge=8, description="longest side in pixels; above 40 a CPU approximates [A16]")
    segmentation_loss: Literal["balanced", "plain"] = Field(
        "balanced", description="cross-entropy of background and of foreground, as published [14], or of all pixels"
    )
    segmentation_dice: bool = Field(False, description="add soft Dice to the balanced cross-entropy")

    @property
    def form(self) -> UniaForm:
        """What the preset decides besides settings."""
        return FORMS[self.preset]

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") == "published":
            return {**PUBLISHED, **values}
        return values
