"""Gaussian mixture of the classes' intensities under a smooth bias field, fitted by expectation-maximisation.

After Wells et al., IEEE TMI 1996, and Van Leemput et al., IEEE TMI 1999 and 2001 (a Gaussian per tissue, a bias field
estimated in turn, neighbours that support each other, voxels that fit no class). Here the field is multiplicative
without logarithms, since these would break at the 0 of air: image = field * mean + noise. The least-squares update of
the field is the normalised average of Pham and Prince, IEEE TMI 1999, with a Gaussian window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_VARIANCE, _COUNT = 0.05**2, 5.0  # a prior variance, and how many voxels it counts as: one point alone has none
_LEAST_VARIANCE = 0.01**2
_TOWARDS_ONE = 0.02  # weight of a field of 1, as a share of the data's mean weight: it holds where no class is
_SUPPORT = 1.5  # log odds that a voxel gains when all its neighbours are of a class
_LEVELS, _LEVEL_WIDTH = 128, 4.0  # of a background's histogram, and its smoothing
_STRANGE = 0.02  # share of background voxels whose intensity was never drawn
_FITTING = 3.0  # standard deviations at which a voxel counts half for the class nearest to it
_NEVER = -1e9


@dataclass(frozen=True)
class Mixture:
    """What a fit gives.

    Attributes:
        posterior: float32 (K, Z, H, W), with neighbours and places taken into account; sums to 1.
        likelihood: float32 (K, Z, H, W), log density of the intensity alone.
        field: float32 (C, Z, H, W), multiplicative; 1 on average over the classes.
        means: (K, C), intensities where the field is 1; of background, nan.
        deviations: (C,), standard deviation of the noise, the same for all classes.
    """

    posterior: np.ndarray
    likelihood: np.ndarray
    field: np.ndarray
    means: np.ndarray
    deviations: np.ndarray


def fit_mixture(
    image: np.ndarray,
    start: np.ndarray,
    fixed: np.ndarray,
    places: np.ndarray,
    reach: tuple[float, float, float],
    slice_weight: float,
    rounds: int = 12,
) -> Mixture:
    """Return the mixture of classes 1, 2, ... with a Gaussian each, and of background, whose histogram is known.

    Args:
        image: float (C, Z, H, W) in [0, 1].
        start: float (K, Z, H, W), membership of each class to begin with, 0 everywhere where nothing is known.
        fixed: bool (Z, H, W), voxels that keep `start`; those of background give its histogram.
        places: float (K, Z, H, W), log of the prior of each class at each voxel; -inf where it cannot be.
        reach: standard deviation of the bias field's window along Z, H and W, voxels.
        slice_weight: weight of a neighbour in the next slice, one in the same slice having 1.
        rounds: of expectation and maximisation; the field is settled after about ten.
    """
    image = image.astype(np.float32)
    outside = _background_density(image, fixed & (start[0] > 0.5))
    places = np.maximum(places, _NEVER).astype(np.float32)
    posterior, field = start.astype(np.float32), np.ones_like(image)
    members = posterior[1:]
    shares = np.full(len(start), 1 / len(start))
    for turn in range(rounds):
        means, noise = _gaussians(image, members, field)
        field, means = _bias_field(image, members, means, np.diagonal(noise), reach)
        likelihood = np.concatenate([outside[None], _log_densities(image, field, means, noise)])
        scores = likelihood + np.log(shares + 1e-6)[:, None, None, None] + places
        if turn:
            scores += _SUPPORT * _neighbours(posterior, slice_weight)
        posterior = _normalised(scores)
        posterior[:, fixed] = start[:, fixed]
        members = posterior[1:] * np.where(fixed, 1, _fitting(likelihood[1:], noise))
        shares = posterior[:, ~fixed].mean(1) if not fixed.all() else shares
    nothing = np.full((1, len(image)), np.nan)
    return Mixture(posterior, likelihood, field, np.concatenate([nothing, means]), np.sqrt(np.diagonal(noise)))


def _gaussians(image: np.ndarray, members: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means (T, C) of the classes and one covariance (C, C) of the noise, with a prior of a few voxels.

    A covariance per class would give a class that lies between two others the voxels that mix these.
    """
    means = np.einsum("tzhw,czhw->tc", members, field * image) / (np.einsum("tzhw,czhw->tc", members, field**2) + 1e-6)
    noise = _COUNT * _VARIANCE * np.eye(len(image))
    for member, mean in zip(members, means, strict=True):
        rest = image - field * mean[:, None, None, None]
        noise += np.einsum("zhw,azhw,bzhw->ab", member, rest, rest)
    return means, noise / (members.sum() + _COUNT) + _LEAST_VARIANCE * np.eye(len(image))


def _bias_field(
    image: np.ndarray,
    members: np.ndarray,
    means: np.ndarray,
    variances: np.ndarray,
    reach: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the field (C, Z, H, W) that fits best within a window, and the means for it; background tells nothing."""
    upper = np.einsum("tzhw,tc->czhw", members, means / variances) * image
    lower = np.einsum("tzhw,tc->czhw", members, means**2 / variances)
    field = np.ones_like(image)
    inside = members.sum(0)
    for channel in range(len(image)):
        known = lower[channel] > 0
        if not known.any():
            continue
        hold = _TOWARDS_ONE * lower[channel][known].mean()
        smooth = [ndimage.gaussian_filter(part[channel], reach) for part in (upper, lower)]
        field[channel] = (smooth[0] + hold) / (smooth[1] + hold)
        average = float((inside * field[channel]).sum() / inside.sum())
        field[channel] /= average
        means = means * np.where(np.arange(len(image)) == channel, average, 1.0)
    return field, means


def _log_densities(image: np.ndarray, field: np.ndarray, means: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the log density (T, Z, H, W) of each class's Gaussian."""
    found = np.empty((len(means), *image.shape[1:]), np.float32)
    inverse, constant = np.linalg.inv(noise).astype(np.float32), np.log(np.linalg.det(2 * np.pi * noise))
    for label, mean in enumerate(means.astype(np.float32)):
        rest = image - field * mean[:, None, None, None]
        found[label] = -0.5 * (np.einsum("azhw,ab,bzhw->zhw", rest, inverse, rest) + constant)
    return found


def _fitting(likelihood: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return how much voxels (T, Z, H, W) count for the Gaussians: little where they are far from the mean."""
    peak = -0.5 * np.log(np.linalg.det(2 * np.pi * noise))
    return 1 / (1 + np.exp(np.minimum(peak - 0.5 * _FITTING**2 - likelihood, 50)))


def _background_density(image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the log density (Z, H, W) of background by the histogram of each channel; -inf where none was drawn.

    Background is many things at once, so that no Gaussian describes it.
    """
    if not drawn.any():
        return np.full(image.shape[1:], _NEVER, np.float32)
    total = np.zeros(image.shape[1:], np.float32)
    for channel in image:
        level = (channel.clip(0, 1) * (_LEVELS - 1e-3)).astype(int)
        counts = np.bincount(level[drawn], minlength=_LEVELS).astype(float)
        density = ndimage.gaussian_filter1d(counts, _LEVEL_WIDTH, mode="nearest") * _LEVELS / counts.sum()
        total += np.log((1 - _STRANGE) * density + _STRANGE)[level].astype(np.float32)
    return total


def _neighbours(posterior: np.ndarray, slice_weight: float) -> np.ndarray:
    """Return the mean membership (K, Z, H, W) of the four neighbours in the slice and the two of the next slices."""
    pair = np.array([1, 0, 1], np.float32)
    found = sum(ndimage.convolve1d(posterior, pair, axis, mode="nearest") for axis in (2, 3))
    found = found + slice_weight * ndimage.convolve1d(posterior, pair, 1, mode="nearest")
    return np.asarray(found / (4 + 2 * slice_weight), np.float32)


def _normalised(scores: np.ndarray) -> np.ndarray:
    """Return probabilities for log scores (K, ...); where no class can be, all are 0."""
    highest = scores.max(0)
    found = np.exp(scores - highest) * (highest > _NEVER / 2)
    return np.asarray(found / np.maximum(found.sum(0), 1e-12), np.float32)
