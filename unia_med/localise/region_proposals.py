"""Region proposals beside what a map has found: connected pieces of like brightness, as candidates for a missed class.

Where two classes occur together, their activation maps share one peak, and the second object is found by none. Its
region is often plain in the image all the same: one of a few pieces beside the object that was found. Which of them it
is, `unia_med.localise.region_choice` learns from tags.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

FEATURES = 9
"""How many numbers describe a region: see `Regions.features`."""
_SMOOTHING = 0.7  # pixels, before pieces are cut
# In radii and areas of the object's largest section; a region may be as large as the object in its own slice.
_OPENING, _LEAST, _CONTACT = 0.1, 0.025, 0.2


class Regions(NamedTuple):
    """Candidate regions of one volume.

    Attributes:
        masks: bool (N, H, W).
        slices: int (N,), the slice of each.
        features: float64 (N, FEATURES): mean and standard deviation of brightness, 0 that of the object's darker part
            and 1 that of its brighter one; logarithm of the area, 1 being the object's largest section; share of the
            border that lies within 0.2 radii of the object; least and mean distance to it, in its radii; solidity;
            eccentricity; whether it touches the image's border.
    """

    masks: np.ndarray
    slices: np.ndarray
    features: np.ndarray


def propose(
    image: np.ndarray,
    found: np.ndarray,
    levels: tuple[float, ...],
    reach: float,
    contrast: Literal["bright", "dark", "both"],
) -> Regions:
    """Return the pieces of like brightness beside the object that was found in each slice of a volume.

    Otsu's threshold divides the object's pixels in a darker and a brighter part. A piece is what is brighter (darker)
    than a level between the two, outside the object, after an opening by a tenth of the object's radius, and no larger
    than the object in its slice.

    Args:
        image: (Z, H, W), in any unit.
        found: bool (Z, H, W). Where it is empty, or of one value, nothing is proposed.
        levels: between the two parts, 0 being the mean of the darker and 1 that of the brighter one.
        reach: how far from the object a piece may begin, in radii of the object's largest section.
        contrast: whether pieces are brighter or darker than a level, or of both kinds.
    """
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float64), (0, _SMOOTHING, _SMOOTHING))
    parts = _two_parts(smooth[found])
    area = int(found.sum((1, 2)).max(initial=0))
    collected: list[tuple[np.ndarray, int, list[float]]] = []
    if parts is not None:
        low, high = parts
        radius = float(np.sqrt(area / np.pi))
        for index in np.flatnonzero(found.any((1, 2))):
            plane = (smooth[index] - low) / (high - low)
            distance = ndimage.distance_transform_edt(~found[index]) / radius
            for piece in _pieces(plane, ~found[index], levels, contrast, max(1, round(_OPENING * radius))):
                if _LEAST * area <= piece.sum() <= found[index].sum() and distance[piece].min() <= reach:
                    collected.append((piece, int(index), _described(piece, plane, distance, area)))
    masks, slices, features = zip(*collected, strict=True) if collected else ((), (), ())
    return Regions(
        np.array(masks, bool).reshape(-1, *found.shape[1:]),
        np.array(slices, np.int64),
        np.array(features, np.float64).reshape(-1, FEATURES),
    )


def _two_parts(values: np.ndarray) -> tuple[float, float] | None:
    """Return the means below and above Otsu's threshold, or None where there is no contrast."""
    from skimage.filters import threshold_otsu  # slow to import

    if values.size == 0 or values.min() == values.max():
        return None
    threshold = threshold_otsu(values)
    return float(values[values <= threshold].mean()), float(values[values > threshold].mean())


def _pieces(
    plane: np.ndarray, outside: np.ndarray, levels: tuple[float, ...], contrast: str, opening: int
) -> list[np.ndarray]:
    """Return bool (H, W) of each connected piece above, or below, each level."""
    from skimage.morphology import disk  # slow to import

    sides = [side for side, name in ((1, "bright"), (-1, "dark")) if contrast in (name, "both")]
    found = []
    for side in sides:
        for level in levels:
            kept = ndimage.binary_opening((side * (plane - level) > 0) & outside, disk(opening))
            numbers, count = ndimage.label(kept)
            found += [numbers == number for number in range(1, count + 1)]
    return found


def _described(piece: np.ndarray, plane: np.ndarray, distance: np.ndarray, area: int) -> list[float]:
    """Return the features of one piece (H, W)."""
    from skimage.measure import regionprops  # slow to import

    (shape,) = regionprops(piece.astype(np.uint8))
    border = piece & ~ndimage.binary_erosion(piece)
    at_edge = piece[0].any() or piece[-1].any() or piece[:, 0].any() or piece[:, -1].any()
    return [
        plane[piece].mean(),
        plane[piece].std(),
        np.log(piece.sum() / area),
        (distance[border] < _CONTACT).mean(),
        distance[piece].min(),
        distance[piece].mean(),
        shape.solidity,
        shape.eccentricity,
        float(at_edge),
    ]
