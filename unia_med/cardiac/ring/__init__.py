"""The `ring` prior."""

from unia_med.cardiac.ring.prior import RingPrior
from unia_med.cardiac.ring.settings import RingSettings

__all__ = ["RingPrior", "RingSettings"]
