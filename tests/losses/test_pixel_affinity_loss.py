"""The three-way affinity loss: closed forms, weights, stability."""

from __future__ import annotations

import math

import pytest
import torch

from unia_med.losses.pixel_affinity import distance_costs, edge_costs, three_way_loss

KINDS = torch.tensor([[True, False, False, False, False], [False, True, True, False, False], [False] * 3 + [True] * 2])


def test_costs_are_logarithms_of_the_affinity() -> None:
    distances = torch.tensor([0.01, 0.5, 3.0], dtype=torch.float64)
    alike, unlike = distance_costs(distances)
    affinity = torch.exp(-distances)
    torch.testing.assert_close(alike, -affinity.log())
    torch.testing.assert_close(unlike, -(1 - affinity).log())


def test_edge_costs_are_logarithms_of_the_affinity() -> None:
    logits = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    alike, unlike = edge_costs(logits)
    affinity = 1 - logits.sigmoid()
    torch.testing.assert_close(alike, -affinity.log())
    torch.testing.assert_close(unlike, -(1 - affinity).log())


def test_known_value() -> None:
    alike = torch.tensor([1.0, 2.0, 4.0, 9.0, 9.0])
    unlike = torch.tensor([9.0, 9.0, 9.0, 1.0, 3.0])
    assert float(three_way_loss(alike, unlike, *KINDS)) == pytest.approx(0.25 * 1 + 0.25 * 3 + 0.5 * 2)


def test_a_kind_without_pairs_costs_nothing_and_keeps_the_gradient_path() -> None:
    distances = torch.rand(5, requires_grad=True)
    loss = three_way_loss(*distance_costs(distances), *torch.zeros(3, 5, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0 and distances.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_equal_features_of_unlike_cells_give_a_finite_loss(dtype: torch.dtype) -> None:
    distances = torch.zeros(5, dtype=dtype, requires_grad=True)
    loss = three_way_loss(*distance_costs(distances), *KINDS)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.5 * -math.log(-math.expm1(-1e-5)), rel=1e-3)
    assert distances.grad.isfinite().all()


def test_gradients() -> None:
    distances = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.autograd.gradcheck(lambda d: three_way_loss(*distance_costs(d), *KINDS), distances.requires_grad_())
    logits = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda e: three_way_loss(*edge_costs(e), *KINDS), logits.requires_grad_())
