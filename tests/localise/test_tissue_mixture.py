"""The mixture of intensities under a bias field, against simulated volumes whose field and classes are known."""

from __future__ import annotations

import numpy as np
from scipy import stats

from unia_med.localise.tissue_mixture import Mixture, fit_mixture

SHAPE = (6, 48, 48)
MEANS = np.array([0.3, 0.5, 0.7])


def simulated(noise: float = 0.03, strength: float = 0.35) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stripes of three classes in dark background: image (1, Z, H, W), labels (Z, H, W), field (Z, H, W)."""
    generator = np.random.default_rng(0)
    z, y, x = np.indices(SHAPE)
    labels = np.where((y > 5) & (y < 42) & (x > 3) & (x < 44), 1 + x // 5 % 3, 0)
    field = np.exp(strength * np.sin(y / 16) * np.cos(x / 20 + z / 8))
    values = np.array([0.05, *MEANS])[labels]
    image = np.where(labels > 0, field, 1) * values + generator.normal(0, noise, SHAPE)
    return image[None].clip(0), labels, field


def seeds(labels: np.ndarray, every: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Memberships of a voxel in so many, and where they are."""
    z, y, x = np.indices(SHAPE)
    fixed = ((y * 5 + x * 2 + z) % every == 0) | (labels == 0) & (x < 2)
    return ((np.arange(4)[:, None, None, None] == labels) & fixed).astype(np.float32), fixed


def fitted(image: np.ndarray, start: np.ndarray, fixed: np.ndarray) -> Mixture:
    return fit_mixture(image, start, fixed, np.zeros_like(start), (2.0, 6.0, 6.0), 0.1)


def test_a_known_bias_field_is_found_and_classes_that_it_mixes_are_separated() -> None:
    image, labels, field = simulated()
    found = fitted(image, *seeds(labels))
    inside = labels > 0
    true = field / field[inside].mean()
    assert np.abs(found.field[0] / true - 1)[inside].mean() < 0.04  # the window flattens it a little
    assert (found.posterior.argmax(0) == labels)[inside].mean() > 0.98
    global_cut = 1 + np.digitize(image[0], (MEANS[1:] + MEANS[:-1]) / 2)
    assert (global_cut == labels)[inside].mean() < 0.85  # without a field
    assert np.allclose(found.posterior.sum(0), 1, atol=1e-5)
    means = found.means[1:, 0] / field[inside].mean()
    assert np.allclose(means, MEANS, atol=0.02) and abs(found.deviations[0] - 0.03) < 0.012


def test_without_a_field_the_likelihood_is_that_of_gaussians() -> None:
    image, labels, _ = simulated(strength=0.0)
    start = (np.arange(4)[:, None, None, None] == labels).astype(np.float32)
    found = fitted(image, start, np.ones(SHAPE, bool))
    rest = image[0] - found.field[0] * found.means[1][0]
    expected = stats.norm.logpdf(rest, scale=found.deviations[0])
    assert np.allclose(found.likelihood[1], expected, atol=1e-3)
    assert np.abs(found.field[0][labels > 0] - 1).max() < 0.03


def test_a_second_channel_separates_what_the_first_does_not() -> None:
    _, labels, _ = simulated()
    generator = np.random.default_rng(1)
    first, second = (np.array(levels)[labels] + generator.normal(0, 0.03, SHAPE)
                     for levels in ([0.1, 0.5, 0.5, 0.9], [0.1, 0.8, 0.3, 0.5]))  # fmt: skip
    found = fitted(np.stack([first, second]), *seeds(labels))
    assert (found.posterior.argmax(0) == labels).mean() > 0.98


def test_a_place_where_a_class_cannot_be_is_never_given_to_it() -> None:
    image, labels, _ = simulated()
    start, fixed = seeds(labels)
    places = np.zeros_like(start)
    places[2, :, :24] = -np.inf
    found = fit_mixture(image, start, fixed, places, (2.0, 6.0, 6.0), 0.1)
    assert (found.posterior[2, :, :24][~fixed[:, :24]] == 0).all() and found.posterior[2, :, 30:].max() > 0.9


def test_nothing_drawn_gives_no_class() -> None:
    image, labels, _ = simulated()
    start = np.zeros((4, *SHAPE), np.float32)
    places = np.full_like(start, -np.inf)
    found = fit_mixture(image, start, np.zeros(SHAPE, bool), places, (2.0, 6.0, 6.0), 0.1)
    assert np.isfinite(found.field).all() and (found.posterior == 0).all()


def test_a_drawn_voxel_counts_as_much_as_one_that_is_found() -> None:
    """Half of the class is drawn, half is not and a little brighter; the mean lies in the middle."""
    image = np.full((1, 2, 24, 24), 0.1)
    image[..., 4:20, 4:12], image[..., 4:20, 12:20] = 0.3, 0.34
    start, fixed = np.zeros((2, 2, 24, 24), np.float32), np.zeros((2, 24, 24), bool)
    fixed[:, 4:20, 4:12], fixed[:, :2] = True, True
    start[1, :, 4:20, 4:12], start[0, :, :2] = 1, 1
    found = fit_mixture(image, start, fixed, np.zeros_like(start), (1e3, 1e3, 1e3), 0.1)
    assert (found.posterior[1, :, 4:20, 4:20] > 0.9).all() and (found.posterior[1, :, 21:] < 0.1).all()
    assert abs(found.means[1, 0] - 0.32) < 0.002
