"""Radius mask, Sinkhorn and affinity labels against literal versions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.labels import IGNORE
from unia_med.localise.affinity_refine import (
    affinity_map,
    normalise_affinity,
    pixel_and_affinity_labels,
    propagate_affinity,
    radius_mask,
)
from unia_med.localise.pixel_refine import (
    PixelKernel,
    class_scores,
    combine_high_low,
    pixel_kernel,
    propagate,
    refine_labels,
)

CPU = torch.device("cpu")


def random_affinity(tokens: int, batch: int = 1) -> Tensor:
    matrix = torch.rand(batch, tokens, tokens, generator=torch.Generator().manual_seed(0))
    return (matrix + matrix.transpose(1, 2)) / 2


def test_radius_mask_by_brute_force_and_cached() -> None:
    mask = radius_mask(3, 5, 1, CPU)
    for i in range(15):
        for j in range(15):
            near = abs(i // 5 - j // 5) <= 1 and abs(i % 5 - j % 5) <= 1
            assert mask[i, j].item() == near
    assert radius_mask(3, 5, 1, CPU) is mask


def test_published_neighbour_count() -> None:
    assert round(radius_mask(28, 28, 7, CPU).float().sum(1).mean().item()) == 169


def test_sinkhorn_is_doubly_stochastic_to_1e_7() -> None:
    matrix = normalise_affinity(random_affinity(100), power=1)
    for axis in (1, 2):
        assert torch.allclose(matrix.double().sum(axis), torch.ones(1, 100, dtype=torch.float64), atol=5e-7)


@pytest.mark.parametrize("power", [1, 2])
def test_sinkhorn_as_written(power: int) -> None:
    """The four steps of section 10 on the whole matrix, in double precision."""
    affinity, near = random_affinity(20, 2), radius_mask(4, 5, 2, CPU)
    expected = (affinity.double() * near) ** power
    for _ in range(3):
        expected = expected / expected.sum(1, keepdim=True)
        expected = expected / expected.sum(2, keepdim=True)
    expected = (expected + expected.transpose(1, 2)) / 2
    assert torch.allclose(normalise_affinity(affinity, near, power=power).double(), expected, atol=1e-6)
    squared = normalise_affinity(affinity, near, power=power, steps=2).double()
    assert torch.allclose(squared, expected @ expected, atol=1e-6)


def test_column_and_none_as_published() -> None:
    affinity, near = random_affinity(20), radius_mask(4, 5, 2, CPU)
    kept = (affinity * near).square()
    assert torch.allclose(normalise_affinity(affinity, near, "column"), kept / (kept.sum(1, keepdim=True) + 0.1))
    assert torch.equal(normalise_affinity(affinity, near, "none"), affinity)


def test_the_callers_affinity_is_left_alone() -> None:
    affinity = random_affinity(20).requires_grad_()
    before = affinity.detach().clone()
    assert not normalise_affinity(affinity, radius_mask(4, 5, 1, CPU)).requires_grad
    assert torch.equal(affinity.detach(), before)


def test_a_token_without_relations_stays_finite() -> None:
    affinity = random_affinity(6)
    affinity[:, 2], affinity[:, :, 2] = 0, 0
    assert normalise_affinity(affinity).isfinite().all()


def test_propagation_sums_over_the_source_token() -> None:
    scores, matrix = torch.rand(2, 3, 2, 4), torch.rand(2, 8, 8)
    expected = torch.einsum("bkj,bji->bki", scores.flatten(2), matrix).view(2, 3, 2, 4)
    assert torch.allclose(propagate_affinity(scores, matrix), expected, atol=1e-6)


def setting() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images, cam = (torch.rand(3, c, 16, 24, generator=generator) for c in (1, 3))
    tags = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.int8)
    return images, cam, tags, normalise_affinity(random_affinity(24, 3), radius_mask(4, 6, 2, CPU))


def literal_third_label(images: Tensor, cam: Tensor, tags: Tensor, matrix: Tensor) -> Tensor:
    """Section 10 for one image after the other with only its present classes."""
    results = []
    for b in range(3):
        keys, labels = [0] + [k + 1 for k in range(3) if tags[b, k]], []
        for theta in (0.6, 0.4):
            stack = torch.cat((torch.full_like(cam[b, :1], theta), cam[b][tags[b].bool()]))[None]
            tokens = F.interpolate(stack, (4, 6), mode="bilinear", align_corners=False).softmax(1)
            spread = (tokens.flatten(2)[0] @ matrix[b]).view(1, len(keys), 4, 6)
            halved = F.interpolate(spread, (8, 12), mode="bilinear", align_corners=False)
            refined = propagate(pixel_kernel(images[b : b + 1]), halved)
            full = F.interpolate(refined, (16, 24), mode="bilinear", align_corners=False)
            labels.append(torch.tensor(keys)[full.argmax(1)])
        results.append(combine_high_low(*labels))
    return torch.cat(results)


def test_third_label_equals_the_per_sample_loop() -> None:
    images, cam, tags, matrix = setting()
    _, found = pixel_and_affinity_labels(pixel_kernel(images), cam, tags, matrix, (4, 6), 0.6, 0.4)
    assert torch.equal(found, literal_third_label(images, cam, tags, matrix))
    assert set(found[1].unique().tolist()) == {0}


def test_both_labels_in_one_propagation_equal_the_two_alone() -> None:
    images, cam, tags, matrix = setting()
    kernel = pixel_kernel(images)
    for how in ((1.0, 1.0), (0.6, 0.1)):
        second, _ = pixel_and_affinity_labels(kernel, cam, tags, matrix, (4, 6), 0.6, 0.4, *how)
        assert torch.equal(second, refine_labels(kernel, cam, tags, 0.6, 0.4, *how))


def test_keeping_detail_propagates_what_tokens_change() -> None:
    """On maps that are constant in each token both forms are one; a line thinner than a token survives with detail."""
    images, cam, tags, matrix = setting()
    flat = F.interpolate(F.adaptive_avg_pool2d(cam, (4, 6)), (16, 24), mode="nearest")
    kernel = PixelKernel(torch.zeros(3, 8, 16, 24), (1,))
    for maps in (flat, cam):
        scores = class_scores(maps, tags, 0.6, (16, 24), 0.1)
        means = F.adaptive_avg_pool2d(scores, (4, 6))
        change = propagate_affinity(means, matrix) - means
        detailed = scores + F.interpolate(change, (16, 24), mode="bilinear")
        _, third = pixel_and_affinity_labels(kernel, maps, tags, matrix, (4, 6), 0.6, 0.6, 0.0, 0.1, keep_detail=True)
        certain = detailed.topk(2, 1)[0].diff(dim=1).abs().squeeze(1) > 1e-4
        assert torch.equal(third[certain], detailed.argmax(1)[certain])
    line = torch.zeros(3, 3, 16, 24)
    line[:, 0, 7] = 1.0
    still = torch.eye(24).expand(3, 24, 24)
    present = torch.ones(3, 3, dtype=torch.int8)
    _, kept = pixel_and_affinity_labels(kernel, line, present, still, (4, 6), 0.55, 0.45, 0.0, 0.1, keep_detail=True)
    _, lost = pixel_and_affinity_labels(kernel, line, present, still, (4, 6), 0.55, 0.45, 0.0, 0.1, keep_detail=False)
    assert torch.equal(kept, (line[:, 0] > 0).long()) and (lost == 0).all()


def test_neither_label_claims_background_where_a_class_of_unknown_tag_is_active() -> None:
    images, cam, tags, matrix = setting()
    unsure = torch.tensor([[1, -1, 1], [0, -1, 0], [-1, -1, -1]], dtype=torch.int8)
    possible = (cam * (unsure == -1)[:, :, None, None]).amax(1) > 0.4
    for labels in pixel_and_affinity_labels(pixel_kernel(images), cam, unsure, matrix, (4, 6), 0.6, 0.4):
        assert not (labels[possible] == 0).any() and (labels[1][~possible[1]] == 0).all()


def test_evaluation_map_ignores_nothing_and_no_absent_class_appears() -> None:
    _, cam, tags, matrix = setting()
    labels = affinity_map(cam, tags, matrix, (4, 6))
    assert labels.shape == (3, 16, 24) and IGNORE not in labels.unique()
    assert 2 not in labels[0].unique() and labels[1].max() == 0
