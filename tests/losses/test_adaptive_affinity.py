"""The adaptive affinity loss against a numpy loop over all ordered pairs, and its behaviour at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from unia_med.labels import IGNORE
from unia_med.losses.adaptive_affinity import adaptive_affinity, group_counts

B, K, H, W = 2, 3, 6, 7
GATE = 0.3
WEIGHTS = {"max": max, "min": min, "mean": lambda a, b: (a + b) / 2, "none": lambda a, b: 1.0}


def _scene() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(B, K, H, W, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, K, (B, H, W), generator=generator)
    labels[:, 2, 1:4] = IGNORE
    confidence = torch.rand(B, H, W, generator=generator, dtype=torch.float64)
    confidence[:, ::2, ::2] = GATE  # pairs exactly at the gate, which count
    return logits, labels, confidence


def _loop(
    logits: Tensor, labels: Tensor, confidence: Tensor, offset: int, margin: float, gate: float, how: str
) -> float:
    """Section 5 read literally: every pixel, its 8 neighbours, ordered pairs, four groups."""
    p = logits.softmax(1).numpy().clip(1e-4, 1)
    q = (1 - logits.softmax(1).numpy()).clip(1e-4, 1)
    groups: dict[str, list[float]] = {name: [] for name in ("00", "kk", "kl", "0k")}
    steps = [(y, x) for y in (-offset, 0, offset) for x in (-offset, 0, offset) if (y, x) != (0, 0)]
    for b, y, x in np.ndindex(B, H, W):
        for dy, dx in steps:
            v, u = y + dy, x + dx
            if not (0 <= v < H and 0 <= u < W) or IGNORE in (labels[b, y, x], labels[b, v, u]):
                continue
            weight = WEIGHTS[how](float(confidence[b, y, x]), float(confidence[b, v, u]))
            if weight < gate:
                continue
            pi, pj, qi, qj = p[b, :, y, x], p[b, :, v, u], q[b, :, y, x], q[b, :, v, u]
            far = float((pj * np.log(pj / pi) + qj * np.log(qj / qi)).sum())
            i, j = int(labels[b, y, x]), int(labels[b, v, u])
            if i == j:
                groups["00" if i == 0 else "kk"].append(weight * far)
            else:
                groups["0k" if 0 in (i, j) else "kl"].append(max(0.0, margin * weight - far))
    means = {name: float(np.mean(values)) if values else 0.0 for name, values in groups.items()}
    return means["00"] + means["kk"] + 2 * (means["kl"] + means["0k"])


@pytest.mark.parametrize("how", WEIGHTS)
@pytest.mark.parametrize("offset", [1, 2, 4])
def test_the_loss_equals_a_loop_over_ordered_pairs(offset: int, how: str) -> None:
    scene = _scene()
    found = adaptive_affinity(*scene, offsets=(offset,), margin=3.0, gate=GATE, weighting=how)
    assert float(found) == pytest.approx(_loop(*scene, offset, 3.0, GATE, how), rel=1e-9)


def test_several_offsets_are_averaged() -> None:
    scene = _scene()
    expected = np.mean([_loop(*scene, offset, 2.0, 0.0, "max") for offset in (1, 2, 4)])
    assert float(adaptive_affinity(*scene, offsets=(1, 2, 4), margin=2.0, gate=0.0)) == pytest.approx(expected)


def test_saturated_predictions_are_clipped_not_infinite() -> None:
    """p = 1 against p = 0: for each of the two classes, 1 log(1 / 1e-4) + 1e-4 log(1e-4 / 1), in either order."""
    logits = torch.tensor([[[[500.0, -500.0]], [[-500.0, 500.0]]]], requires_grad=True)
    loss = adaptive_affinity(logits, torch.ones(1, 1, 2, dtype=torch.long), torch.ones(1, 1, 2), (1,))
    assert loss.item() == pytest.approx(2 * (1 - 1e-4) * math.log(1e4), rel=1e-5)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_neighbours_outside_the_image_do_not_exist() -> None:
    """A 3 x 3 image at offset 1 has 40 ordered neighbour pairs; at offset 3 none, so the loss is 0."""
    labels = torch.zeros(1, 3, 3, dtype=torch.long)
    assert group_counts(labels, 1).tolist() == [40, 0, 0, 0]
    assert group_counts(labels, 3).sum() == 0
    assert adaptive_affinity(torch.randn(1, 2, 3, 3), labels, torch.ones(1, 3, 3), (3,)) == 0


def test_group_counts_tell_the_four_groups_apart() -> None:
    labels = torch.tensor([[[0, 0, 1, 1, 2, IGNORE, 2]]])
    assert group_counts(labels, 1).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("value", [0, 1])
def test_one_group_alone_trains(value: int) -> None:
    logits = torch.randn(1, 2, 6, 6, requires_grad=True)
    adaptive_affinity(logits, torch.full((1, 6, 6), value), torch.ones(1, 6, 6)).backward()
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_nothing_labelled_costs_exactly_zero(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 2, 6, 6).to(dtype).requires_grad_()
    loss = adaptive_affinity(logits, torch.full((1, 6, 6), IGNORE), torch.zeros(1, 6, 6), (1, 4))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0 and logits.grad.dtype == dtype


def test_gradients_match_finite_differences() -> None:
    logits, labels, confidence = _scene()
    leaf = logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: adaptive_affinity(x, labels, confidence, (1, 2)), (leaf,), fast_mode=True)


def test_trust_in_labels_is_no_way_out() -> None:
    """A loss that could lower confidence would learn to trust nothing."""
    logits, labels, confidence = _scene()
    confidence.requires_grad_()
    adaptive_affinity(logits.requires_grad_(), labels, confidence).backward()
    assert confidence.grad is None and logits.grad.abs().max() > 0


def test_nothing_is_read_back_to_the_host() -> None:
    with FakeTensorMode():
        logits = torch.randn(1, 2, 6, 6, requires_grad=True)
        adaptive_affinity(logits, torch.zeros(1, 6, 6, dtype=torch.long), torch.ones(1, 6, 6)).backward()
        assert logits.grad is not None
