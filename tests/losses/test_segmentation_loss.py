"""Segmentation losses on partial labels against the formulas."""

from __future__ import annotations

import math

import torch

from unia_med.losses.segmentation import balanced_cross_entropy, partial_cross_entropy, soft_dice

LOGITS = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.5, 0.25, 0.25]])).T.reshape(
    1, 3, 1, 4
)
LABELS = torch.tensor([[[0, 1, 2, 255]]])


def test_balanced_cross_entropy_by_hand() -> None:
    expected = 0.5 * -math.log(0.7) + 0.5 * -(math.log(0.6) + math.log(0.6)) / 2
    assert math.isclose(balanced_cross_entropy(LOGITS, LABELS).item(), expected, rel_tol=1e-5)


def test_partial_cross_entropy_by_hand() -> None:
    expected = -(math.log(0.7) + 2 * math.log(0.6)) / 3
    assert math.isclose(partial_cross_entropy(LOGITS, LABELS).item(), expected, rel_tol=1e-5)
    weighted = partial_cross_entropy(LOGITS, LABELS, class_weights=torch.tensor([1.0, 2.0, 1.0])).item()
    assert math.isclose(weighted, -(math.log(0.7) + 3 * math.log(0.6)) / 3, rel_tol=1e-5)


def test_soft_dice_by_hand() -> None:
    first = (2 * 0.6 + 1) / (0.2 + 0.6 + 0.2 + 1 + 1)
    second = (2 * 0.6 + 1) / (0.1 + 0.3 + 0.6 + 1 + 1)
    assert math.isclose(soft_dice(LOGITS, LABELS).item(), 1 - (first + second) / 2, rel_tol=1e-5)


def test_ignored_pixels_have_no_gradient() -> None:
    for loss in (balanced_cross_entropy, partial_cross_entropy, soft_dice):
        logits = LOGITS.clone().requires_grad_()
        loss(logits, LABELS).backward()
        assert logits.grad[..., 3].abs().max() == 0 and logits.grad[..., :3].abs().min() > 0
