"""Partial supervision: what is learned where, and that unlabelled pixels say nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from unia_med.build import build_method
from unia_med.config.load import parse_config
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch
from unia_med.methods.partial import Partial, completed_labels, log_odds

B, K, S = 2, 4, 32


def _method(**weights: float) -> Partial:
    torch.manual_seed(0)
    network = {"backbone": "lite0", "weights": "none", "decoder_widths": [8, 8, 8, 4]}
    return build_method(parse_config({"network": network, "method": {"name": "partial", "weights": weights}}))


def _batch(**parts: torch.Tensor) -> Batch:
    images = torch.rand(B, 1, S, S, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.tensor([[1, 1, 1], [0, -1, 1]], dtype=torch.int8), **parts)


def _scribbles() -> torch.Tensor:
    labels = torch.full((B, S, S), IGNORE)
    labels[0, 3, 2:9], labels[0, 20], labels[1, 5:7, 5:7] = 1, 0, 3
    return labels


def test_cross_entropy_is_the_mean_over_labelled_pixels_alone() -> None:
    method, labels = _method(dice=0, cross_entropy=1).eval(), _scribbles()
    batch = _batch(labels=labels)
    logits = method.network(batch.images)
    rows = [-F.log_softmax(logits[b, :, y, x], 0)[labels[b, y, x]] for b, y, x in (labels != IGNORE).nonzero()]
    losses = method(batch, 0)
    assert set(losses) == {"loss", "cross_entropy"}
    torch.testing.assert_close(losses["loss"], torch.stack(rows).mean())


def test_tags_learn_from_the_pixel_where_a_class_is_likeliest_against_all_others() -> None:
    """Its probability p there, as -log p of a class that is present, -log(1 - p) of one that is absent."""
    method, batch = _method(cross_entropy=0, dice=0, tags=1).eval(), _batch(labels=_scribbles())
    with torch.no_grad():
        peak = method.network(batch.images).softmax(1).amax((2, 3))[:, 1:]
        found = float(method(batch, 0)["tags"])
    known = batch.tags != -1
    assert (batch.tags == 1).any() and (batch.tags == 0).any()
    costs = torch.where(batch.tags == 1, -peak.log(), -(1 - peak).log())
    assert found == pytest.approx(float(costs[known].mean()), rel=1e-4)


def test_the_loss_is_the_weighted_sum_and_reaches_every_parameter() -> None:
    weights = {"cross_entropy": 0.5, "dice": 2.0, "annotations": 0.25, "tags": 3.0}
    method = _method(**weights)
    losses = method(_batch(labels=_scribbles()), 0)
    total = sum(weights[name] * losses[name] for name in weights)
    torch.testing.assert_close(losses["loss"], total)
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_drawn_pixels_alone_are_annotations() -> None:
    """Half their mean over background and half that over classes, whatever the scores of a prior say elsewhere."""
    labels, scores = _scribbles(), torch.zeros(B, K, S, S)
    scores[:, 2] = 1.0
    method, batch = _method(cross_entropy=0, dice=0, annotations=1).eval(), _batch(labels=labels, scores=scores)
    with torch.no_grad():
        costs = F.cross_entropy(method.network(batch.images), labels, ignore_index=IGNORE, reduction="none")
        found = float(method(batch, 0)["annotations"])
    inside = (labels != IGNORE) & (labels > 0)
    assert found == pytest.approx(float(costs[labels == 0].mean() + costs[inside].mean()) / 2, rel=1e-4)


def test_nothing_labelled_costs_nothing_and_keeps_the_weights() -> None:
    method = _method(cross_entropy=1, dice=1, annotations=1)
    losses = method(_batch(labels=torch.full((B, S, S), IGNORE)), 0)
    losses["loss"].backward()
    assert losses["loss"].item() == 0
    assert max(p.grad.abs().max().item() for p in method.parameters()) == 0


def test_annotations_win_over_scores_and_doubt_is_left_out() -> None:
    scores = torch.zeros(B, K, S, S)
    scores[:, 0] = 1.0
    scores[:, :, :16] = torch.tensor([0.5, 0.5, 0.0, 0.0]).view(1, K, 1, 1)  # doubtful upper half
    labels = _scribbles()
    valid = torch.ones(B, 1, S, S)
    valid[:, :, :, 30:] = 0
    found = completed_labels(_batch(labels=labels, scores=scores, valid=valid), 0.6)
    for b, y, x in torch.cartesian_prod(torch.arange(B), torch.arange(S), torch.arange(S)).tolist():
        drawn = int(labels[b, y, x])
        doubtful = y < 16 and b == 0  # in the second slice, the other class is known to be absent
        expected = IGNORE if x >= 30 else drawn if drawn != IGNORE else IGNORE if doubtful else 0
        assert found[b, y, x] == expected


def test_without_labels_and_prior_the_user_is_told() -> None:
    with pytest.raises(UserError, match="nothing to learn from"):
        _method()(_batch(), 0)


def test_log_odds_are_those_of_one_class_against_the_rest() -> None:
    logits = torch.randn(1, K, 3, 3, dtype=torch.float32, generator=torch.Generator().manual_seed(2))
    p = logits.softmax(1)
    torch.testing.assert_close(log_odds(logits), torch.log(p / (1 - p)), rtol=1e-4, atol=1e-5)
    assert log_odds(torch.tensor([200.0, 0.0]).view(1, 2, 1, 1)).isfinite().all()


def test_prediction_is_the_softmax_with_its_entropy() -> None:
    method = _method().eval()
    with torch.no_grad():
        found = method.predict(_batch().images)
        probabilities = method.network(_batch().images).softmax(1)
    torch.testing.assert_close(found.probabilities, probabilities)
    entropy = -(probabilities * probabilities.log()).sum(1) / math.log(K)
    torch.testing.assert_close(found.uncertainty, entropy, rtol=1e-4, atol=1e-5)
    assert found.uncertainty.min() >= 0 and found.uncertainty.max() <= 1


def test_only_what_is_not_pretrained_learns_faster() -> None:
    method = _method()
    method.head_multiplier = 10.0
    groups = method.parameter_groups(0.1, 0.01)
    fast = {id(p) for group in groups for p in group["params"] if group["lr"] == pytest.approx(1.0)}
    for name, parameter in method.named_parameters():
        assert (id(parameter) in fast) is (not name.startswith("network.backbone.stages."))


@pytest.mark.parametrize("name", ["unia"])
def test_methods_that_need_attention_refuse_the_light_backbone(name: str) -> None:
    with pytest.raises(UserError, match="attention"):
        parse_config({"network": {"backbone": "lite0"}, "method": {"name": name}})


def test_decoder_widths_must_fit_the_backbone() -> None:
    with pytest.raises(UserError, match="3 entries, this backbone needs 4"):
        parse_config({"network": {"backbone": "lite0", "decoder_widths": [8, 8, 8]}, "method": {"name": "partial"}})
