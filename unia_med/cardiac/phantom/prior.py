"""The prior `phantom`: synthetic hearts, whose labels are known by construction.

Knowledge that it adds: what a short-axis heart looks like, and the side of the right ventricle.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from unia_med.config.teacher import TeacherConfig
from unia_med.errors import UserError
from unia_med.priors.base import TeachingPrior

if TYPE_CHECKING:
    import numpy as np

    from unia_med.config.schema import GridConfig

_PIXEL_MM = 1.5  # assumed where a configuration keeps stored pixels of unknown size


class PhantomPriorConfig(TeacherConfig):
    """A teacher trained on synthetic hearts alone; none of its settings was fitted to masks."""

    rv_direction_degrees: float = 180.0
    """Direction from the LV to the RV in the stored array: 0 along growing rows, 90 along growing columns."""
    any_direction: bool = False
    """Turn the slices by random right angles and mirror half of them, for images of unknown orientation."""


class PhantomPrior(TeachingPrior[PhantomPriorConfig]):
    """Synthetic short-axis slices to train a teacher on."""

    classes: ClassVar[tuple[str, ...]] = ("RV", "MYO", "LV")
    settings_type = PhantomPriorConfig

    def draw(self, count: int, grid: GridConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return slices of synthetic hearts and their labels, see `TeachingPrior.draw`."""
        from unia_med.cardiac.phantom.bank import draw_bank

        turned = self.settings.any_direction
        if turned and grid.size[0] != grid.size[1]:
            what = f"the grid {list(grid.size)} is not square, so that slices cannot be turned by right angles"
            raise UserError(what, "data.grid.size", "Make both sides equal, or remove prior.phantom.any_direction")
        direction = math.radians(self.settings.rv_direction_degrees)
        return draw_bank(count, grid.size, grid.spacing_mm or _PIXEL_MM, seed, direction, turned)
