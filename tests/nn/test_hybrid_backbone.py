"""The hybrid backbone: grids, attention logits, and the decoder on its skips."""

from __future__ import annotations

import pytest
import torch

from unia_med.errors import UserError
from unia_med.nn.hybrid import Attention, HybridLite0
from unia_med.nn.lite0 import Lite0
from unia_med.nn.unet import SkipDecoder


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (50, 33)])
def test_any_size_gives_the_grid_of_its_stride(stride: int, size: tuple[int, int]) -> None:
    backbone = HybridLite0(width=32, depth=3, heads=2, token_stride=stride, weights="none").eval()
    decoder = SkipDecoder(32, backbone.skip_channels, 4).eval()
    with torch.no_grad():
        output = backbone(torch.rand(1, 1, *size), need_affinity=True)
        logits = decoder(output.tokens, output.skips, size)
    grid = tuple(-(-side // stride) for side in size)
    tokens = grid[0] * grid[1]
    assert output.tokens.shape == output.aux_tokens.shape == (1, 32, *grid)
    assert output.affinity_logits is not None
    assert output.affinity_logits.shape == (1, 4, tokens, tokens)
    assert logits.shape == (1, 4, *size)


def test_logits_are_those_of_the_fused_attention() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4).double()
    tokens = torch.randn(2, 9, 16, dtype=torch.float64)
    fused, nothing = attention(tokens)
    shown, logits = attention(tokens, need_logits=True)
    assert nothing is None
    torch.testing.assert_close(fused, shown)
    query, key, value = attention.qkv(tokens).chunk(3, -1)
    by_hand = torch.empty(2, 4, 9, 9, dtype=torch.float64)
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        by_hand[:, head] = query[..., part] @ key[..., part].transpose(1, 2) / 2.0  # sqrt(16 / 4)
    torch.testing.assert_close(logits, by_hand)
    mixed = torch.cat([by_hand[:, h].softmax(-1) @ value[..., 4 * h : 4 * h + 4] for h in range(4)], -1)
    torch.testing.assert_close(attention.proj(mixed), shown)


def test_affinity_changes_no_feature() -> None:
    backbone = HybridLite0(width=32, depth=3, heads=2, weights="none").eval()
    images = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images, True).tokens, backbone(images).tokens, rtol=1e-4, atol=1e-5)


def test_contradictions_are_refused() -> None:
    with pytest.raises(UserError, match="token_stride"):
        HybridLite0(token_stride=5, weights="none")
    with pytest.raises(UserError, match="heads"):
        HybridLite0(width=30, heads=4, weights="none")


@pytest.mark.parametrize("size", [(64, 64), (50, 33)])
def test_the_stages_alone_are_a_backbone_without_attention(size: tuple[int, int]) -> None:
    backbone = Lite0("none").eval()
    decoder = SkipDecoder(backbone.width, backbone.skip_channels, 4, (24, 16, 12, 8)).eval()
    images = torch.rand(1, 1, *size)
    with torch.no_grad():
        output = backbone(images)
        logits = decoder(output.tokens, output.skips, size)
        stages = backbone.stages(images)
    assert logits.shape == (1, 4, *size) and output.affinity_logits is None
    for found, expected in zip((*output.skips, output.aux_tokens, output.tokens), stages, strict=True):
        assert torch.equal(found, expected)
    with pytest.raises(ValueError, match="no attention"):
        backbone(images, need_affinity=True)
