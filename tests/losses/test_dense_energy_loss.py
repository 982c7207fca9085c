"""Dense energy against the definition, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.losses.dense_energy import PAIR_MEAN_SCALE, dense_energy, pair_features, smoothed_scores


def setting(channels: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, 8, 12, generator=generator) * 0.3
    probabilities = torch.randn(2, 3, 8, 12, generator=generator).softmax(1).double()
    labels = torch.tensor([0, 1, 2, 255])[torch.randint(0, 4, (2, 8, 12), generator=generator)]
    return probabilities.requires_grad_(), images.double(), labels


def brute_force(probabilities: Tensor, images: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Energy and its published gradient on the half grid (B, K, 4, 6), straight from section 15."""
    scores, images, labels = F.avg_pool2d(probabilities.detach(), 2), images[:, :, ::2, ::2], labels[:, ::2, ::2]
    rgb = images.expand(-1, 3, -1, -1) * 255  # one channel stands for three equal ones
    energy, gradient, places = 0.0, torch.zeros_like(scores), [(r, c) for r in range(4) for c in range(6)]
    sigma_xy = 50 / 224 * math.sqrt(24)
    for b in range(2):
        for row, column in places:
            gate = 1 if labels[b, row, column] == 255 else max(0, 1 - scores[b, :, row, column].max().item())
            smoothed = torch.zeros(3, dtype=torch.float64)
            for r, c in places:
                near = ((row - r) ** 2 + (column - c) ** 2) / (2 * sigma_xy**2)
                alike = (rgb[b, :, row, column] - rgb[b, :, r, c]).square().sum() / (2 * 15**2)
                smoothed += torch.exp(-near - alike) * scores[b, :, r, c]
            energy -= gate * (scores[b, :, row, column] * smoothed).sum().item() / 2
            gradient[b, :, row, column] = -2 * gate * smoothed / 2
    scale = 1e-7 * (224**2 / 24) ** 2
    return energy * scale, gradient * scale


def test_value_and_published_gradient_by_brute_force() -> None:
    for channels in (1, 3):
        probabilities, images, labels = setting(channels)
        energy = dense_energy(probabilities, images, labels, chunk=7)
        energy.backward()
        value, gradient = brute_force(probabilities, images, labels)
        assert math.isclose(energy.item(), value, rel_tol=1e-9)
        spread = F.interpolate(gradient, scale_factor=2, mode="nearest") / 4  # through the 2 x 2 mean
        assert torch.allclose(probabilities.grad, spread, rtol=1e-9)


def test_published_weight_in_pair_mean_form_is_252() -> None:
    assert round(PAIR_MEAN_SCALE) == 252


def test_one_channel_measures_like_three_equal_ones() -> None:
    image = torch.rand(1, 1, 5, 7)
    features = (pair_features(image.double()), pair_features(image.double().expand(-1, 3, -1, -1)))
    one, three = (torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist") for f in features)
    assert torch.allclose(one, three)


def test_single_precision_follows_double_precision() -> None:
    probabilities, images, labels = setting(1)
    single = dense_energy(probabilities.float(), images.float(), labels)
    assert math.isclose(single.item(), dense_energy(probabilities, images, labels).item(), rel_tol=1e-4)


def test_inactive_classes_and_invalid_pixels_take_no_part() -> None:
    probabilities, images, labels = setting(1)
    active = torch.tensor([[1, 1, 0], [1, 0, 1]]) > 0
    valid = torch.ones(2, 1, 8, 12, dtype=torch.bool)
    valid[:, :, :, 6:] = False
    dense_energy(probabilities, images, labels, active=active, valid=valid).backward()
    gradient = probabilities.grad
    assert gradient[0, 2].abs().max() == 0 and gradient[1, 1].abs().max() == 0
    assert gradient[..., 6:].abs().max() == 0 and gradient[0, :2, :, :6].abs().max() > 0


def test_what_the_padding_holds_changes_nothing() -> None:
    probabilities, images, labels = setting(1)
    valid = torch.ones(2, 1, 8, 12, dtype=torch.bool)
    valid[:, :, :, 6:] = False
    inside = dense_energy(probabilities, images, labels, valid=valid)
    moved = torch.where(valid, probabilities, probabilities.flip(1))
    assert torch.equal(dense_energy(moved, images, labels, valid=valid), inside)
    assert not torch.equal(dense_energy(moved, images, labels), dense_energy(probabilities, images, labels))


def test_the_grid_is_never_longer_than_asked() -> None:
    probabilities = torch.rand(1, 2, 40, 20, requires_grad=True)
    value = dense_energy(probabilities, torch.rand(1, 1, 40, 20), torch.full((1, 40, 20), 255), longest_side=8)
    assert value.isfinite() and value < 0


@pytest.mark.parametrize(("channels", "size", "error"), [(1, (40, 24), 0.01), (2, (24, 24), 0.02), (3, (24, 24), 0.06)])
def test_the_grid_comes_close_to_the_sum_over_all_pairs(channels: int, size: tuple[int, int], error: float) -> None:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, channels, 4, 4, generator=generator)
    images = F.interpolate(coarse, size, mode="bilinear") + 0.02 * torch.rand(2, channels, *size, generator=generator)
    scores = torch.randn(2, 3, *size, generator=generator).softmax(1)
    exact, near = (smoothed_scores(images, scores, exact=one) for one in (True, False))
    assert (near - exact).norm() < error * exact.norm()
    assert F.cosine_similarity(near.flatten(1), exact.flatten(1)).min() > 0.998


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_is_a_symmetric_operator_so_that_a_gradient_is_the_same_filtering(channels: int) -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(1, channels, 20, 28, generator=generator).double()
    one, other = torch.randn(2, 1, 2, 20, 28, generator=generator).double()
    there = (one.flatten(2) * smoothed_scores(images, other, exact=False)).sum()
    back = (other.flatten(2) * smoothed_scores(images, one, exact=False)).sum()
    assert torch.allclose(there, back, rtol=1e-9)


def test_pairs_that_are_far_apart_add_nothing() -> None:
    images = torch.zeros(1, 1, 6, 6)
    images[..., 3:] = 1  # exp(-0.5 * (255 / 8.66)^2) is below what float32 holds
    scores = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    scores[:, 0, :, 3:] = 0
    found = smoothed_scores(images, scores, exact=True).view(1, 2, 6, 6)
    assert found[:, 0, :, 3:].max() < 1e-30 and found[:, 1].min() > 0.1


def test_classes_that_are_not_active_are_left_out_of_the_grid() -> None:
    images, scores = torch.rand(2, 1, 16, 16), torch.rand(2, 3, 16, 16)
    active = torch.tensor([[1, 0, 1], [1, 1, 0]]) > 0
    scores *= active[:, :, None, None]
    found = smoothed_scores(images, scores, active, exact=False)
    assert torch.allclose(found, smoothed_scores(images, scores, exact=False)) and found[0, 1].abs().max() == 0


def test_a_large_grid_is_not_summed_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unia_med.losses.dense_energy.EXACT_PIXELS", 100)
    monkeypatch.setattr("unia_med.losses.dense_energy._smooth", lambda *arguments: 1 / 0)
    probabilities = torch.rand(1, 2, 40, 40).softmax(1).requires_grad_()
    dense_energy(probabilities, torch.rand(1, 1, 40, 40), torch.full((1, 40, 40), 255)).backward()
    assert probabilities.grad.isfinite().all() and probabilities.grad.abs().max() > 0
