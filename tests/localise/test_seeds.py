"""Seeds from activation maps, and local refinement, against values worked out by hand or by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unia_med.labels import IGNORE
from unia_med.localise.confident import with_background
from unia_med.localise.local_refine import local_kernel, refined_scores, sole_winners
from unia_med.localise.normalise import normalise_maps
from unia_med.localise.pixel_refine import neighbour_offsets, propagate
from unia_med.localise.seeds import fill_missing, seed_labels

BOTH = torch.tensor([[1, 1]], dtype=torch.int8)


def test_maps_are_divided_by_their_peak_and_untagged_classes_are_silent() -> None:
    maps = torch.tensor([[[[-1.0, 2.0, 4.0]], [[1.0, 8.0, 2.0]]]])
    found = normalise_maps(maps, torch.tensor([[1, 0]]))
    torch.testing.assert_close(found[0, 0], torch.tensor([[0.0, 0.5, 1.0]]), rtol=1e-4, atol=1e-4)
    assert found[0, 1].abs().max() == 0


def test_seeds_need_a_clear_winner() -> None:
    maps = torch.tensor([[[[0.9, 0.5, 0.39, 0.02, 0.3]], [[0.1, 0.45, 0.0, 0.04, 0.5]]]])
    found = seed_labels(maps, BOTH, erosion_cells=0)
    assert found.tolist() == [[[1, IGNORE, IGNORE, 0, 2]]]
    assert seed_labels(maps, torch.tensor([[1, -1]]), erosion_cells=0)[0, 0, 3] == IGNORE


def test_a_single_tag_class_seeds_as_well() -> None:
    maps = torch.tensor([[[[0.9, 0.2, 0.01]]]])
    assert seed_labels(maps, BOTH[:, :1], erosion_cells=0).tolist() == [[[1, IGNORE, 0]]]


def test_erosion_takes_the_rim_off_and_keeps_the_image_border() -> None:
    maps = torch.zeros(1, 1, 5, 5)
    maps[..., :3] = 1.0
    found = seed_labels(maps, BOTH[:, :1])
    assert found[0].tolist() == [[1, 1, IGNORE, IGNORE, 0]] * 5


def test_only_classes_without_a_label_are_filled_in() -> None:
    labels = torch.full((2, 1, 4), IGNORE)
    labels[0, 0, 0] = 1
    seeds = torch.tensor([[[2, 1, 2, 0]], [[2, 1, IGNORE, 0]]])
    assert fill_missing(labels, seeds, 3).tolist() == [[[1, IGNORE, 2, 0]], [[2, 1, IGNORE, 0]]]


def test_the_local_kernel_equals_a_loop() -> None:
    image = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    kernel = local_kernel(image, (1, 2), reduction=1)
    plane = image[0, 0].numpy()
    for y, x in ((0, 0), (2, 3), (4, 5)):
        near = np.array([plane[np.clip(y + dy, 0, 4), np.clip(x + dx, 0, 5)] for dy, dx in neighbour_offsets((1, 2))])
        sigma = np.append(near, plane[y, x]).std(ddof=1)
        weight = np.exp(-np.abs(near - plane[y, x]) / (0.1 * sigma))
        np.testing.assert_allclose(kernel.weights[0, :, y, x].numpy(), weight / weight.sum(), rtol=1e-4, atol=1e-7)


def test_refined_probabilities_still_sum_to_one() -> None:
    image = torch.rand(2, 1, 12, 16)
    scores = torch.rand(2, 3, 12, 16).softmax(1)
    found = refined_scores(local_kernel(image, (1, 2)), scores, 5)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 12, 16))


def test_refinement_respects_an_edge() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 4:] = 1.0
    scores = torch.zeros(1, 1, 8, 8)
    scores[0, 0, 4, 1] = 1.0
    found = propagate(local_kernel(image, (1,), reduction=1), scores, 10)[0, 0]
    assert found[:, :4].max() > 0.01
    assert found[:, 4:].max() < 1e-3 * found[:, :4].max()


def test_background_score_falls_with_the_highest_map() -> None:
    maps = torch.tensor([[[[0.0, 0.5]], [[0.1, 0.2]]]])
    found = with_background(maps, 4.0)
    assert found[0, 0, 0].tolist() == pytest.approx([0.9**4, 0.5**4])


def test_only_sole_winners_are_labelled() -> None:
    scores = torch.tensor([[[[1.0, 0.1, 0.75, 0.3]], [[0.0, 1.0, 0.7, 0.1]]]])
    # Thresholds 0.7 and 0.6 of the maxima: the third pixel has both, the fourth none.
    assert sole_winners(scores).tolist() == [[[0, 1, IGNORE, IGNORE]]]
    assert (sole_winners(0.1 * scores) == IGNORE).all()
