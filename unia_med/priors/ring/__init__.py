"""The `ring` prior."""

from unia_med.priors.ring.prior import RingPrior
from unia_med.priors.ring.settings import RingSettings

__all__ = ["RingPrior", "RingSettings"]
