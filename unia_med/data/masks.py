"""Label values of mask files, turned into classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.io.orientation import orient_array
from unia_med.data.io.read import read_header
from unia_med.data.sample import CaseFiles
from unia_med.labels import BACKGROUND, IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig


def relabel(mask: np.ndarray, class_values: Sequence[int | Sequence[int]], ignore: bool = False) -> np.ndarray:
    """Return uint8 labels of the mask's shape: k + 1 where the mask is `class_values[k]`, 0 elsewhere.

    Args:
        mask: Whole numbers from 0 to 255, of any type.
        class_values: Value of each class, or several of merged ones.
        ignore: 255 becomes IGNORE, unless it is the value of a class.

    Example:
        >>> relabel(np.array([0, 4, 2, 7, 255]), [4, (2, 7)], ignore=True)
        array([  0,   1,   2,   2, 255], dtype=uint8)
    """
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE if ignore else BACKGROUND
    for label, value in enumerate(class_values, start=1):
        table[value if isinstance(value, int) else list(value)] = label
    return table[mask.astype(np.uint8)]


def only_ignored(mask: np.ndarray) -> bool:
    """Return whether a mask holds only 0 and 255: then 255 hardly marks borders."""
    return bool((mask == IGNORE).any()) and not bool(((mask != BACKGROUND) & (mask != IGNORE)).any())


def sliced_labels(labels: np.ndarray, case: CaseFiles, config: DataConfig) -> np.ndarray:
    """Return a mask (X, Y, Z) turned as its image's slices are; see `GridConfig.slice_axis`."""
    axis = config.grid.slice_axis
    return labels if axis == "stored" else orient_array(labels, read_header(case.image).affine, axis)
