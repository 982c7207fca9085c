"""PAR against a literal loop over pixels and neighbours, and rule HL."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.labels import IGNORE
from unia_med.localise.pixel_refine import (
    class_scores,
    combine_high_low,
    grid_of,
    neighbour_offsets,
    pixel_kernel,
    position_weights,
    propagate,
    refine_labels,
    refined_labels,
)

PUBLISHED = (1, 2, 4, 8, 12, 24)


def test_position_kernel_has_the_published_spread_and_masses() -> None:
    lengths = [math.hypot(*offset) for offset in neighbour_offsets(PUBLISHED)]
    assert len(lengths) == 48 and abs(statistics.stdev(lengths) - 9.9003) < 5e-5
    masses = position_weights(PUBLISHED).reshape(6, 8).sum(1)
    assert torch.allclose(masses[:4], torch.tensor([0.579, 0.356, 0.065, 0.0002]), atol=6e-4)
    assert masses[4:].max() < 1e-6


@pytest.fixture(params=["cpu", "accelerator"], autouse=True)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test by both ways to compute: the one of a CPU, and the one that never looks at values."""
    if request.param == "accelerator":
        monkeypatch.setattr("unia_med.localise.pixel_refine._on_host", lambda scores: False)


def neighbours(maps: Tensor, row: int, column: int, dilations: tuple[int, ...]) -> Tensor:
    """(C, J) values around one pixel of (C, h, w), edges repeated."""
    height, width = maps.shape[1:]
    places = [
        (min(max(row + d * r, 0), height - 1), min(max(column + d * c, 0), width - 1))
        for d in dilations
        for r in (-1, 0, 1)
        for c in (-1, 0, 1)
        if (r, c) != (0, 0)
    ]
    return torch.stack([maps[:, r, c] for r, c in places], 1)


def literal_weights(image: Tensor, row: int, column: int, dilations: tuple[int, ...]) -> Tensor:
    """(J,) section 8 for one pixel of (C, h, w)."""
    around = neighbours(image, row, column, dilations)
    deviation = around.std(1, keepdim=True)
    colour = -((around - image[:, row, column, None]).abs() / (0.3 * (deviation + 1e-8))).square().mean(0)
    lengths = torch.tensor(
        [d * math.hypot(r, c) for d in dilations for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    )
    position = -(lengths / (0.3 * (lengths.std() + 1e-8))).square()
    return colour.softmax(0) + 0.01 * position.softmax(0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dilations", [(1,), (1, 3, 7)])
def test_kernel_and_propagation_by_brute_force(channels: int, dilations: tuple[int, ...]) -> None:
    images, scores = torch.rand(2, channels, 5, 6), torch.rand(2, 3, 5, 6)
    kernel = pixel_kernel(images, dilations, reduction=1)
    expected = torch.zeros_like(scores)
    for b in range(2):
        for row in range(5):
            for column in range(6):
                weights = literal_weights(images[b], row, column, dilations)
                assert torch.allclose(kernel.weights[b, :, row, column], weights, atol=1e-5)
                expected[b, :, row, column] = neighbours(scores[b], row, column, dilations) @ weights
    assert torch.allclose(propagate(kernel, scores, iterations=1), expected, atol=1e-5)


def test_one_channel_is_refined_like_three_equal_ones() -> None:
    image = torch.rand(1, 1, 12, 12)
    one, three = pixel_kernel(image), pixel_kernel(image.expand(-1, 3, -1, -1))
    assert torch.allclose(one.weights, three.weights, atol=1e-6)


def test_values_grow_by_1_1046_in_ten_iterations() -> None:
    kernel = pixel_kernel(torch.rand(1, 1, 16, 20))
    assert kernel.size == (8, 10)
    assert torch.allclose(propagate(kernel, torch.ones(1, 1, 8, 10)), torch.tensor(1.1046), atol=1e-4)


def test_a_flat_image_gives_finite_even_weights() -> None:
    weights = pixel_kernel(torch.full((1, 1, 8, 8), 0.5), (1, 2), reduction=1).weights
    assert torch.allclose(weights[0, :, 4, 4], 1 / 16 + 0.01 * position_weights((1, 2)))


def test_refinement_moves_a_blurred_border_to_the_edge() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 16:] = 1
    cam = torch.linspace(0, 1, 32).sub(0.2).clamp(0, 1).expand(1, 1, 32, 32)  # crosses 0.5 at column 22, not 16
    labels = refine_labels(pixel_kernel(image, (1, 2, 4)), cam, torch.tensor([[1]]), high=0.4, low=0.3)
    assert (labels[..., 18:] == 1).all() and (labels[..., :14] == 0).all()


def one_image_at_a_time(images: Tensor, cam: Tensor, tags: Tensor, high: float, low: float) -> Tensor:
    """Section 8's per-sample reading: only present classes are stacked, high and low run apart."""
    results = []
    for image, maps, present in zip(images, cam, tags, strict=True):
        keys = [0] + [k + 1 for k in range(len(present)) if present[k]]
        labels = []
        for theta in (high, low):
            stack = torch.cat((torch.full_like(maps[:1], theta), maps[present.bool()]))[None]
            halved = F.interpolate(stack, scale_factor=0.5, mode="bilinear", align_corners=False).softmax(1)
            refined = propagate(pixel_kernel(image[None]), halved)
            full = F.interpolate(refined, scale_factor=2, mode="bilinear", align_corners=False)
            labels.append(torch.tensor(keys)[full.argmax(1)])
        results.append(combine_high_low(*labels))
    return torch.cat(results)


def test_the_batched_label_equals_the_per_sample_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    images, cam = (torch.rand(4, c, 24, 32, generator=generator) for c in (1, 3))
    tags = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.int8)
    batched = refine_labels(pixel_kernel(images), cam, tags, high=0.65, low=0.35)
    assert torch.equal(batched, one_image_at_a_time(images, cam, tags, 0.65, 0.35))
    assert {0, 1, 3, IGNORE} >= set(batched[0].unique().tolist())


def test_absent_classes_get_no_score_and_the_rest_sums_to_one() -> None:
    scores = class_scores(torch.rand(2, 3, 8, 8), torch.tensor([[1, 0, -1], [0, 0, 0]]), 0.5, (4, 4))
    assert scores[0, 2:].abs().max() == 0 and scores[0, 1].min() > 0
    assert torch.allclose(scores.sum(1), torch.ones(2, 4, 4))


def test_rule_high_low() -> None:
    high, low = torch.tensor([2, 0, 0, 1]), torch.tensor([2, 0, 3, 2])
    assert combine_high_low(high, low).tolist() == [2, 0, IGNORE, 1]


def test_background_is_withheld_where_an_unknown_class_is_active() -> None:
    cam = torch.zeros(1, 1, 8, 8)
    cam[..., 4:6], cam[..., 6:] = 1, 0.3  # active is what exceeds the low threshold
    labels = refine_labels(pixel_kernel(torch.rand(1, 1, 8, 8), (1, 2)), cam, torch.tensor([[-1]]), 0.7, 0.25)
    assert (labels[..., 4:] == IGNORE).all() and (labels[..., :4] == 0).all()


def test_nothing_carries_a_gradient_and_the_input_stays() -> None:
    scores = torch.rand(1, 2, 8, 8, requires_grad=True)
    before = scores.detach().clone()
    assert not propagate(pixel_kernel(torch.rand(1, 1, 16, 16)), scores).requires_grad
    assert torch.equal(scores, before)


def test_both_routes_give_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    images, scores = torch.rand(2, 1, 12, 10), torch.rand(2, 3, 12, 10)
    kernel = pixel_kernel(images, (1, 2, 4), 1.0)
    found = []
    for host in (True, False):
        monkeypatch.setattr("unia_med.localise.pixel_refine._on_host", lambda scores, host=host: host)
        found.append(propagate(kernel, scores, 5, pull=0.6))
    torch.testing.assert_close(found[0], found[1])


def test_pull_is_a_walk_with_restart() -> None:
    """Against the recursion written with a dense matrix of neighbours."""
    images = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(3))
    kernel = pixel_kernel(images, (1, 2), 1.0)
    matrix = torch.stack([propagate(kernel, row.view(1, 1, 5, 6), 1).flatten() for row in torch.eye(30)], 1)
    start = torch.rand(30, generator=torch.Generator().manual_seed(4))
    expected = start
    for _ in range(4):
        expected = 0.4 * start + 0.6 * matrix @ expected
    found = propagate(kernel, start.view(1, 1, 5, 6), 4, pull=0.6).flatten()
    torch.testing.assert_close(found, expected)


def test_the_reach_is_a_share_of_the_image() -> None:
    assert grid_of((448, 448), PUBLISHED) == (2.0, PUBLISHED)
    assert grid_of((896, 300), PUBLISHED) == (4.0, PUBLISHED)
    reduction, dilations = grid_of((128, 96), PUBLISHED)
    assert reduction == 1 and dilations == (1, 2, 5, 7, 14)
    assert max(dilations) / 128 == pytest.approx(24 / 224, abs=0.005)


def test_the_temperature_divides_before_the_softmax() -> None:
    cam, tags = torch.tensor([[[[1.0]], [[0.3]]]]), torch.ones(1, 2)
    found = class_scores(cam, tags, 0.5, (1, 1), 0.1).flatten()
    torch.testing.assert_close(found, (torch.tensor([0.5, 1.0, 0.3]) / 0.1).softmax(0))


@pytest.mark.parametrize("pull", [1.0, 0.6])
def test_leaving_out_absent_classes_and_background_changes_no_label(pull: float) -> None:
    """Against all channels of all slices together; of the last two maps, the scores do not sum to 1."""
    generator = torch.Generator().manual_seed(5)
    images, cam = torch.rand(4, 1, 12, 16, generator=generator), torch.rand(4, 3, 12, 16, generator=generator)
    tags = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, -1]], dtype=torch.int8)
    kernel = pixel_kernel(images, (1, 2), 1.0)
    maps = [class_scores(cam, tags, value, (12, 16)) for value in (0.6, 0.3)]
    maps += [one * (0.5 + torch.rand(4, 1, 12, 16, generator=generator)) for one in maps]
    stacked = torch.cat(maps, 1)
    whole = refined_labels(kernel, stacked, 4, (12, 16), 3, pull)
    spared = refined_labels(kernel, stacked, 4, (12, 16), 3, pull, tags == 1, closed=2)
    assert all(torch.equal(one, other) for one, other in zip(whole, spared, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_equal_scores_are_background_as_in_an_argmax(seed: int) -> None:
    # The sums over neighbours round, and differently from processor to processor.
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    kernel = pixel_kernel(image, (1, 2, 4, 8, 12, 24), 1.0)
    scores = torch.full((1, 3, 32, 32), 1 / 3)
    (labels,) = refined_labels(kernel, scores, 1, (32, 32), present=torch.ones(1, 2), closed=1)
    assert (labels == 0).all()
