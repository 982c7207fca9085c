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

_BELOW_DARK = 0.1  # of the way from light to dark


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
    """Find the largest piece of a region brighter than a limit below the darker of Otsu's classes, holes filled.

    Otsu's own threshold (IEEE TSMC 1979) loses the rim of the pool, whose pixels are partly wall, and its trabeculae,
    which contours of the ventricle include. The limit is the best of seven on 564 slices of synthetic hearts (Dice
    0.865; a tenth above the darker class in place of below it: 0.857). In 40 training volumes of ACDC it gives 0.911
    at end diastole and 0.886 at end systole (1.01 and 1.02 of the ventricle's size), a tenth above 0.892 and 0.858
    (0.88 and 0.84).
    """
    from skimage.filters import threshold_otsu  # slow to import, and only boxes need it

    values = image[region]
    if len(values) < 8 or np.ptp(values) == 0:
        return region
    threshold = threshold_otsu(values)
    darker, light = values[values <= threshold], values[values > threshold].mean()
    limit = darker.mean() - _BELOW_DARK * (light - darker.mean())
    # The darkest pixel is never of the pool, though the limit be lower, as where the wall has one value all over.
    bright = ndimage.binary_opening(region & (image > max(limit, darker.min())))
    if not bright.any():
        return region
    return ndimage.binary_fill_holes(largest_piece(bright)) & region
