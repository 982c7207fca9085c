"""Parts of networks whose place in the whole would hide a mistake: norms, scales, limits, dropout, statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unia_med.nn.affinity_network import _reduced
from unia_med.nn.cam_network import CamNetwork
from unia_med.nn.hybrid import Block, HybridLite0
from unia_med.nn.projection import ProjectionHead
from unia_med.nn.statistics import unrecorded_statistics
from unia_med.nn.uncertainty import UncertaintyInference


def test_affinity_comes_from_the_last_two_blocks_and_one_norm_is_over_the_slice() -> None:
    torch.manual_seed(0)
    backbone = HybridLite0(width=32, depth=4, heads=2, weights="none").eval()
    kept: list[torch.Tensor] = []
    for block in backbone.blocks[2:]:
        block.attention.register_forward_hook(lambda _module, _given, made: kept.append(made[1]))
    with torch.no_grad():
        found = backbone(torch.rand(2, 1, 64, 48), need_affinity=True)
    assert torch.equal(found.affinity_logits, torch.cat(kept, 1))
    means, deviations = found.tokens.flatten(1).mean(1), found.tokens.flatten(1).std(1)
    torch.testing.assert_close(means, torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(deviations, torch.ones(2), atol=1e-2, rtol=0)
    assert found.tokens.mean((2, 3)).abs().max() > 0.1  # channels keep their level, or a map would have none


def test_each_half_of_a_block_has_its_own_scale() -> None:
    torch.manual_seed(0)
    block, tokens = Block(16, 2).eval(), torch.randn(1, 5, 16)
    with torch.no_grad():
        block.scale1.zero_(), block.scale2.fill_(0.5)
        torch.testing.assert_close(block(tokens)[0], tokens + 0.5 * block.mlp(block.norm2(tokens)))
        block.scale1.fill_(0.5), block.scale2.zero_()
        torch.testing.assert_close(block(tokens)[0], tokens + 0.5 * block.attention(block.norm1(tokens))[0])


def test_heads_start_small_and_end_at_their_limit() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(64, 32, 128, 32, bounded=False)
    assert float(head.layers[0].weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    with torch.no_grad():
        head.last.weight.mul_(1e6)
        found = head(torch.randn(4, 64))
    assert (found.amin().item(), found.amax().item()) == (-6.0, 6.0)


def test_a_cell_of_the_spatial_branch_is_the_maximum_of_its_tokens() -> None:
    embedded = torch.randn(2, 6 * 9, 64, generator=torch.Generator().manual_seed(0))
    cells = UncertaintyInference(32, inner=64)._cells(embedded, torch.Size((6, 9)))
    grid = embedded.transpose(1, 2).unflatten(2, (6, 9))
    expected = [grid[:, :, y : y + 4, x : x + 4].amax((2, 3)) for y in (0, 4) for x in (0, 4, 8)]
    torch.testing.assert_close(cells, torch.stack(expected, 1))


def test_groups_of_the_reduction_have_eight_channels() -> None:
    groups = [
        next(m for m in _reduced(16, width) if isinstance(m, nn.GroupNorm)).num_groups for width in (64, 128, 256)
    ]
    assert groups == [8, 16, 32]  # as published


def test_dropout_hides_channels_in_training_alone() -> None:
    torch.manual_seed(0)
    network, images = CamNetwork("none", 2, pooling="mean", dropout=0.5), torch.rand(1, 1, 32, 32)
    network.stages.eval(), network.join.eval()
    with torch.no_grad():
        one, other = network(images)[1], network(images)[1]
        assert not torch.equal(one, other)
        network.eval()
        assert torch.equal(network(images)[1], network(images)[1])


@pytest.mark.parametrize("training", [False, True])
def test_unrecorded_statistics_change_no_result(training: bool) -> None:
    """In training those of the batch are used, else the recorded ones; neither is recorded."""
    torch.manual_seed(0)
    norm, values = nn.Sequential(nn.BatchNorm2d(3)).train(training), torch.randn(4, 3, 5, 5) + 2
    norm[0].running_mean.fill_(0.5)
    means, deviations = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), correction=0, keepdim=True)
    plain = (values - means) / (deviations + 1e-5).sqrt() if training else (values - 0.5) / (1 + 1e-5) ** 0.5
    with torch.no_grad(), unrecorded_statistics(norm):
        torch.testing.assert_close(norm(values), plain, atol=1e-4, rtol=1e-4)
    assert (norm[0].running_mean == 0.5).all() and norm[0].track_running_stats
    with torch.no_grad():
        norm(values)
    assert bool((norm[0].running_mean != 0.5).all()) is training
