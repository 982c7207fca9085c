"""The prior `ring`: scores by contrast and geometry, without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from unia_med.config.section import Section
from unia_med.priors.base import PriorVolume, ScoringPrior
from unia_med.progress import tracked

if TYPE_CHECKING:
    import numpy as np

    from unia_med.config.schema import GridConfig


class RingPriorConfig(Section):
    """LV and myocardium are found by contrast, the RV by a vote over the data set."""

    weight: float = Field(0.3, ge=0, le=1)
    """Weight in the mean with other priors, which know more of the anatomy; alone it counts fully."""


class RingPrior(ScoringPrior[RingPriorConfig]):
    """Left ventricle by a bright disc in a dark ring, right ventricle by a vote over all volumes; reads no mask."""

    classes: ClassVar[tuple[str, ...]] = ("RV", "MYO", "LV")
    settings_type = RingPriorConfig

    @property
    def weight(self) -> float | None:
        """The setting `weight`."""
        return self.settings.weight

    def scores(self, volumes: Sequence[PriorVolume], grid: GridConfig) -> Iterator[np.ndarray]:
        """Yield the scores of each volume, see `ScoringPrior.scores`."""
        from unia_med.cardiac.ring.segmenter import RingSegmenter
        from unia_med.cardiac.ring.settings import RingSettings

        settings = RingSettings(spacing_mm=grid.spacing_mm or RingSettings.spacing_mm)
        looked = tracked(volumes, "looking for rings", len(volumes))
        ring = RingSegmenter(settings).fit(volume.images for volume in looked)
        for volume in volumes:
            # What moves between ED and ES of a patient is the heart.
            yield ring.scores(volume.images, volume.tags, partner=_other_phase(volume, volumes))


def _other_phase(volume: PriorVolume, volumes: Sequence[PriorVolume]) -> np.ndarray | None:
    """Return the images of the same patient at the other phase, or None where there are none of the same shape."""
    case = volume.case
    others = (v.images for v in volumes if v.case.patient == case.patient and v.case.name != case.name)
    return next((other for other in others if other.shape == volume.images.shape), None)
