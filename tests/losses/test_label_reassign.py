"""Label reassignment: blobs with flipped labels, the cap, fixed points, centres and the loss against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from unia_med.labels import IGNORE
from unia_med.losses.label_reassign import (
    Centres,
    class_centres,
    grid_labels,
    label_reassign,
    memberships,
    reassign,
)

E = 8


def _blobs(count: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit points (1, N, 8) of two separated Gaussian blobs, classes 1 and 2, and their true labels."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(count).remainder(2).view(1, -1) + 1
    middles = torch.zeros(3, E)
    middles[1, 0] = middles[2, 1] = 1.0
    return F.normalize(middles[truth] + 0.12 * torch.randn(1, count, E, generator=generator), dim=2), truth


def _assigned(points: Tensor, labels: Tensor, classes: int = 3, **settings: float) -> tuple[Tensor, Tensor]:
    bank, seen = torch.zeros(classes - 1, E), torch.zeros(classes - 1, dtype=torch.bool)
    centres = class_centres(points, labels, torch.ones_like(points[..., 0]), bank, seen)
    log_membership = memberships(points, centres, torch.ones(len(points), classes, dtype=torch.bool))
    found = reassign(log_membership, labels, torch.zeros_like(labels, dtype=torch.bool), **settings)
    return found.labels, found.changed


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_flipped_labels_are_restored_and_clean_ones_left_alone(seed: int) -> None:
    points, truth = _blobs(seed=seed)
    flipped = torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed + 10)) < 0.2
    found, changed = _assigned(points, torch.where(flipped, 3 - truth, truth))
    assert (found[flipped] == truth[flipped]).float().mean() >= 0.9
    assert changed[~flipped].float().mean() < 0.02


def test_an_image_of_one_class_is_not_reassigned() -> None:
    points, _ = _blobs()
    assert not _assigned(points, torch.ones(1, 400, dtype=torch.long))[1].any()


def _two_classes(second: list[float], labels: list[int], **settings: float) -> list[int]:
    """New labels of points whose membership in class 1 is given."""
    membership = torch.tensor([[[1 - share for share in second], second]])
    points = torch.tensor([labels])
    return reassign(membership.log(), points, torch.zeros_like(points, dtype=torch.bool), **settings).labels.tolist()[0]


def test_a_class_loses_no_more_than_the_cap_and_the_largest_leads_go_first() -> None:
    second, labels = [0.9, 0.8, 0.7, 0.95, 0.1, 0.99, 0.99, 0.99, 0.99], [0] * 5 + [1] * 4
    # floor(0.5 * 5) = 2 points of class 0
    assert _two_classes(second, labels, lead=0.3, cap=0.5) == [1, 0, 0, 1, 0, 1, 1, 1, 1]
    assert _two_classes(second, labels, lead=0.3, cap=1.0) == [1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert _two_classes(second, labels, lead=0.95, cap=1.0) == labels


def test_a_class_gains_no_more_than_the_cap_of_its_own_points() -> None:
    second, labels = [0.9, 0.8, 0.7, 0.95, 0.1, 0.1, 0.99, 0.99], [0] * 6 + [1] * 2
    # class 0 may lose floor(0.5 * 6) = 3 points, class 1 may gain floor(0.5 * 2) = 1
    assert _two_classes(second, labels, lead=0.3, cap=0.5) == [0, 0, 0, 1, 0, 0, 1, 1]
    assert _two_classes(second[:6], [0] * 6, lead=0.3, cap=1.0) == [0] * 6


def test_changed_points_have_the_certainty_of_their_new_class() -> None:
    membership = torch.tensor([[[0.1, 0.7, 0.05], [0.9, 0.3, 0.95]]])
    labels = torch.tensor([[0, 0, 1]])
    found = reassign(membership.log(), labels, torch.zeros_like(labels, dtype=torch.bool), lead=0.3, cap=1.0)
    torch.testing.assert_close(found.certainty, torch.tensor([[0.9, 0.7, 0.95]]))


def test_drawn_and_unlabelled_points_never_change() -> None:
    membership = torch.tensor([[[0.01, 0.01], [0.99, 0.99]]])
    labels = torch.tensor([[0, IGNORE]])
    found = reassign(membership.log(), labels, torch.tensor([[True, False]]), lead=0.3, cap=1.0)
    assert found.labels.tolist() == [[0, IGNORE]]
    assert found.certainty[0, 1] == 0


def test_centres_are_weighted_means_mixed_with_the_bank() -> None:
    points, truth = _blobs(40)
    confidence = torch.rand(1, 40, generator=torch.Generator().manual_seed(4))
    bank = F.normalize(torch.randn(2, E, generator=torch.Generator().manual_seed(5)), dim=1)
    found = class_centres(points, truth, confidence, bank, torch.tensor([True, False]))
    for k, label in enumerate((1, 2)):
        chosen = truth[0] == label
        mean = (confidence[0, chosen, None] * points[0, chosen]).sum(0).numpy()
        mean = mean / np.linalg.norm(mean)
        if label == 1:
            mean = 0.9 * bank[0].numpy() + 0.1 * mean
            mean = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(found.objects[k].numpy(), mean, rtol=1e-5, atol=1e-6)
    assert not found.has_background.any()


def test_a_class_that_the_batch_lacks_keeps_the_centre_it_had() -> None:
    points, truth = _blobs(40)
    bank = F.normalize(torch.randn(2, E, generator=torch.Generator().manual_seed(5)), dim=1)
    labels = torch.where(truth == 1, IGNORE, truth)
    for seen in (True, False):
        found = class_centres(points, labels, torch.ones(1, 40), bank, torch.tensor([seen, False]))
        assert found.has_object.tolist() == [seen, True]
        torch.testing.assert_close(found.objects[0], bank[0])


def test_two_background_centres_find_dark_and_bright_background() -> None:
    points, truth = _blobs()
    labels = torch.zeros_like(truth)
    found = class_centres(points, labels, torch.ones(1, 400), torch.zeros(2, E), torch.zeros(2, dtype=torch.bool))
    sides = found.background[0, :, :2].argmax(1).tolist()
    assert sorted(sides) == [0, 1] and found.has_background.all()
    assert found.background[0, :, :2].amax(1).min() > 0.95
    assert not found.has_object.any()


def test_membership_is_a_softmax_of_cosines_over_the_allowed_classes() -> None:
    points = F.normalize(torch.randn(1, 5, E, generator=torch.Generator().manual_seed(0)), dim=2)
    background, objects = F.normalize(torch.randn(1, 2, E), dim=2), F.normalize(torch.randn(3, E), dim=1)
    exists = torch.tensor([True, True, False])
    centres = Centres(background, torch.ones(1, 2, dtype=torch.bool), objects, exists)
    found = memberships(points, centres, torch.tensor([[True, False, True, True]]), 0.1).exp()[0]
    for n in range(5):
        scores = np.array([float((background[0] @ points[0, n]).max()), float(objects[1] @ points[0, n])]) / 0.1
        expected = np.exp(scores - scores.max())
        np.testing.assert_allclose(found[[0, 2], n].numpy(), expected / expected.sum(), rtol=1e-4)
    assert found[[1, 3]].abs().max() == 0


def test_the_loss_equals_a_loop_over_classes() -> None:
    generator = torch.Generator().manual_seed(2)
    log_membership = torch.randn(2, 3, 6, generator=generator).log_softmax(1)
    labels = torch.tensor([[0, 0, 1, 1, IGNORE, 0], [1, 1, IGNORE, 0, 0, 1]])
    changed = torch.rand(2, 6, generator=generator) < 0.5
    certainty, confidence = torch.rand(2, 6, generator=generator), torch.rand(2, 6, generator=generator)
    means = []
    for k in (0, 1):
        costs = [
            float(certainty[b, n] if changed[b, n] else confidence[b, n]) * -float(log_membership[b, k, n])
            for b in range(2)
            for n in range(6)
            if labels[b, n] == k
        ]
        means.append(np.mean(costs))
    found = label_reassign(log_membership, labels, changed, certainty, confidence)
    assert float(found) == pytest.approx(float(np.mean(means)), rel=1e-5)


def test_cells_take_the_label_of_their_labelled_pixels() -> None:
    labels = torch.full((1, 4, 4), IGNORE)
    labels[0, 0, 0], labels[0, 2, 2], labels[0, 2, 3], labels[0, 3, 2] = 2, 0, 1, 1
    weights = torch.zeros(1, 4, 4)
    weights[0, 0, 0], weights[0, 2, 3], weights[0, 3, 2], weights[0, 2, 2] = 0.7, 0.2, 0.4, 0.9
    found, carried = grid_labels(labels, weights, 3, (2, 2))
    assert found.tolist() == [[[2, IGNORE], [IGNORE, 1]]]
    assert carried[0, 0, 0].item() == pytest.approx(0.7)
    assert carried[0, 1, 1].item() == pytest.approx(0.3)


def _chain(points: Tensor, labels: Tensor) -> Tensor:
    points = F.normalize(points.float() if points.dtype != torch.float64 else points, dim=2)
    bank, seen = torch.zeros(2, E), torch.zeros(2, dtype=torch.bool)
    confidence = torch.ones_like(points[..., 0])
    centres = class_centres(points.detach().float(), labels, confidence.float(), bank, seen)
    log_membership = memberships(points, centres, torch.ones(2, 3, dtype=torch.bool))
    new = reassign(log_membership.detach(), labels, torch.zeros_like(labels, dtype=torch.bool))
    return label_reassign(log_membership, new.labels, new.changed, new.certainty, confidence)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["none", "one", "mixed"])
def test_loss_and_gradient_are_finite_and_zero_where_nothing_is_labelled(kind: str, dtype: torch.dtype) -> None:
    points = torch.randn(2, 12, E, generator=torch.Generator().manual_seed(7)).to(dtype).requires_grad_()
    labels = torch.full((2, 12), IGNORE)
    if kind == "one":
        labels[0, 3] = 2
    elif kind == "mixed":
        labels[:, :6] = torch.arange(6) % 3
    loss = _chain(points, labels)
    loss.backward()
    assert loss.isfinite() and points.grad.isfinite().all()
    if kind == "none":
        assert loss.item() == 0 and points.grad.abs().max() == 0


def test_nothing_is_read_back_to_the_host() -> None:
    with FakeTensorMode():
        points = torch.randn(2, 12, E, requires_grad=True)
        _chain(points, torch.zeros(2, 12, dtype=torch.long)).backward()
        assert points.grad is not None
