"""Completes points, scribbles, blocks and boxes by intensity: a Gaussian per class under a smooth bias field.

A voxel gets a label where its intensity, its neighbours and the labels around it leave little doubt; others stay
without. Where the intensities of two classes are alike, none of them is given to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.localise.tissue_mixture import Mixture, fit_mixture

SURE = 0.6
"""Posterior from which a voxel gets a label."""

APART = 0.75
"""Share of the drawn voxels of two classes that their intensities must recognise; below it the two are alike."""

_EVIDENT = 0.9  # what the intensity of a voxel alone must say, between two classes that are alike
_FIELD = 1 / 12  # standard deviation of the bias field's window, as a share of a slice's shorter side
_FADE = 1 / 5  # a class is e times less likely at this share of the side from its nearest label
_FAR = 1 / 4  # and is not given at all beyond this share
_TYPICAL = 4.0  # standard deviations from a class's mean beyond which nothing speaks for it
_SEEN = 0.1  # density of an intensity in what was drawn as background, 1 being that of all intensities alike


@dataclass(frozen=True)
class Completed:
    """Labels of a volume and what they rest on.

    Attributes:
        labels: uint8 (Z, H, W), IGNORE where there is doubt.
        alike: pairs of labels whose intensities do not separate them.
        open_share: share of the voxels that were open before and still are, 0 to 1.
    """

    labels: np.ndarray
    alike: tuple[tuple[int, int], ...]
    open_share: float


def complete_by_intensity(images: np.ndarray, labels: np.ndarray, classes: int, slice_step: float) -> Completed:
    """Return the labels of a volume, completed from those that are drawn.

    Args:
        images: float (Z, C, H, W) in [0, 1].
        labels: uint8 (Z, H, W), IGNORE where nothing is drawn; those that are drawn stay.
        classes: T.
        slice_step: distance of two slices, in pixels.
    """
    drawn = np.arange(classes + 1)[:, None, None, None] == labels
    side = min(labels.shape[1:])
    places = np.stack([_near(one, slice_step, side) for one in drawn])
    places[BACKGROUND] = np.where(drawn[BACKGROUND].any(), places[BACKGROUND].clip(-side), -np.inf)
    mixture = _fit(images, drawn, labels != IGNORE, places, slice_step)
    return _decided(mixture, labels, drawn)


def boxes_by_intensity(images: np.ndarray, boxes: np.ndarray, order: Sequence[int], slice_step: float) -> Completed:
    """Return the labels of a volume from the boxes of its classes; background outside of all of them.

    A box says where its class is, not how it looks: an order of brightness does, and for a single class that it is
    what does not look like the outside.

    Args:
        images: float (Z, C, H, W) in [0, 1]; the first channel has the order.
        boxes: bool (T, Z, H, W), filled boxes.
        order: labels 1..T from the darkest to the brightest.
        slice_step: distance of two slices, in pixels.
    """
    inside = boxes.any(0)
    labels = np.where(inside, IGNORE, BACKGROUND).astype(np.uint8)
    drawn = np.arange(len(boxes) + 1)[:, None, None, None] == labels
    first = images[:, 0]
    outside = first[~inside] if (~inside).any() else first.ravel()
    strange = inside & (np.abs(first - np.median(outside)) > 4 * _spread(outside))
    start = drawn.astype(np.float32)
    start[BACKGROUND] = ~strange
    if strange.any():
        wanted = [label for label in order if boxes[label - 1].any()]
        sorted_labels = _sorted(first[strange], wanted)
        start[1:][:, strange] = (np.arange(1, len(boxes) + 1)[:, None] == sorted_labels) & boxes[:, strange]
    places = np.where(np.concatenate([np.ones_like(boxes[:1]), boxes]), 0.0, -np.inf).astype(np.float32)
    mixture = _fit(images, start, labels == BACKGROUND, places, slice_step)
    return _decided(mixture, labels, drawn)


def _fit(images: np.ndarray, start: np.ndarray, fixed: np.ndarray, places: np.ndarray, slice_step: float) -> Mixture:
    window = _FIELD * min(images.shape[2:])
    reach = (window / max(slice_step, 1e-3), window, window)
    return fit_mixture(images.swapaxes(0, 1), start, fixed, places, reach, min(1.0, slice_step**-2))


def _near(drawn: np.ndarray, slice_step: float, side: int) -> np.ndarray:
    """Return the log prior (Z, H, W) of a class by the distance from its labels; -inf far from them, or without any."""
    if not drawn.any():
        return np.full(drawn.shape, -np.inf, np.float32)
    distance = ndimage.distance_transform_edt(~drawn, sampling=(slice_step, 1, 1)) / side
    return np.where(distance > _FAR, -np.inf, -distance / _FADE).astype(np.float32)


def _spread(values: np.ndarray) -> float:
    """Return a standard deviation that some strange values do not change: 1.4826 times the median deviation."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 0.01)


def _sorted(values: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return a label of each value (N,): k-means in one dimension, the darkest group the first of an order."""
    centres = np.quantile(values, (np.arange(len(order)) + 0.5) / len(order))
    groups = np.zeros(len(values), int)
    for _ in range(20):
        groups = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        centres = np.array([values[groups == i].mean() if (groups == i).any() else c for i, c in enumerate(centres)])
    return np.asarray(order)[groups]


def _decided(mixture: Mixture, labels: np.ndarray, drawn: np.ndarray) -> Completed:
    """Return the label of each open voxel that is sure of it."""
    open_before = labels == IGNORE
    best = mixture.posterior.argmax(0)
    density = np.take_along_axis(mixture.likelihood, best[None], 0)[0]
    sure = (np.take_along_axis(mixture.posterior, best[None], 0)[0] >= SURE) & _typical(mixture, best, density)
    alike = _alike(mixture, drawn)
    for pair in alike:
        for one, other in (pair, pair[::-1]):  # neighbours cannot speak for an intensity that says nothing
            odds = density - mixture.likelihood[other]
            sure &= (best != one) | (odds >= np.log(_EVIDENT / (1 - _EVIDENT)))
    found = np.where(open_before, np.where(sure, best, IGNORE), labels).astype(np.uint8)
    left = float((found[open_before] == IGNORE).mean()) if open_before.any() else 0.0
    return Completed(found, alike, left)


def _typical(mixture: Mixture, best: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Return which voxels (Z, H, W) look like what was drawn of their class, or within a few standard deviations."""
    channels = len(mixture.field)
    least = np.full(len(mixture.posterior), channels * np.log(_SEEN))
    least[1:] = [likelihood.max() - 0.5 * _TYPICAL**2 for likelihood in mixture.likelihood[1:]]
    return np.asarray(density >= least[best])


def _alike(mixture: Mixture, drawn: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return the pairs of classes that intensities do not separate, by what is drawn or, without, by the Gaussians."""
    found = []
    count = len(drawn)
    for one in range(1, count):
        for other in range(one + 1, count):
            first, second = drawn[one], drawn[other]
            if first.any() and second.any():
                odds = mixture.likelihood[one] - mixture.likelihood[other]
                right = ((odds[first] > 0).mean() + (odds[second] < 0).mean()) / 2
            else:
                right = _recognised(mixture, one, other)
            if right < APART:
                found.append((one, other))
    return tuple(found)


def _recognised(mixture: Mixture, one: int, other: int) -> float:
    """Return the share of two Gaussians that a threshold halfway between them separates, in their best channel."""
    gap = np.abs(mixture.means[one] - mixture.means[other])
    half = gap / mixture.deviations / 2
    from scipy.special import ndtr  # slow to import

    return float(ndtr(half.max()))
