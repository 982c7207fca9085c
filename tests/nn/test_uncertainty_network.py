"""Uncertainty inference: parts against PyTorch's own, published sizes, and the closed form against sampling."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from unia_med.nn.attention import CrossAttention
from unia_med.nn.projection import ProjectionHead
from unia_med.nn.uncertainty import UncertaintyInference, published_uncertainty_map


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def tokens(height: int = 5, width: int = 7, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 48, height, width)


def test_cross_attention_is_pytorchs() -> None:
    ours, theirs = CrossAttention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.randn(72))
        for layer, bias in zip((ours.query, ours.key, ours.value), theirs.in_proj_bias.chunk(3), strict=True):
            layer.bias.copy_(bias)
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    query, source, bias = torch.randn(2, 5, 24), torch.randn(2, 4, 24), torch.randn(2, 4)
    assert torch.allclose(ours(query, source), theirs(query, source, source)[0], atol=1e-6)
    masked = theirs(query, source, source, key_padding_mask=bias)[0]
    assert torch.allclose(ours(query, source, bias), masked, atol=1e-6)


def test_projection_head_gives_cosines_with_deviation_one_sixteenth() -> None:
    """Specification 3: |value| <= 1 and deviation 1/16 (measured 0.062) at initialisation."""
    head = ProjectionHead(64, 512, hidden=256, bottleneck=256)
    values = head(torch.randn(200, 64))
    assert values.abs().max() <= 1 and abs(values.std().item() - 0.0625) < 0.006


def test_projection_head_weights_enter_by_direction_only() -> None:
    head, x = ProjectionHead(8, 16, 16, 8), torch.randn(3, 8)
    before = head(x)
    with torch.no_grad():
        head.last.weight.mul_(7)
    assert torch.allclose(head(x), before, atol=1e-6)


def test_published_size_at_vit_base() -> None:
    """Specification 3: 32.4 M parameters, 8.07 M of them dead: Phi_mu (7.02 M) and a stray convolution (1.05 M)."""
    ours = sum(p.numel() for p in UncertaintyInference(768).parameters())
    shared = sum(p.numel() for p in UncertaintyInference(768, shared_head=True).parameters())
    assert round((ours - shared) / 1e6, 2) == 7.02
    assert round(ours / 1e6 + 1.05, 1) == 32.4


@pytest.mark.parametrize("size", [(5, 7), (4, 4), (14, 3), (1, 2)])
@pytest.mark.parametrize("mask", ["multiplicative", "bias"])
def test_any_grid_and_ranges(size: tuple[int, int], mask: str) -> None:
    result = UncertaintyInference(48, mask=mask)(tokens(*size))
    assert result.features.shape == result.log_variance.shape == result.mean.shape == (2, 48, *size)
    assert result.distribution_map.shape == result.uncertainty_map.shape == (2, *size)
    assert result.uncertainty_map.min() >= 0 and result.uncertainty_map.max() <= 1
    sigma, u = (result.log_variance / 2).exp(), result.log_variance.sigmoid()
    assert sigma.min() >= 0.606 and sigma.max() <= 1.649 and u.min() >= 0.268 and u.max() <= 0.732


def test_uncertainty_map_rescales_the_attainable_range() -> None:
    network = UncertaintyInference(48)
    ends = network.uncertainty_map(torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1).expand(1, 3, 48))
    assert torch.allclose(ends, torch.tensor([[0.0, 0.5, 1.0]]), atol=1e-6)
    wide = UncertaintyInference(48, bounded=False)
    assert torch.allclose(wide.uncertainty_map(torch.full((1, 1, 48), 6.0)), torch.ones(1, 1), atol=1e-6)


def test_published_map_is_the_largest_channel_over_its_maximum() -> None:
    log_variance = torch.randn(2, 5, 3, 4)
    largest = log_variance.sigmoid().amax(1)
    found = published_uncertainty_map(log_variance, (3, 4))
    assert torch.allclose(found, largest / largest.amax((1, 2), keepdim=True))
    doubled = published_uncertainty_map(log_variance, (6, 8))
    grown = torch.nn.functional.interpolate(largest[:, None], (6, 8), mode="bilinear")[:, 0]
    assert torch.allclose(doubled, grown / grown.amax((1, 2), keepdim=True))


def test_closed_form_has_the_law_of_fifty_samples() -> None:
    """Mean and variance over many draws of both, per token; the tolerances are about 5 standard errors."""
    network = UncertaintyInference(48, samples=50).train()
    mean, log_variance = torch.randn(1, 6, 48) * 0.1, torch.rand(1, 6, 48) * 2 - 1
    closed = torch.stack([network._closed_form(mean, log_variance) for _ in range(2000)]).double()
    drawn = torch.stack([network._drawn(mean, log_variance) for _ in range(2000)]).double()
    variance = log_variance.exp().sum(2) / (48**2 * 50)
    for found in (closed, drawn):
        assert torch.allclose(found.mean(0).float(), mean.mean(2), atol=5 * math.sqrt(variance.max() / 2000))
        assert torch.allclose(found.var(0).float() / variance, torch.ones(1, 6), atol=0.16)


def test_noise_at_unit_deviation_is_as_measured() -> None:
    """Specification A3: the noise left in m has deviation 0.0051 at C = 768, S = 50, sigma = 1."""
    network = UncertaintyInference(48).train()
    drawn = network._closed_form(torch.zeros(1, 40000, 768), torch.zeros(1, 1, 1).expand(1, 40000, 768))
    assert abs(drawn.std().item() - 0.0051) < 1e-4


def test_no_noise_at_test_time_and_none_in_the_features() -> None:
    network, x = UncertaintyInference(48), tokens()
    network.train()
    first, second = network(x), network(x)
    assert torch.equal(first.features, second.features)
    assert not torch.equal(first.distribution_map, second.distribution_map)
    network.eval()
    result = network(x)
    assert torch.allclose(result.distribution_map, result.mean.mean(1), atol=1e-6)


def test_without_distribution_the_rest_is_the_same() -> None:
    network, x = UncertaintyInference(48), tokens()
    full, short = network(x), network(x, need_distribution=False)
    assert short.mean is None and short.distribution_map is None
    assert torch.equal(full.features, short.features) and torch.equal(full.uncertainty_map, short.uncertainty_map)


def test_masking_as_written() -> None:
    """Step 6 with PyTorch's softmax: keys and values scaled by 1 - u, or a log(1 - mean u) bias."""
    for mask in ("multiplicative", "bias"):
        network, x = UncertaintyInference(32, mask=mask), torch.randn(1, 32, 2, 3)
        result, flat, attention = network(x), x.flatten(2).transpose(1, 2), network.masked_attention
        certainty = 1 - result.log_variance.flatten(2).transpose(1, 2).sigmoid()
        source = flat * certainty if mask == "multiplicative" else flat
        weights = attention.query(flat) @ attention.key(source).transpose(1, 2) / math.sqrt(32)  # 32 channels: one head
        weights = weights + (certainty.mean(2).log().unsqueeze(1) if mask == "bias" else 0)
        expected = attention.output(weights.softmax(2) @ attention.value(source)) + flat
        assert torch.allclose(result.features.flatten(2).transpose(1, 2), expected, atol=1e-5)


def test_bias_mask_lowers_an_ambiguous_token_whatever_its_logit() -> None:
    """Specification A4's example: scaling a key with a negative logit raises its weight, the bias does not."""
    logits = torch.tensor([0.0, -3.4])
    scaled, biased = logits * torch.tensor([1.0, 0.4]), logits + torch.tensor([1.0, 0.4]).log()
    assert scaled.softmax(0)[1] > logits.softmax(0)[1] > biased.softmax(0)[1]


def test_published_options() -> None:
    torch.manual_seed(1)
    plain = UncertaintyInference(48, shared_head=True).eval()
    doubled = UncertaintyInference(48, shared_head=True, doubled=True, draw_samples=True).eval()
    doubled.load_state_dict(plain.state_dict())
    x = tokens()
    assert torch.allclose(doubled(x).features, 2 * plain(x).features)
    assert not torch.equal(doubled(x).distribution_map, doubled(x).distribution_map)
    assert plain.mean_head is None


@pytest.mark.parametrize("mask", ["multiplicative", "bias"])
def test_every_parameter_learns(mask: str) -> None:
    network = UncertaintyInference(48, mask=mask)
    result = network(tokens())
    (result.features.square().mean() + result.distribution_map.square().mean()).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None]
    assert idle == []


def test_batch_equals_one_by_one() -> None:
    network, x = UncertaintyInference(48).eval(), tokens()
    batch, single = network(x), [network(one[None]) for one in x]
    assert torch.allclose(batch.features, torch.cat([r.features for r in single]), atol=1e-5)
    assert torch.allclose(batch.uncertainty_map, torch.cat([r.uncertainty_map for r in single]), atol=1e-6)


def test_half_precision_autocast_stays_finite() -> None:
    network = UncertaintyInference(48)
    with torch.autocast("cpu", torch.bfloat16):
        result = network(tokens())
    assert result.features.isfinite().all() and result.log_variance.dtype == torch.float32
