"""Settings of the anatomical priors: knowledge of how a heart looks, which tags cannot give."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section


class PhantomPriorConfig(Section):
    """A teacher trained on synthetic hearts alone; none of its settings was fitted to masks."""

    slices: int = Field(5000, ge=1)
    """Synthetic slices, drawn once; about 6 ms each."""
    iterations: int = Field(900, ge=1)
    """Training iterations of the teacher."""
    batch_size: int = Field(12, ge=1)
    learning_rate: float = Field(1.5e-3, gt=0)
    rv_direction_degrees: float = 180.0
    """Direction from the LV to the RV in the stored array: 0 along growing rows, 90 along growing columns."""


class RingPriorConfig(Section):
    """Bright disc inside a dark ring: LV and myocardium found by contrast, the RV by a vote over the data set."""

    weight: float = Field(0.3, ge=0, le=1)
    """Weight of the ring in the mean with the phantom teacher; alone it counts fully."""
    motion: bool = True
    """Locate the heart by the difference between ED and ES of a patient, where both frames are there."""


class WalkerConfig(Section):
    """Random walker (Grady, IEEE TPAMI 2006) from the pixels of a slice that are sure, along its intensity edges.

    The network's maps are blurred and blurred alike from slice to slice, so that a network trained on them repeats the
    blur; the edges of the image are not.
    """

    foreground: float = Field(0.6, gt=0, lt=1)
    """From this probability of all classes together, a pixel is a seed of its likeliest class."""
    background: float = Field(0.2, ge=0, lt=1)
    """Up to this probability of all classes together, a pixel is a seed of the background."""
    beta: float = Field(20000.0, gt=0)
    """How strongly the walk avoids intensity edges (scikit-image's scale); larger follows edges closer."""

    @model_validator(mode="after")
    def _band(self) -> WalkerConfig:
        if self.background >= self.foreground:
            raise ValueError(f"background ({self.background}) must lie below foreground ({self.foreground})")
        return self


class PriorConfig(Section):
    """Which priors label the training slices, and how often the trained network labels them anew.

    With no names there is no prior: the first round then learns from the weak labels alone (UniA: from its own
    activation maps), and self-training follows where there are more rounds.
    """

    names: list[Literal["phantom", "ring"]] = []
    """Priors that label the slices of the first round; their scores are averaged."""
    rounds: int = Field(1, ge=1, le=10)
    """Labelling rounds: the first learns from prior and weak labels, each further one also from the network's own."""
    restart: bool = False
    """Later rounds begin with the weights that the run began with, and with a learning rate schedule of their own. A
    network that goes on repeats what it was labelled by, its own features; a fresh one has to find it in the image."""
    trust: Literal["network", "agreement"] = "network"
    """What later rounds learn. `network`: weak labels, also completed ones, win over the network's. `agreement`: what
    was completed (`data.labels`, `fill`) counts only where the network says the same, other completed pixels become
    unlabelled, and the annotations as drawn win; where nothing was completed, the network's confident labels hold."""
    source: Literal["prediction", "maps"] = "prediction"
    """What later rounds are labelled by: the network's prediction, or the activation maps of methods that have them."""
    walker: WalkerConfig | None = None
    """Completes the network's sure pixels to dense labels; null: its probabilities are the labels."""
    use_tags: bool = True
    """false labels the slices as if no tag were known."""
    confidence: float = Field(0.6, ge=0, lt=1)
    """A class needs this probability, else its pixel is ignored."""
    scales: list[float] = [1.0, 1.25]
    """Image scales whose probabilities are averaged when slices are labelled."""
    slice_smoothing: float = Field(0.0, ge=0)
    """Standard deviation, in slices, of a Gaussian along the stack by which these probabilities are smoothed: what a
    slice shows, its neighbours show, too. 0: none."""
    synthetic_share: float = Field(0.33, ge=0, lt=1)
    """Share of synthetic slices in a batch; phantom only."""
    phantom: PhantomPriorConfig = PhantomPriorConfig()
    ring: RingPriorConfig = RingPriorConfig()
