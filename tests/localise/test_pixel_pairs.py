"""Shifted-view pairs against a loop over all pairs of cells."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from unia_med.labels import IGNORE
from unia_med.localise.pixel_pairs import (
    feature_distances,
    grid_labels,
    inside,
    pair_kinds,
    pair_offsets,
    path_cells,
    path_maxima,
)


def _pairs(height: int, width: int, radius: float) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Every unordered pair of cells nearer than the radius, each once, first cell first in reading order."""
    cells = list(itertools.product(range(height), range(width)))
    return [(a, b) for a, b in itertools.combinations(cells, 2) if math.dist(a, b) < radius]


@pytest.mark.parametrize(("radius", "count"), [(3, 12), (4, 22), (5, 34), (6, 54), (8, 96), (10, 152)])
def test_offset_counts_are_those_of_the_specification(radius: float, count: int) -> None:
    offsets = pair_offsets(radius)
    assert len(offsets) == count
    assert not set(offsets) & {(-y, -x) for y, x in offsets}


@pytest.mark.parametrize("size", [(6, 9), (3, 4), (1, 7)])
def test_every_pair_is_there_once_borders_included(size: tuple[int, int]) -> None:
    offsets = pair_offsets(5)
    assert int(inside(size, offsets).sum()) == len(_pairs(*size, 5))


@pytest.mark.parametrize("size", [(6, 9), (3, 4)])
def test_distances_equal_the_loop(size: tuple[int, int]) -> None:
    features = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(0))
    offsets = pair_offsets(4)
    found = feature_distances(features, offsets)
    expected = torch.zeros_like(found)
    for (y, x), (v, u) in _pairs(*size, 4):
        expected[:, offsets.index((v - y, u - x)), y, x] = (features[:, :, y, x] - features[:, :, v, u]).abs().mean(1)
    torch.testing.assert_close(found, expected)


def test_distance_gradients() -> None:
    features = torch.randn(1, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    offsets = pair_offsets(3)
    assert torch.autograd.gradcheck(lambda f: feature_distances(f, offsets), features.requires_grad_())


def test_distances_keep_nothing_but_features_for_the_backward_pass() -> None:
    features = torch.randn(1, 64, 16, 16, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        feature_distances(features, pair_offsets(5))
    assert sum(kept) <= features.numel()


def test_path_maxima_equal_the_loop() -> None:
    """Up to (3, 4), whose way has cells at a distance of exactly 1, which do not belong to it."""
    edges = torch.randn(2, 1, 6, 7, generator=torch.Generator().manual_seed(2))
    offsets = pair_offsets(5.5)
    found = path_maxima(edges, offsets)
    for (y, x), (v, u) in _pairs(6, 7, 5.5):
        dy, dx = v - y, u - x
        length = math.hypot(dy, dx)
        box = itertools.product(range(min(y, v), max(y, v) + 1), range(min(x, u), max(x, u) + 1))
        near = [(a, b) for a, b in box if abs(dy * (b - x) - dx * (a - y)) / length < 1 - 1e-9]
        expected = torch.stack([edges[:, 0, a, b] for a, b in near]).amax(0)
        torch.testing.assert_close(found[:, offsets.index((dy, dx)), y, x], expected)


def test_path_holds_its_ends() -> None:
    for offset in pair_offsets(10):
        assert {(0, 0), offset} <= set(path_cells(offset))


def test_pair_kinds_equal_the_loop() -> None:
    labels = torch.tensor([[[0, 0, 1, 2], [IGNORE, 1, 1, 0], [0, 2, IGNORE, 0]]])
    offsets = pair_offsets(3)
    background, foreground, negative = pair_kinds(labels, offsets)
    for (y, x), (v, u) in _pairs(3, 4, 3):
        a, b = int(labels[0, y, x]), int(labels[0, v, u])
        place = (0, offsets.index((v - y, u - x)), y, x)
        known = IGNORE not in (a, b)
        assert bool(background[place]) == (known and a == b == 0)
        assert bool(foreground[place]) == (known and a == b != 0)
        assert bool(negative[place]) == (known and a != b)
    assert int((background | foreground | negative).sum()) <= len(_pairs(3, 4, 3))


def test_grid_labels_keep_thin_lines_and_drop_conflicts() -> None:
    labels = torch.full((1, 4, 6), IGNORE)
    labels[0, 1, 0] = 2  # one pixel of a line wins its cell
    labels[0, 0, 2], labels[0, 1, 3] = 1, 0  # two classes in one cell
    labels[0, 2:, 4:] = 0
    assert grid_labels(labels, (2, 3), 3).tolist() == [[[2, IGNORE, IGNORE], [IGNORE, IGNORE, 0]]]
