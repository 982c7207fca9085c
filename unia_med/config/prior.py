"""Settings of the anatomical priors: knowledge of how a heart looks, which tags cannot give."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unia_med.config.section import Section


class PhantomPriorConfig(Section):
    """A teacher trained on synthetic hearts alone."""

    slices: int = Field(2400, ge=1)
    """Synthetic slices made once; about 8 ms each."""
    iterations: int = Field(420, ge=1)
    """Training iterations of the teacher."""
    batch_size: int = Field(12, ge=1)
    learning_rate: float = Field(1.5e-3, gt=0)


class RingPriorConfig(Section):
    """Bright disc inside a dark ring: LV and myocardium found by contrast. Lengths in pixels of the grid."""

    radii_px: tuple[float, float] = (4, 14)
    """Smallest and largest radius of the LV cavity."""
    wall_px: float = Field(4.5, gt=0)
    """First guess of the wall thickness; then fitted per volume."""
    centre_sigma_px: float = Field(14, gt=0)
    """How far from the expected centre a heart may lie (standard deviation)."""

    @model_validator(mode="after")
    def _check(self) -> RingPriorConfig:
        if not 0 < self.radii_px[0] < self.radii_px[1]:
            raise ValueError(f"radii_px {list(self.radii_px)} are not two rising positive numbers")
        return self


class PriorConfig(Section):
    """Which priors label the training slices, and how often the network relabels them."""

    names: list[Literal["phantom", "ring"]] = []
    """Priors whose scores are averaged; empty: none, tags only."""
    rounds: int = Field(3, ge=0)
    """Self-training rounds: how often the training slices are labelled anew."""
    use_tags: bool = True
    """Remove classes that the slice's tags exclude from its pseudo label."""
    phantom: PhantomPriorConfig = PhantomPriorConfig()
    ring: RingPriorConfig = RingPriorConfig()
