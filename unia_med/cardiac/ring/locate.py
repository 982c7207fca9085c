"""Finds the left ventricle: a bright disc inside a darker annulus, tracked from the middle slice outwards."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from unia_med.cardiac.ring.settings import RingSettings


def _kernel_spectra(shape: tuple[int, int], inner: float, outer: float) -> np.ndarray:
    """Spectrum (H, W//2+1) of the mean over `inner` <= distance < `outer` pixels, with a soft half-pixel border."""
    rows = np.minimum(np.arange(shape[0]), shape[0] - np.arange(shape[0]))[:, None]
    columns = np.minimum(np.arange(shape[1]), shape[1] - np.arange(shape[1]))[None]
    distance = np.hypot(rows, columns)
    kernel = np.clip(outer - distance + 0.5, 0, 1) * np.clip(distance - inner + 0.5, 0, 1)
    return np.fft.rfft2(kernel / max(kernel.sum(), 1e-6))


def ring_response(volume: np.ndarray, settings: RingSettings) -> np.ndarray:
    """How much each pixel looks like the centre of a bright disc in a darker annulus.

    Response = disc mean - annulus mean - spread_weight * (disc deviation + annulus deviation), by FFT. The image
    wraps round at its border, which the weight on the heart's centre makes harmless.

    Args:
        volume: (Z, H, W) in [0, 1].
        settings: Radii and widths.

    Returns:
        (Z, R, H, W) float32, R radii; at most 1.
    """
    shape = volume.shape[1:]
    spectra = np.fft.rfft2(volume), np.fft.rfft2(volume**2)

    def moments(inner: float, outer: float) -> tuple[np.ndarray, np.ndarray]:
        kernel = _kernel_spectra(shape, inner, outer)
        mean, square = (np.fft.irfft2(spectrum * kernel, s=shape) for spectrum in spectra)
        return mean, np.sqrt(np.maximum(square - mean**2, 0))

    responses = []
    for radius_mm in settings.radii_mm:
        radius = settings.pixels(radius_mm)
        disc, disc_spread = moments(-1.0, radius)
        annulus, annulus_spread = moments(radius + 0.5, radius + settings.pixels(settings.annulus_mm))
        responses.append(disc - annulus - settings.spread_weight * (disc_spread + annulus_spread))
    return np.stack(responses, axis=1).astype(np.float32)


def expected_centre(heat: np.ndarray, settings: RingSettings) -> tuple[float, float]:
    """Find the brightest point (row, column) of a localisation map (Z, H, W), smoothed and summed over slices."""
    summed = ndimage.gaussian_filter(heat.astype(np.float64).sum(axis=0), settings.pixels(8.0))
    row, column = np.unravel_index(int(summed.argmax()), summed.shape)
    return float(row), float(column)


def _distance(shape: tuple[int, int], centre: tuple[float, float]) -> np.ndarray:
    return np.hypot(np.arange(shape[0])[:, None] - centre[0], np.arange(shape[1])[None] - centre[1])


def _best(response: np.ndarray) -> tuple[int, int, int]:
    """Index (radius, row, column) of the largest value of a response (R, H, W)."""
    radius, row, column = np.unravel_index(int(response.argmax()), response.shape)
    return int(radius), int(row), int(column)


def track(
    volume: np.ndarray, settings: RingSettings, centre: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One ring per slice.

    Args:
        volume: (Z, H, W) in [0, 1].
        settings: Radii, Gaussian width and the costs of moving.
        centre: Expected heart centre (row, column) in pixels; None is the image centre.

    Returns:
        Rings (Z, 3): row, column, radius in pixels; and their responses (Z,).
    """
    shape = volume.shape[1:]
    response = ring_response(volume, settings)
    centre = centre or ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    weight = np.exp(-0.5 * (_distance(shape, centre) / settings.pixels(settings.centre_sigma_mm)) ** 2)
    middle = len(volume) // 2
    radii = np.array(settings.radii_mm)
    preferred = response * ((radii / radii.max()) ** settings.radius_exponent)[:, None, None]
    _, row, column = _best((np.maximum(preferred, 0).max(axis=1).mean(axis=0) * weight)[None])
    rings, strengths = np.zeros((len(volume), 3)), np.zeros(len(volume))
    start = _best(preferred[middle] - _move_cost(shape, (row, column), settings))
    for step in (1, -1):
        radius, place = start[0], start[1:]
        for index in range(middle, len(volume) if step == 1 else -1, step):
            change = settings.radius_cost * ((radii - radii[radius]) / 5.0) ** 2
            cost = _move_cost(shape, place, settings) + change[:, None, None]
            radius, *at = _best(response[index] - cost)
            place = (at[0], at[1])
            rings[index] = (*place, settings.pixels(radii[radius]))
            strengths[index] = response[index, radius, place[0], place[1]]
    return rings, strengths


def _move_cost(shape: tuple[int, int], place: tuple[int, int], settings: RingSettings) -> np.ndarray:
    return settings.step_cost * (_distance(shape, place) / settings.pixels(settings.step_mm)) ** 2
