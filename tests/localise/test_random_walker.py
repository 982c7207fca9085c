"""The random walker against closed forms, a brute-force walk and scikit-image."""

from __future__ import annotations

import numpy as np

from unia_med.labels import IGNORE
from unia_med.localise.random_walker import walker_probabilities

Y, X = np.indices((64, 64))
RADIUS = np.hypot(Y - 32, X - 32)


def test_walker_on_a_line_is_linear_in_the_resistance() -> None:
    """In a strip of one row the probability falls by each edge's resistance, 1 / weight.

    The deviation is that of the whole slice, not of the part in which the walk is.
    """
    image = np.array([[0.9, 0.1, 0.1, 0.2, 0.2, 0.6, 0.6, 0.0]])
    labels = np.array([[1, 1, IGNORE, IGNORE, IGNORE, IGNORE, 0, 0]], np.uint8)
    beta = 50.0
    resistance = 1 / (np.exp(-beta * np.diff(image[0, 1:7]) ** 2 / (10 * image.std())) + 1e-6)
    expected = 1 - np.cumsum([0, *resistance]) / resistance.sum()
    found = walker_probabilities(image, labels, 2, beta)
    assert np.allclose(found[1, 0, 1:7], expected, atol=1e-5) and np.allclose(found.sum(0), 1, atol=1e-5)


def test_walker_equals_many_steps_of_the_walk() -> None:
    """Repeated averaging over neighbours, labels held fixed, ends at the same probabilities."""
    generator = np.random.default_rng(0)
    image, beta = generator.random((7, 8)), 30.0
    labels = np.full((7, 8), IGNORE, np.uint8)
    labels[1, 1], labels[5, 6], labels[0, 7], labels[4, 3] = 1, 2, 0, 2
    found = walker_probabilities(image, labels, 4, beta)
    state = np.where(labels == IGNORE, 0.0, np.arange(4)[:, None, None] == labels)
    weights = {}
    for y, x in np.ndindex(image.shape):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (-1, -1), (-1, 1)):
            if 0 <= y + dy < 7 and 0 <= x + dx < 8:
                step = (image[y, x] - image[y + dy, x + dx]) ** 2
                weight = np.exp(-beta * step / (10 * image.std())) + 1e-6
                weights[y, x, y + dy, x + dx] = weight * (0.5 if dy and dx else 1.0)
    for _ in range(3000):
        total, sums = np.zeros(image.shape), np.zeros_like(state)
        for (y, x, v, u), weight in weights.items():
            total[y, x] += weight
            sums[:, y, x] += weight * state[:, v, u]
        state = np.where(labels == IGNORE, sums / total, state)
        if np.abs(state - found).max() < 1e-5:
            break
    assert np.abs(state - found).max() < 1e-4
    assert found[3].max() == 0


def test_walker_finds_a_disc_by_its_edge_better_than_scikit_image_by_four_neighbours() -> None:
    from skimage.segmentation import random_walker

    disc = RADIUS < 12
    image = disc * 0.5 + np.random.default_rng(1).normal(0, 0.03, disc.shape)
    labels = np.full(disc.shape, IGNORE, np.uint8)
    labels[32, 26:38], labels[0] = 1, 0
    found = walker_probabilities(image, labels, 2).argmax(0) == 1
    seeds = np.where(labels == IGNORE, 0, labels + 1)
    theirs = random_walker(image, seeds, beta=2000, mode="cg_j") == 2
    assert (found != disc).sum() <= (theirs != disc).sum() and (found != disc).mean() < 0.01


def test_walker_of_one_class_or_none() -> None:
    image, labels = np.zeros((5, 5)), np.full((5, 5), IGNORE, np.uint8)
    assert walker_probabilities(image, labels, 3).sum() == 0
    labels[2, 2] = 2
    assert (walker_probabilities(image, labels, 3)[2] == 1).all()
    assert (walker_probabilities(image, np.ones((5, 5), np.uint8), 3).argmax(0) == 1).all()


def test_walker_takes_channels() -> None:
    image = np.random.default_rng(0).random((9, 9))
    labels = np.full((9, 9), IGNORE, np.uint8)
    labels[0, 0], labels[8, 8] = 0, 1
    flat = np.stack([image, np.full_like(image, image.mean())])
    one, two = (walker_probabilities(i, labels, 2, 10.0 * i.std()) for i in (image, flat))
    assert np.allclose(one, two, atol=1e-5)  # a channel without edges adds nothing but its share of the deviation
