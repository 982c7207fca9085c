"""What holds for every loss: zero when nothing is labelled, half precision, one class, one pixel, gradients."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from types import FrameType

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from unia_med import losses
from unia_med.labels import IGNORE
from unia_med.losses.adaptive_affinity import adaptive_affinity
from unia_med.losses.affinity import AFFINITY_LOSSES, pair_labels
from unia_med.losses.classification import tag_classification
from unia_med.losses.dense_energy import dense_energy
from unia_med.losses.distribution import DistributionLoss
from unia_med.losses.label_reassign import Centres, label_reassign, memberships
from unia_med.losses.mixture_supervision import (
    absent_classes,
    discrimination,
    negative_log_posterior,
    self_supervision,
    separation,
)
from unia_med.losses.pixel_affinity import distance_costs, edge_costs, three_way_loss
from unia_med.losses.segmentation import balanced_cross_entropy, partial_cross_entropy, soft_dice
from unia_med.losses.token_contrast import token_contrast
from unia_med.tensors import full_precision

FORMS = ("kl", "vae", "variance_aware", "heteroscedastic")
B, K, S = 2, 3, 4  # images, classes, rows = columns
Case = tuple[Callable[[Tensor], Tensor], tuple[int, ...]]  # loss of one tensor, and that tensor's shape


def affinity_case(name: str, labels: Tensor) -> Case:
    positive, negative = pair_labels(labels)
    return lambda x: AFFINITY_LOSSES[name](x.sigmoid(), positive, negative), (B, S * S, S * S)


def distribution_case(form: str, labels: Tensor) -> Case:
    loss, known, target = DistributionLoss(form), labels != IGNORE, (labels == 1).float()

    def value(x: Tensor) -> Tensor:
        module = loss.double() if x.dtype == torch.float64 else loss
        error = None if form != "heteroscedastic" else 0.1 * target.to(x.dtype)
        return module(x.mean(1), x, 0.3 * x, target.to(x.dtype), known, error, known)

    return value, (B, 5, S, S)


def tag_case(labels: Tensor) -> Case:
    known = (labels != IGNORE).flatten(1).any(1, keepdim=True)
    tags = torch.where(known, (labels.flatten(1).unsqueeze(1) == torch.tensor([[1], [2]])).any(2).int(), -1)
    return lambda x: tag_classification(x, tags.to(torch.int8)), (B, K - 1)


def contrast_case(labels: Tensor) -> Case:
    pairs = pair_labels(labels)
    return lambda x: token_contrast(x, *pairs), (B, 5, S, S)


def pixel_case(loss: Callable[..., Tensor], labels: Tensor) -> Case:
    return lambda x: loss(x, labels), (B, K, S, S)


def energy_case(labels: Tensor) -> Case:
    images, valid = torch.rand(B, 1, S, S, generator=torch.Generator().manual_seed(1)), labels != IGNORE
    return lambda x: dense_energy(x.softmax(1), images.to(x.dtype), labels, valid=valid), (B, K, S, S)


def present_in(labels: Tensor) -> Tensor:
    """bool (B, K): classes with a labelled pixel in each image."""
    return (labels.flatten(1).unsqueeze(1) == torch.arange(K).view(1, -1, 1)).any(2)


def neighbour_case(labels: Tensor) -> Case:
    confidence = torch.rand(B, S, S, generator=torch.Generator().manual_seed(4))
    return lambda x: adaptive_affinity(x, labels, confidence.to(x.dtype), offsets=(1, 2)), (B, K, S, S)


def reassign_case(labels: Tensor) -> Case:
    points, generator = labels.flatten(1), torch.Generator().manual_seed(5)
    vectors = [
        torch.nn.functional.normalize(torch.randn(size, generator=generator), dim=-1)
        for size in ((B, 2, 5), (K - 1, 5))
    ]
    centres = Centres(vectors[0], torch.ones(B, 2, dtype=torch.bool), vectors[1], torch.ones(K - 1, dtype=torch.bool))
    trust = torch.rand(2, *points.shape, generator=generator)
    changed = trust[0] > 0.7

    def value(x: Tensor) -> Tensor:
        log_membership = memberships(x, centres, torch.ones(B, K, dtype=torch.bool))
        return label_reassign(log_membership, points, changed, trust[0].to(x.dtype), trust[1].to(x.dtype))

    return value, (B, S * S, 5)


def mixture_case(loss: Callable[..., Tensor], labels: Tensor) -> Case:
    return lambda x: loss(x.sigmoid(), labels, present_in(labels)), (B, K, S, S)


def mutual_case(labels: Tensor) -> Case:
    return lambda x: self_supervision(x.sigmoid(), x.softmax(1), present_in(labels)), (B, K, S, S)


def absence_case(labels: Tensor) -> Case:
    """Of an image with any label it is known that its last class is absent; of others nothing."""
    tags = torch.where(present_in(labels).any(1, keepdim=True), torch.tensor([[1, 0]]), -1)
    return lambda x: absent_classes(x, tags), (B, K, S, S)


def pair_cost_case(costs: Callable[[Tensor], tuple[Tensor, Tensor]], labels: Tensor) -> Case:
    cells = labels.flatten(1)
    first, second = cells.unsqueeze(2), cells.unsqueeze(1)
    known = (first != IGNORE) & (second != IGNORE)
    kinds = (
        known & (first == second) & (first == 0),
        known & (first == second) & (first > 0),
        known & (first != second),
    )
    return lambda x: three_way_loss(*costs(x), *kinds), (B, S * S, S * S)


CASES: dict[str, Callable[[Tensor], Case]] = {
    "tags": tag_case,
    **{name: lambda labels, name=name: affinity_case(name, labels) for name in AFFINITY_LOSSES},
    **{form: lambda labels, form=form: distribution_case(form, labels) for form in FORMS},
    "token_contrast": contrast_case,
    "balanced": lambda labels: pixel_case(balanced_cross_entropy, labels),
    "partial": lambda labels: pixel_case(partial_cross_entropy, labels),
    "dice": lambda labels: pixel_case(soft_dice, labels),
    "dense_energy": energy_case,
    "adaptive_affinity": neighbour_case,
    "label_reassign": reassign_case,
    "self_supervision": mutual_case,
    "discrimination": lambda labels: mixture_case(discrimination, labels),
    "separation": lambda labels: (lambda x: separation(x, present_in(labels)), (B, K, 5)),
    "posterior": lambda labels: pixel_case(negative_log_posterior, labels),
    "absent_classes": absence_case,
    "pairs_by_distance": lambda labels: pair_cost_case(lambda x: distance_costs(x.abs()), labels),
    "pairs_by_edge": lambda labels: pair_cost_case(edge_costs, labels),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def filled(value: int) -> Tensor:
    return torch.full((B, S, S), value)


def one_pixel(value: int) -> Tensor:
    labels = filled(IGNORE)
    labels[0, 1, 2] = value
    return labels


def mixed() -> Tensor:
    labels = torch.randint(0, K, (B, S, S), generator=torch.Generator().manual_seed(0))
    labels[:, 0] = IGNORE
    return labels


def evaluated(name: str, labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    loss, shape = CASES[name](labels)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
    value = loss(x)
    value.backward()
    return value.detach(), x.grad


def public_losses() -> dict[str, Callable[..., Tensor]]:
    """Every function in the room of losses that `full_precision` decorates, as it must a loss, by its full name."""
    names = [f"{losses.__name__}.{found.name}" for found in pkgutil.iter_modules(losses.__path__)]
    decorated = full_precision(lambda x: x).__code__
    return {
        f"{module.__name__}.{name}": function
        for module in map(importlib.import_module, names)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and function.__code__ is decorated
    }


def test_no_loss_is_left_out() -> None:
    """A new loss needs a line in `CASES`; which functions the cases reach is seen while they run."""
    reached = set()

    def watch(frame: FrameType, event: str, argument: object) -> None:
        reached.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        for name in CASES:
            evaluated(name, mixed(), torch.float32)
    finally:
        sys.setprofile(before)
    found = public_losses()
    assert len(found) >= 15
    assert [name for name, loss in found.items() if inspect.unwrap(loss).__code__ not in reached] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_nothing_labelled_costs_exactly_zero_with_a_gradient_path(name: str, dtype: torch.dtype) -> None:
    value, gradient = evaluated(name, filled(IGNORE), dtype)
    assert value.item() == 0
    assert gradient is not None and gradient.dtype == dtype and gradient.abs().max().item() == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("labels", [one_pixel(0), one_pixel(2), filled(0), filled(1), mixed()])
@pytest.mark.parametrize("name", CASES)
def test_sparse_labels_give_a_finite_loss_and_gradient(name: str, labels: Tensor, dtype: torch.dtype) -> None:
    value, gradient = evaluated(name, labels, dtype)
    assert value.isfinite() and gradient.isfinite().all()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("name", CASES)
def test_mixed_labels_train_something(name: str) -> None:
    assert evaluated(name, mixed(), torch.float32)[1].abs().max() > 0


@pytest.mark.parametrize("name", sorted(set(CASES) - {"dense_energy"}))  # its gradient is a surrogate, tested apart
def test_gradients_match_finite_differences(name: str) -> None:
    loss, shape = CASES[name](mixed())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (x,), fast_mode=True)


@pytest.mark.parametrize("name", CASES)
def test_autocast_around_a_loss_changes_nothing(name: str) -> None:
    plain = evaluated(name, mixed(), torch.float32)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluated(name, mixed(), torch.float32)[0] == plain


@pytest.mark.parametrize("name", CASES)
def test_no_loss_reads_a_value_back_to_the_host(name: str) -> None:
    """Tensors without values: `.item()`, `nonzero` and boolean picking, which stall a GPU, raise here."""
    with FakeTensorMode():
        value, gradient = evaluated(name, torch.zeros(B, S, S, dtype=torch.long), torch.float32)
    assert value.shape == () and gradient is not None
