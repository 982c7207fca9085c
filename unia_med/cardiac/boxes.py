"""Dense labels from boxes round the parts of a short-axis heart.

A study on ACDC found inscribed ellipses for left ventricle and epicardium closer to the masks than anything learned
from the boxes alone; the right ventricle, no ellipse, is the hull of what is bright in its box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from unia_med.data.weak_labels.boxes import Box, fill_boxes
from unia_med.labels import BACKGROUND
from unia_med.localise.pieces import largest_piece

_ABOVE_DARK = 0.01  # of the way from dark to light: a wall of one value all over lies on its mean, and not above it


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
    """Find the convex hull, within the region, of its largest piece brighter than the mean of Otsu's darker class.

    Otsu's own threshold (IEEE TSMC 1979) loses the rim of the pool, whose pixels are partly wall, and its trabeculae,
    which contours of the ventricle include. The free wall bulges outwards, and the septum's side is not of the region,
    so the hull fills what is lost. On 289 slices of 40 training volumes of ACDC the Dice is 0.913 at end diastole and
    0.888 at end systole (sizes 1.03, 1.02); with a limit a tenth of the way to the lighter class and no hull it was
    0.892 and 0.858 (0.88, 0.84), with Otsu's threshold 0.77 on 14 validation volumes.
    """
    from skimage.filters import threshold_otsu  # slow to import, and only boxes need it
    from skimage.morphology import convex_hull_image

    values = image[region]
    if len(values) < 8 or np.ptp(values) == 0:
        return region
    threshold = threshold_otsu(values)
    dark, light = values[values <= threshold].mean(), values[values > threshold].mean()
    bright = ndimage.binary_opening(region & (image > dark + _ABOVE_DARK * (light - dark)))
    if not bright.any():
        return region
    hull: np.ndarray = convex_hull_image(largest_piece(bright)) & region
    return hull
