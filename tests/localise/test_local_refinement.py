"""Local refinement against loops over pixels (AA&LR, section 3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unia_med.labels import IGNORE
from unia_med.localise.local_refine import local_kernel, refined_scores, sole_winners
from unia_med.localise.pixel_refine import neighbour_offsets


@pytest.mark.parametrize("dilations", [(1,), (1, 3)])
def test_weights_by_brute_force(dilations: tuple[int, ...]) -> None:
    """Softmax over neighbours of -|dI| / (0.1 sd), mean over channels; the deviation counts the pixel itself too."""
    images = torch.rand(2, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    kernel = local_kernel(images, dilations)
    assert kernel.size == (4, 6)
    small = F.interpolate(images, (4, 6), mode="bilinear").double().numpy()
    for b, y, x in np.ndindex(2, 4, 6):
        places = [(min(max(y + v, 0), 3), min(max(x + u, 0), 5)) for v, u in neighbour_offsets(dilations)]
        near, own = np.array([small[b, :, v, u] for v, u in places]), small[b, :, y, x]
        deviation = np.concatenate((near, own[None])).std(0, ddof=1) + 1e-8
        weights = np.exp(-(np.abs(near - own) / (0.1 * deviation)).mean(1))
        np.testing.assert_allclose(kernel.weights[b, :, y, x], weights / weights.sum(), rtol=1e-3, atol=1e-6)


def test_scores_stop_at_an_edge_and_keep_their_sum() -> None:
    images = (torch.arange(16) >= 8).float().expand(1, 1, 16, 16)
    scores = torch.zeros(1, 2, 16, 16)
    scores[:, 1, :, 8:12] = 1.0
    scores[:, 0] = 1 - scores[:, 1]
    found = refined_scores(local_kernel(images, (1, 2)), scores)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 16, 16))
    assert found[0, 1, :, :7].max() < 0.05 and found[0, 1, :, 13:].min() > 0.1


def test_a_pixel_belongs_to_the_one_class_that_is_near_its_own_maximum() -> None:
    """0.7 of it for background, 0.6 for classes, never below 0.2; equal is not above."""
    background = torch.tensor([1.0, 0.71, 0.7, 0.65, 0.0, 0.0, 0.0, 0.0])
    first = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, 0.31, 0.3, 0.31])
    second = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.19, 0.19, 0.21])
    scores = torch.stack((background, first, second)).view(1, 3, 1, 8)
    assert sole_winners(scores).tolist() == [[[0, 0, IGNORE, IGNORE, 1, 1, IGNORE, IGNORE]]]
