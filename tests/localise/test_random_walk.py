"""Random walks: both evaluations against each other and a plain matrix, and what any walk must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unia_med.localise.pixel_pairs import pair_offsets
from unia_med.localise.random_walk import absorbing_walk, dense_transition, pair_weights, random_walk

OFFSETS = pair_offsets(5)
SIZE = (9, 11)


def _weights(seed: int = 0, batch: int = 2, beta: float = 1.0) -> torch.Tensor:
    costs = torch.rand(batch, len(OFFSETS), *SIZE, generator=torch.Generator().manual_seed(seed)) * 4
    return pair_weights(costs, beta, OFFSETS)


def _scores(seed: int = 1, batch: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand(batch, channels, *SIZE, generator=torch.Generator().manual_seed(seed))


def _matrix(weights: torch.Tensor, image: int) -> np.ndarray:
    """Symmetric W with a unit diagonal, cell by cell."""
    height, width = SIZE
    matrix = np.eye(height * width)
    for index, (dy, dx) in enumerate(OFFSETS):
        for y in range(height - dy):
            for x in range(max(0, -dx), width - max(0, dx)):
                a, b = y * width + x, (y + dy) * width + x + dx
                matrix[a, b] = matrix[b, a] = float(weights[image, index, y, x])
    return matrix


@pytest.mark.parametrize("log2_steps", [0, 3, 8])
def test_both_evaluations_equal_the_matrix_power(log2_steps: int) -> None:
    weights, scores = _weights().double(), _scores().double()
    dense = random_walk(weights, scores, OFFSETS, log2_steps, "dense")
    stencil = random_walk(weights, scores, OFFSETS, log2_steps, "stencil")
    torch.testing.assert_close(dense, stencil, atol=1e-12, rtol=0)
    single = random_walk(weights.float(), scores.float(), OFFSETS, log2_steps, "stencil")
    torch.testing.assert_close(single.double(), stencil, atol=4e-6, rtol=0)
    for image in range(2):
        matrix = _matrix(weights, image)
        transition = matrix / matrix.sum(1, keepdims=True)
        power = np.linalg.matrix_power(transition, 2**log2_steps)
        expected = power @ scores[image].flatten(1).T.double().numpy()
        np.testing.assert_allclose(stencil[image].flatten(1).T, expected, atol=1e-9)


def test_transition_rows_sum_to_one_and_reach_every_neighbour_at_the_border() -> None:
    transition = dense_transition(_weights(), OFFSETS)
    torch.testing.assert_close(transition.sum(2), torch.ones(2, 99))
    corner = int((transition[0, 0] > 0).sum()) - 1
    assert corner == sum((y**2 + x**2) < 25 for y in range(5) for x in range(5)) - 1  # a full quarter disc


@pytest.mark.parametrize("evaluation", ["dense", "stencil"])
def test_constants_stay_and_scores_stay_in_range(evaluation: str) -> None:
    ones = torch.ones(2, 1, *SIZE)
    torch.testing.assert_close(random_walk(_weights(), ones, OFFSETS, 8, evaluation), ones, atol=1e-5, rtol=0)
    walked = random_walk(_weights(), _scores(), OFFSETS, 4, evaluation)
    assert 0 <= float(walked.min()) and float(walked.max()) <= 1 + 1e-6


@pytest.mark.parametrize("evaluation", ["dense", "stencil"])
def test_no_affinity_leaves_scores_alone(evaluation: str) -> None:
    weights = torch.zeros(2, len(OFFSETS), *SIZE)
    torch.testing.assert_close(random_walk(weights, _scores(), OFFSETS, 8, evaluation), _scores())


def test_padding_neither_gives_nor_drains() -> None:
    costs = torch.zeros(1, len(OFFSETS), *SIZE)
    valid = torch.ones(1, *SIZE, dtype=torch.bool)
    valid[:, :, 8:] = False
    weights = pair_weights(costs, 8.0, OFFSETS, valid)
    scores = valid[:, None].float()
    torch.testing.assert_close(random_walk(weights, scores, OFFSETS, 6, "stencil"), scores, atol=1e-5, rtol=0)


def test_the_input_is_not_changed() -> None:
    scores = _scores()
    random_walk(_weights(), scores, OFFSETS, 2, "stencil")
    torch.testing.assert_close(scores, _scores())


def test_absorbing_walk_equals_the_linear_system() -> None:
    weights = _weights(beta=2.0)
    seeded = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(3)) < 0.1
    classes = torch.randint(0, 3, (2, *SIZE), generator=torch.Generator().manual_seed(4))
    seeds = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float()
    found = absorbing_walk(weights, seeds, seeded, OFFSETS)
    for image in range(2):
        matrix = _matrix(weights, image)
        transition = matrix / matrix.sum(1, keepdims=True)
        known = seeded[image].flatten().numpy()
        given = seeds[image].flatten(1).T.double().numpy()
        free = np.eye((~known).sum()) - transition[np.ix_(~known, ~known)]
        expected = given.copy()
        expected[~known] = np.linalg.solve(free, transition[np.ix_(~known, known)] @ given[known])
        np.testing.assert_allclose(found[image].flatten(1).T, expected, atol=2e-4)


def test_a_long_walk_meets_either_end_by_its_distance() -> None:
    """The gambler's ruin on a line of 80 cells; a million steps of the other walk lose nothing to rounding."""
    offsets, line = [(0, 1)], torch.ones(1, 1, 1, 80)
    seeds, seeded = torch.zeros(1, 1, 1, 80), torch.zeros(1, 1, 80, dtype=torch.bool)
    seeded[..., 0], seeded[..., -1], seeds[..., -1] = True, True, 1.0
    found = absorbing_walk(line, seeds, seeded, offsets)
    torch.testing.assert_close(found.flatten(), torch.linspace(0, 1, 80), atol=1e-3, rtol=0)
    torch.testing.assert_close(random_walk(line, line, offsets, 20, "dense"), line, atol=1e-5, rtol=0)


def test_absorbing_walk_keeps_seeds_and_says_nothing_out_of_reach() -> None:
    weights = _weights(batch=1)
    weights[..., 4:, :] = 0  # rows from 4 on start no pair; those that end there are cut below
    for index, (dy, _) in enumerate(OFFSETS):
        weights[:, index, max(4 - dy, 0) : 4] = 0
    seeds = torch.zeros(1, 2, *SIZE)
    seeds[0, 1, 0, 0] = 1
    seeded = torch.zeros(1, *SIZE, dtype=torch.bool)
    seeded[0, 0, 0] = True
    found = absorbing_walk(weights, seeds, seeded, OFFSETS)
    torch.testing.assert_close(found[0, 1, :4], torch.ones(4, 11), atol=1e-3, rtol=0)
    assert float(found[0, :, 4:].abs().max()) == 0


def test_absorbing_walk_without_seeds_is_zero() -> None:
    nothing = torch.zeros(2, *SIZE, dtype=torch.bool)
    assert float(absorbing_walk(_weights(), _scores(), nothing, OFFSETS).abs().max()) == 0
