"""Networks with every parameter drawn at random, against their formulas.

At the start of training biases are 0, scales equal and norms alike, which hides a part that is left out or swapped.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unia_med.nn.affinity_network import AffinityNetwork
from unia_med.nn.cam_network import CamNetwork
from unia_med.nn.heads import LargeFieldOfView
from unia_med.nn.hybrid import Block, HybridLite0
from unia_med.nn.projection import ProjectionHead
from unia_med.nn.uncertainty import StatisticBranch, UncertaintyInference
from unia_med.nn.unet import SkipDecoder


def drawn(module: nn.Module) -> nn.Module:
    """Return the module in evaluation mode, its parameters and recorded statistics drawn at random."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            if name.startswith("stages."):  # deep: drawn weights would overflow it
                continue
            noise = torch.randn(value.shape, generator=generator)
            width = max(1, value[0].numel()) if value.ndim > 1 else 1
            value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise / width**0.5)
    return module.eval()


def _norm(norm: nn.Module, tokens: Tensor) -> Tensor:
    scaled = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    return scaled * norm.weight + norm.bias


def _batch_norm(norm: nn.Module, maps: Tensor) -> Tensor:
    shape = (1, -1, 1, 1)
    scaled = (maps - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + 1e-5).sqrt()
    return scaled * norm.weight.view(shape) + norm.bias.view(shape)


def _grown(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def test_a_transformer_block() -> None:
    block = drawn(Block(16, 2, expansion=3))
    tokens = torch.randn(2, 5, 16)
    middle = tokens + block.scale1 * block.attention(_norm(block.norm1, tokens))[0]
    first, _, last = block.mlp
    expanded = F.gelu(F.linear(_norm(block.norm2, middle), first.weight, first.bias))
    expected = middle + block.scale2 * F.linear(expanded, last.weight, last.bias)
    torch.testing.assert_close(block(tokens)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize(("stride", "taps"), [(8, (2, 4)), (4, (1, 2, 4))])
def test_the_hybrid_backbone(stride: int, taps: tuple[int, ...]) -> None:
    network = drawn(HybridLite0(width=32, depth=3, heads=2, token_stride=stride, weights="none"))
    images = torch.rand(2, 1, 32, 48)
    maps = network.stages(images)
    size = maps[taps[0]].shape[-2:]
    assert tuple(size) == (32 // stride, 48 // stride)
    joined = [
        _grown(F.conv2d(maps[i], lateral.weight, lateral.bias), size)
        for i, lateral in zip(taps, network.laterals, strict=True)
    ]
    convolution, norm, _ = network.local
    auxiliary = _batch_norm(norm, F.conv2d(sum(joined), convolution.weight, padding=1)).relu()
    tokens, logits = auxiliary.flatten(2).transpose(1, 2), []
    for block in network.blocks:
        tokens, of_block = block(tokens, True)
        logits.append(of_block)
    expected = tokens.transpose(1, 2).unflatten(2, size)
    level = (expected - expected.mean((1, 2, 3), keepdim=True)) / expected.std((1, 2, 3), correction=0, keepdim=True)
    expected = level * network.norm.weight.view(1, -1, 1, 1) + network.norm.bias.view(1, -1, 1, 1)
    found = network(images, need_affinity=True)
    torch.testing.assert_close(found.aux_tokens, auxiliary, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.tokens, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.affinity_logits, torch.cat(logits[1:], 1), atol=1e-3, rtol=1e-3)
    assert [tuple(skip.shape[-2:]) for skip in found.skips] == [(16, 24), (8, 12)][: {8: 2, 4: 1}[stride]]
    assert all(torch.equal(skip, maps[i]) for i, skip in enumerate(found.skips))


@torch.no_grad()
def test_what_one_statistic_sees() -> None:
    """Its own affine view of the tokens, and what they gather from the cells (not from each other)."""
    branch = drawn(StatisticBranch(64))
    embedded, cells = torch.randn(2, 12, 64), torch.randn(2, 3, 64)
    attention = branch.attention
    reference = nn.MultiheadAttention(64, attention.heads, batch_first=True).eval()
    layers = (attention.query, attention.key, attention.value)
    reference.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
    reference.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
    reference.out_proj.load_state_dict(attention.output.state_dict())
    gathered = reference(embedded, cells, cells)[0]
    expected = embedded * branch.scale + branch.shift + gathered
    torch.testing.assert_close(branch(embedded, cells), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("shared", [False, True])
def test_mean_and_variance_have_their_own_branches(shared: bool) -> None:
    """Of the heads, the published form uses that of the variance for both [A1]."""
    network = drawn(UncertaintyInference(32, inner=64, shared_head=shared))
    tokens = torch.randn(2, 32, 8, 8)
    flat = tokens.flatten(2).transpose(1, 2)
    embedded = network.embed(flat)
    cells = F.max_pool2d(embedded.transpose(1, 2).unflatten(2, (8, 8)), 4).flatten(2).transpose(1, 2)
    variance = network.variance_head(network.variance_branch(embedded, cells))
    mean_head = network.variance_head if shared else network.mean_head
    mean = mean_head(network.mean_branch(embedded, cells))
    found = network(tokens)
    torch.testing.assert_close(found.log_variance.flatten(2).transpose(1, 2), variance)
    torch.testing.assert_close(found.mean.flatten(2).transpose(1, 2), mean)
    torch.testing.assert_close(found.distribution_map.flatten(1), mean.mean(2))
    masked = flat + network.masked_attention(flat, flat * (1 - variance.sigmoid()))
    torch.testing.assert_close(found.features.flatten(2).transpose(1, 2), masked)


@torch.no_grad()
@pytest.mark.parametrize("bounded", [True, False])
def test_a_projection_head(bounded: bool) -> None:
    head = drawn(ProjectionHead(8, 6, 12, 5, bounded=bounded))
    inner = tokens = torch.randn(7, 8)
    layers = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(layers):
        inner = inner @ layer.weight.T + layer.bias
        inner = inner if number == 2 else F.gelu(inner)
    if bounded:
        expected = F.cosine_similarity(inner[:, None], head.last.weight[None], dim=2)
        assert head.last.bias is None
    else:
        expected = (inner @ head.last.weight.T + head.last.bias).clamp(-6, 6)
    torch.testing.assert_close(head(tokens), expected)


@torch.no_grad()
def test_the_large_field_of_view() -> None:
    decoder = drawn(LargeFieldOfView(6, 4, hidden=8))
    features = hidden = torch.randn(2, 6, 13, 11)
    for layer in (decoder.first, decoder.second):
        hidden = F.conv2d(hidden, layer.weight, padding=5, dilation=5).relu()
    expected = torch.einsum("kc,bchw->bkhw", decoder.last.weight[:, :, 0, 0], hidden)
    torch.testing.assert_close(decoder(features), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_decoder_with_skips() -> None:
    decoder = drawn(SkipDecoder(10, (3, 5), 4, (8, 7, 6)))
    tokens, fine, coarse = torch.randn(2, 10, 3, 4), torch.randn(2, 3, 12, 16), torch.randn(2, 5, 6, 8)

    def twice(step: nn.Sequential, maps: Tensor) -> Tensor:
        for convolution, norm in ((step[0], step[1]), (step[3], step[4])):
            maps = _batch_norm(norm, F.conv2d(maps, convolution.weight, padding=1)).relu()
        return maps

    maps = twice(decoder.steps[0], torch.cat((_grown(tokens, coarse.shape[-2:]), coarse), 1))
    maps = twice(decoder.steps[1], torch.cat((_grown(maps, fine.shape[-2:]), fine), 1))
    maps = twice(decoder.last, _grown(maps, (24, 32)))
    expected = F.conv2d(maps, decoder.classifier.weight, decoder.classifier.bias)
    torch.testing.assert_close(decoder(tokens, (fine, coarse), (24, 32)), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["max", "score_max", "logsumexp", "mean"])
def test_the_classifier_of_activation_maps(pooling: str) -> None:
    network = drawn(CamNetwork("none", 3, width=12, pooling=pooling, sharpness=2.5))
    images = torch.rand(2, 1, 32, 48)
    maps = network.stages(images)
    size = maps[2].shape[-2:]
    grid = sum(
        _grown(F.conv2d(maps[i], lateral.weight), size) for i, lateral in zip((2, 4), network.laterals, strict=True)
    )
    features = _batch_norm(network.join[1], F.conv2d(grid, network.join[0].weight, padding=1)).relu()
    weights = network.classifier.weight[:, :, 0, 0]
    scores = torch.einsum("tc,bchw->bthw", weights, features)
    expected = {
        "max": features.amax((2, 3)) @ weights.T,
        "score_max": scores.amax((2, 3)),
        "mean": features.mean((2, 3)) @ weights.T,
        "logsumexp": (2.5 * scores).exp().mean((2, 3)).log() / 2.5,
    }[pooling]
    logits, found = network(images)
    torch.testing.assert_close(found, scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("form", ["feature", "boundary"])
def test_the_affinity_network(form: str) -> None:
    network = drawn(AffinityNetwork("none", 4, form, (8, 16, 24)))
    images = torch.rand(2, 1, 32, 48)
    maps, parts = network.stages(images), []
    taps = (1, 2, 4) if form == "feature" else (0, 1, 2, 3, 4)
    for index, (convolution, norm, _) in zip(taps, network.reduce, strict=True):
        source = maps[index]
        # Coarser maps grow; the one that is finer than the grid is averaged to it.
        source = F.avg_pool2d(source, 2) if index == 0 else _grown(source, (8, 12))
        values = F.conv2d(source, convolution.weight).unflatten(1, (-1, 8))
        values = (values - values.mean((2, 3, 4), keepdim=True)) / (
            values.var((2, 3, 4), correction=0, keepdim=True) + 1e-5
        ).sqrt()
        parts.append(F.elu(values.flatten(1, 2) * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)))
    joined = F.conv2d(torch.cat(parts, 1), network.join.weight, network.join.bias)
    assert (network.join.bias is None) is (form == "feature")
    expected = torch.where(joined > 0, joined, joined.exp() - 1) if form == "feature" else joined
    torch.testing.assert_close(network(images), expected, atol=1e-3, rtol=1e-3)
    assert expected.isfinite().all()
