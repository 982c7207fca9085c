"""Settings of AA&LR. Numbers in brackets are sections of the AA&LR specification."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unia_med.config.section import Section


class AalrWeights(Section):
    """Weights of the loss terms [7]; a term of weight 0 is not computed."""

    classification: float = Field(1.0, ge=0)
    """Tag classifier, whose activation maps become pseudo labels."""
    segmentation: float = Field(1.0, ge=0)
    """Cross-entropy on pseudo labels."""
    adaptive_affinity: float = Field(0.1, ge=0)
    """Not published; 0.03 to 0.3 are worth a search."""
    label_reassign: float = Field(0.05, ge=0)
    """Not published; 0.03 to 0.3 are worth a search."""


class AalrGates(Section):
    """When terms and rules begin, as fractions of all iterations [7]; 1 means never."""

    segmentation: float = Field(0.25, ge=0, le=1)
    """Start of the segmentation loss."""
    adaptive_affinity: float = Field(0.40, ge=0, le=1)
    """Start of the affinity loss."""
    label_reassign: float = Field(0.50, ge=0, le=1)
    """Also from here on reassigned labels take the place of the old ones in the other terms."""
    agreement: float = Field(0.40, ge=0, le=1)
    """From here on a pseudo label counts as much as the network believes in it [3]."""
    grow: float = Field(0.50, ge=0, le=1)
    """From here on, slices with drawn labels also learn from pixels about which network and centres agree [11]; needs
    the reassign loss, whose centres these are."""
    ramp: float = Field(0.10, ge=0, le=1)
    """Share of the iterations over which the affinity and the reassign loss rise linearly to their weight."""


class AffinitySettings(Section):
    """The adaptive affinity loss [5]."""

    offsets: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 4], min_length=1)
    """Distances of a pixel's 8 neighbours in pixels; the loss is averaged over them. Published 4; a 4 px step from the
    middle of a thin structure leaves it [11]."""
    weighting: Literal["max", "min", "mean", "none"] = "max"
    """How the confidences of a pair's ends become its weight; `none` is the ablation without adaptation."""


class ReassignSettings(Section):
    """The label reassign loss [6], designed for this toolkit from its published description."""

    temperature: float = Field(0.1, gt=0)
    """Of the softmax over cosines; larger blurs memberships."""
    lead: float = Field(0.3, ge=0, le=1)
    """By how much another class's membership must exceed that of a point's label to replace it."""
    cap: float = Field(0.3, ge=0, le=1)
    """Share of a slice's points of one class that it may lose to others in a step, and gain from them."""
    background_centres: int = Field(2, ge=1, le=8)
    """Centres of a slice's background: some tissues are dark, others bright [11]."""


class OnlineLabelSettings(Section):
    """Pseudo labels from activation maps, for slices without drawn labels and scores [3]."""

    use: bool = True
    """false: learn from drawn labels and from scores of a prior or a self-training round alone."""
    refine: Literal["local", "crf"] = "local"
    """`local`: refinement along intensity edges (not published); `crf`: two dense CRFs and the rule of RRM [3],
    slow."""


class AalrConfig(Section):
    """AA&LR: single stage; adaptive affinity loss as in the public fragment, label reassign loss re-designed."""

    name: Literal["aalr"] = "aalr"
    weights: AalrWeights = AalrWeights()
    gates: AalrGates = AalrGates()
    affinity: AffinitySettings = AffinitySettings()
    reassign: ReassignSettings = ReassignSettings()
    online: OnlineLabelSettings = OnlineLabelSettings()
    pooling: Literal["max", "mean"] = "max"
    """Of the tag classifier; `mean` as published, with dropout. On ACDC only the maximum looks at the object."""
    segmentation_loss: Literal["balanced", "plain"] = "balanced"
    """`balanced`: mean over background plus mean over foreground, as published [4]; `plain`: mean over all pixels."""
    segmentation_dice: bool = False
    """Adds soft Dice; useful where a prior or a self-training round labels whole structures."""
