"""Heads against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from unia_med.nn.affinity_network import AffinityNetwork
from unia_med.nn.heads import AffinityHead, AtrousPyramid, LargeFieldOfView, TagClassifier
from unia_med.nn.tag_map_head import TagMapHead


def test_tag_logits_are_the_classifier_at_the_channel_maxima() -> None:
    head, features = TagClassifier(5, 3), torch.randn(2, 5, 4, 6)
    pooled = F.adaptive_max_pool2d(features, 1)
    assert torch.allclose(head(features), F.conv2d(pooled, head.weight).flatten(1), atol=1e-6)


def test_activation_maps_use_the_classifier_and_carry_no_gradient() -> None:
    head, features = TagClassifier(5, 3), torch.randn(2, 5, 4, 6, requires_grad=True)
    maps = head.maps(features)
    expected = torch.einsum("tc,bchw->bthw", head.weight[:, :, 0, 0], features)
    assert torch.allclose(maps, expected, atol=1e-6) and not maps.requires_grad


def test_affinity_is_the_projection_of_the_symmetrised_logits() -> None:
    head, logits = AffinityHead(6), torch.randn(2, 6, 7, 7)
    expected = head.projection(logits + logits.transpose(2, 3)).squeeze(1).sigmoid()
    affinity = head(logits)
    assert torch.allclose(affinity, expected, atol=1e-6)
    assert torch.equal(affinity, affinity.transpose(1, 2))
    assert [name for name, _ in head.named_parameters()] == ["projection.weight", "projection.bias"]


def test_large_field_of_view_is_three_plain_convolutions() -> None:
    decoder, features = LargeFieldOfView(6, 4, hidden=8), torch.randn(1, 6, 9, 7)
    shapes = [tuple(parameter.shape) for parameter in decoder.parameters()]
    assert shapes == [(8, 6, 3, 3), (8, 8, 3, 3), (4, 8, 1, 1)]
    assert decoder(features).shape == (1, 4, 9, 7)
    point = torch.zeros(1, 6, 23, 23)
    point[..., 11, 11] = 1
    reached = decoder(point).abs().sum(1)[0].nonzero()
    assert (reached - 11).abs().max() == 10  # two dilated kernels reach 5 tokens each


def test_atrous_pyramid_sums_its_branches() -> None:
    decoder, features = AtrousPyramid(6, 4), torch.randn(1, 6, 9, 7)
    assert [branch.dilation[0] for branch in decoder.branches] == [6, 12, 18, 24]
    expected = sum(
        F.conv2d(features, b.weight, b.bias, padding=b.dilation, dilation=b.dilation) for b in decoder.branches
    )
    assert torch.allclose(decoder(features), expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_maps_of_a_pooled_classifier_are_its_weights_at_every_place_without_gradient(pooling: str) -> None:
    head, features = TagMapHead(5, 3, pooling, dropout=0.5, width=7).eval(), torch.randn(2, 5, 4, 6)
    joined = head.join[1](head.join[0](features)).relu()
    weights = head.classifier.weight[..., 0, 0]
    pooled = joined.amax((2, 3)) if pooling == "max" else joined.mean((2, 3))
    logits, maps = head(features)
    torch.testing.assert_close(logits, pooled @ weights.T)
    torch.testing.assert_close(maps, torch.einsum("tc,bchw->bthw", weights, joined))
    assert logits.requires_grad and not maps.requires_grad


@pytest.mark.parametrize(("form", "learns"), [("feature", True), ("feature", False), ("boundary", False)])
def test_the_affinity_network_joins_its_depths_on_the_grid_of_its_stride(form: str, learns: bool) -> None:
    """Sizes that the stride does not divide round up; a backbone that does not learn keeps its statistics."""
    torch.manual_seed(0)
    network = AffinityNetwork("none", 8, form, (8, 16, 24), learns).train()
    output = network(torch.rand(2, 1, 36, 50))
    assert output.shape == (2, 48 if form == "feature" else 1, 5, 7)
    assert network.stages.training is learns and network.reduce.training
    output.square().sum().backward()
    assert all((p.grad is not None) is learns for p in network.stages.parameters() if learns or not p.requires_grad)
    assert all(p.grad is not None for p in (*network.reduce.parameters(), *network.join.parameters()))
    if form == "feature":
        assert output.min() >= -1 and network.join.bias is None  # ELU
        bound = 4 * (6 / (48 + 48)) ** 0.5  # Xavier's, times the gain of the specification
        assert 0.95 * bound < float(network.join.weight.detach().abs().max()) <= bound
    else:
        assert len(network.reduce) == 5 and {part[0].out_channels for part in network.reduce} == {8}
