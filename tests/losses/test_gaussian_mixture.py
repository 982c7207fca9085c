"""The mixture against loops, closed forms and brute-force expectation-maximisation on small inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.labels import IGNORE
from unia_med.losses.gaussian_mixture import MixtureFit
from unia_med.losses.mixture_geometry import distances, normalise_features, pull_down, with_intensity, with_position

B, K, E = 2, 3, 5


def _scene(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (2, 5, 4, 6), labels (2, 9, 11) of which image 1 lacks class 2, probabilities, tags."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(B, E, 4, 6, generator=generator, dtype=dtype)
    labels = torch.full((B, 9, 11), IGNORE)
    labels[:, 0, :5], labels[:, 4, 2:6], labels[0, 7, 3:9] = 0, 1, 2
    probabilities = torch.rand(B, K, 9, 11, generator=generator, dtype=dtype).mul(3).softmax(1)
    return features, labels, probabilities, torch.tensor([[1, 1], [1, 0]], dtype=torch.int8)


def test_centres_equal_the_means_of_enlarged_features() -> None:
    features, labels, probabilities, tags = _scene()
    mixture = MixtureFit(K, variance="fixed")(features, labels, probabilities, tags)
    large = F.interpolate(features, size=(9, 11), mode="bilinear", align_corners=False)
    for b in range(B):
        for k in range(K):
            mask = labels[b] == k
            expected = large[b][:, mask].mean(1) if mask.any() else torch.zeros(E, dtype=torch.float64)
            torch.testing.assert_close(mixture.centres[b, k], expected)
            assert bool(mixture.exists[b, k]) is bool(mask.any())
            assert bool(mixture.present[b, k]) is bool(mixture.labelled[b, k]) is bool(mask.any())


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (4, 6), (3, 5)])
def test_pulling_down_is_the_transpose_of_enlarging(size: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *size, dtype=torch.float64)
    features = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    large = F.interpolate(features, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close((maps * large).sum((2, 3)), (pull_down(maps, (4, 6)) * features).sum((2, 3)))


@pytest.mark.parametrize("channels", [5, 64, 70])
def test_distances_equal_the_mean_absolute_difference(channels: int) -> None:
    cells, centres = torch.randn(2, 7, channels), torch.randn(2, 3, channels)
    expected = (cells.unsqueeze(1) - centres.unsqueeze(2)).abs().mean(3)
    torch.testing.assert_close(distances(cells, centres), expected, rtol=1e-5, atol=1e-5)


def test_position_adds_its_weight_times_the_mean_offset() -> None:
    plain, placed = torch.zeros(1, 6, 4, 8), with_position(torch.zeros(1, 6, 4, 8), 0.5)
    cells = placed.flatten(2).transpose(1, 2)
    far = distances(cells, cells[:, :1])[0, 0]
    assert plain.shape[1] + 2 == placed.shape[1]
    # From the first cell to the last: 2 * 3/4 of a half side down, 2 * 7/8 across.
    assert far[-1].item() == pytest.approx(0.5 * (1.5 + 1.75) / 2)


def test_intensity_adds_its_weight_times_the_mean_difference() -> None:
    images = torch.zeros(1, 2, 8, 16)
    images[:, :, :, 8:] = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)
    images[:, :, 0, 8] += 0.4  # one of the four pixels of its cell
    cells = with_intensity(torch.zeros(1, 6, 4, 8), images, 3.0).flatten(2).transpose(1, 2)
    far = distances(cells, cells[:, :1])[0, 0].unflatten(0, (4, 8))
    assert far[0, 3].item() == 0
    assert far[1, 4].item() == pytest.approx(3.0 * (0.5 + 0.25) / 2)
    assert far[0, 4].item() == pytest.approx(3.0 * (0.6 + 0.35) / 2)


def test_fixed_responses_are_exp_of_minus_squared_distance() -> None:
    features, labels, probabilities, tags = _scene()
    mixture = MixtureFit(K, variance="fixed")(features, labels, probabilities, tags)
    expected = (-mixture.distances.square()).exp() * mixture.exists[:, :, None, None]
    expected = F.interpolate(expected, size=(9, 11), mode="bilinear", align_corners=False)
    torch.testing.assert_close(mixture.responses((9, 11)), expected)
    assert mixture.responses((9, 11))[1, 2].abs().max() == 0


def test_adaptive_variance_is_the_mean_squared_distance_of_the_predicted_class() -> None:
    features, labels, _, tags = _scene()
    probabilities = torch.rand(B, K, 8, 12, dtype=torch.float64)
    labels = labels[:, :8].new_full((B, 8, 12), IGNORE)
    labels[:, 0, :5], labels[:, 4, 2:6], labels[0, 7, 3:9] = 0, 1, 2
    mixture = MixtureFit(K)(features, labels, probabilities, tags)
    pooled = probabilities.reshape(B, K, 4, 2, 6, 2).mean((3, 5))
    for b, k in ((0, 0), (0, 2), (1, 1)):
        weight, squares = pooled[b, k], mixture.distances[b, k].square()
        assert mixture.variance[b, k].item() == pytest.approx(float((weight * squares).sum() / weight.sum()))


def test_pooled_variance_is_the_mean_of_the_adaptive_ones_that_exist() -> None:
    features, labels, _, tags = _scene()
    probabilities = torch.rand(B, K, *labels.shape[1:], dtype=torch.float64)
    each = MixtureFit(K)(features, labels, probabilities, tags)
    pooled = MixtureFit(K, variance="pooled")(features, labels, probabilities, tags)
    for b in range(B):
        mean = each.variance[b][each.exists[b]].mean()
        torch.testing.assert_close(pooled.variance[b], mean.expand(K))
    assert not each.exists.all(), "a scene in which a class is missing"


def test_with_a_pooled_variance_the_nearest_centre_has_the_highest_density() -> None:
    features, labels, _, tags = _scene()
    probabilities = torch.rand(B, K, *labels.shape[1:], dtype=torch.float64)
    mixture = MixtureFit(K, variance="pooled")(features, labels, probabilities, tags)
    size = mixture.distances.shape[-2:]
    prior = mixture.prior.clamp(min=1e-30).log()[:, :, None, None]
    density = (mixture.class_log_joint(size) - prior).masked_fill(~mixture.exists[:, :, None, None], -torch.inf)
    far = mixture.distances.masked_fill(~mixture.exists[:, :, None, None], torch.inf)
    assert torch.equal(density.argmax(1), far.argmin(1))


def _brute_force_em(
    cells: np.ndarray,
    labelled: np.ndarray,
    free: np.ndarray,
    chance: np.ndarray,
    start: tuple,
    rounds: int,
    floor: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image, one Gaussian a class, loops all the way; section 7 of the specification read literally."""
    centres, variance, prior = (np.array(v, dtype=float) for v in start)
    classes, count = labelled.shape
    for _ in range(rounds):
        posterior = np.zeros((classes, count))
        for n in range(count):
            density = [
                prior[k]
                / math.sqrt(variance[k])
                * math.exp(-(np.abs(cells[n] - centres[k]).mean() ** 2) / (2 * variance[k]))
                for k in range(classes)
            ]
            posterior[:, n] = np.array(density) / sum(density)
        trusted = posterior * chance
        trusted[trusted <= 0.5] = 0
        trusted = trusted * free
        new_prior = np.zeros(classes)
        for k in range(classes):
            scale = min(1.0, 4 * labelled[k].sum() / trusted[k].sum()) if trusted[k].sum() > 0 else 1.0
            weight = labelled[k] + scale * trusted[k]
            centres[k] = (weight[:, None] * cells).sum(0) / weight.sum()
            far = np.abs(cells - centres[k]).mean(1)
            variance[k] = max(1e-3, (weight * far**2).sum() / weight.sum())
            new_prior[k] = labelled[k].sum() + (posterior[k] * free).sum()
        prior = np.maximum(new_prior / new_prior.sum(), floor)
        prior /= prior.sum()
    return centres, variance, prior


@pytest.mark.parametrize(("rounds", "floor"), [(1, 0.02), (2, 0.02), (4, 0.02), (2, 0.34)])
def test_online_em_equals_brute_force(rounds: int, floor: float) -> None:
    generator = torch.Generator().manual_seed(3)
    truth = (torch.arange(36) % 3).view(1, 6, 6)
    features = 2.0 * F.one_hot(truth, 4).movedim(-1, 1).double() + 0.5 * torch.randn(
        1, 4, 6, 6, generator=generator, dtype=torch.float64
    )
    labels = torch.full((1, 6, 6), IGNORE)
    labels[0, 0, :3] = truth[0, 0, :3]
    chance = F.one_hot(truth, 3).movedim(-1, 1) * 4.0 + torch.randn(1, 3, 6, 6, generator=generator)
    chance = chance.softmax(1).double()
    tags = torch.ones(1, 2, dtype=torch.int8)
    start = MixtureFit(3)(features, labels, chance, tags)
    found = MixtureFit(3, rounds=rounds, prior_floor=floor)(features, labels, chance, tags)
    one_hot = F.one_hot(labels.where(labels != IGNORE, 3), 4)[..., :3].reshape(36, 3).T.double().numpy()
    expected = _brute_force_em(
        features[0].flatten(1).T.numpy(),
        one_hot,
        (labels == IGNORE).flatten().double().numpy(),
        chance[0].flatten(1).numpy(),
        (start.centres[0].numpy(), start.variance[0].numpy(), start.prior[0].numpy()),
        rounds,
        floor,
    )
    for value, wanted in zip((found.centres, found.variance, found.prior), expected, strict=True):
        np.testing.assert_allclose(value[0].numpy(), wanted, rtol=1e-8)
    assert not np.allclose(found.centres[0].numpy(), start.centres[0].numpy())


def test_em_moves_centres_but_gradient_still_comes_from_labelled_pixels_alone() -> None:
    features, labels, probabilities, tags = _scene()
    grids = []
    for rounds in (0, 2):
        leaf = features.clone().requires_grad_()
        mixture = MixtureFit(K, rounds=rounds)(leaf, labels, probabilities, tags)
        mixture.centres.sum().backward()
        grids.append(leaf.grad)
    torch.testing.assert_close(grids[0], grids[1])


def test_background_clusters_find_separate_modes() -> None:
    """Three blobs labelled background and one labelled 1: three background Gaussians sit on the blobs."""
    blobs = torch.tensor([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0], [-4.0, -4.0, 0]], dtype=torch.float64)
    owner = (torch.arange(64) // 16).view(1, 8, 8)
    noise = 0.1 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features = blobs[owner].movedim(-1, 1) + noise
    labels = torch.where(owner == 3, 1, 0)
    mixture = MixtureFit(2, (3, 1))(features, labels, torch.full((1, 2, 8, 8), 0.5).double(), torch.ones(1, 1))
    nearest = torch.cdist(mixture.centres[0], blobs, p=1)
    assert mixture.owner.tolist() == [0, 0, 0, 1]
    assert sorted(nearest.argmin(1).tolist()) == [0, 1, 2, 3]
    assert nearest.min(1).values.max() < 0.3
    assert (mixture.posterior((8, 8)).argmax(1) == labels).all()


def test_a_cluster_that_runs_empty_stays_where_it_was() -> None:
    """Starts are -3.1, 3.1 and -1; the last loses -1 to the left and 1 to the right after one round, for good.

    Put to 0 instead, it would take -1 back: the left cluster's mean is then -2.08.
    """
    points = [-3.1, *[-2.1] * 3, -1.0, *[1.0] * 3, *[1.1] * 5, 3.1]
    features, labels = torch.tensor(points).view(1, 1, 1, -1), torch.zeros(1, 1, len(points), dtype=torch.long)
    probabilities = torch.full((1, 2, 1, len(points)), 0.5)
    mixture = MixtureFit(2, (3, 1), "fixed")(features, labels, probabilities, torch.ones(1, 1))
    assert mixture.exists.tolist() == [[True, True, False, False]]
    torch.testing.assert_close(mixture.centres[0, :2, 0], torch.tensor([-10.4 / 5, 11.6 / 9]))


def test_fewer_labelled_pixels_than_clusters_leave_empty_gaussians_out() -> None:
    features, labels, probabilities, tags = _scene()
    labels[:] = IGNORE
    labels[0, 4, 5] = 0
    mixture = MixtureFit(K, (8, 1), rounds=2)(features, labels, probabilities, tags)
    assert mixture.present.tolist() == [[True, False, False], [False, False, False]]
    maps = (mixture.posterior((9, 11)), mixture.responses((9, 11)))
    assert all(value.isfinite().all() for value in (mixture.centres, mixture.variance, mixture.prior, *maps))
    torch.testing.assert_close(mixture.posterior((9, 11))[0, 0], torch.ones(9, 11, dtype=torch.float64))
    assert mixture.posterior((9, 11))[1].abs().max() == 0


def test_padding_neither_counts_nor_bleeds() -> None:
    """What lies in the padded columns changes nothing inside: centres, variance, responses."""
    features, labels, probabilities, tags = _scene()
    features, labels = torch.cat((features, features), 3), torch.cat((labels[..., :8], labels[..., :8]), 2)[:, :8]
    probabilities = torch.rand(B, K, 8, 16, dtype=torch.float64)
    features = F.interpolate(features, size=(4, 8))
    valid = torch.ones(B, 1, 8, 16)
    valid[..., 12:] = 0
    found = []
    for change in (0.0, 50.0):
        moved = features.clone()
        moved[..., 6:] += change  # cells 6 and 7 hold pixels 12 to 15; cell 6 also reaches pixel 11
        moved[..., 6] = features[..., 6]
        normal = normalise_features(moved, valid)
        found.append(MixtureFit(K, rounds=2)(normal, labels, probabilities, tags, valid))
    for name in ("centres", "variance", "prior"):
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name))
    torch.testing.assert_close(found[0].responses((8, 16))[..., :12], found[1].responses((8, 16))[..., :12])


def test_tagged_classes_without_labels_have_no_gaussian() -> None:
    features, labels, probabilities, _ = _scene()
    tags = torch.ones(B, 2, dtype=torch.int8)
    assert not MixtureFit(K, (2, 1))(features, labels, probabilities, tags).present[1, 2]


def test_features_are_standardised_inside_the_source_image() -> None:
    features, valid = torch.randn(2, 3, 4, 6) * 7 + 2, torch.ones(2, 1, 8, 12)
    valid[..., 8:] = 0
    normal = normalise_features(features.half(), valid)[..., :4]
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal.mean((2, 3)), torch.zeros(2, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(normal.var((2, 3), unbiased=False), torch.ones(2, 3), atol=1e-2, rtol=0)
