"""The timm backbone: exact folding, any size, attention logits, weights and errors; on timm's smallest ViTs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from unia_med.errors import UserError
from unia_med.nn.vit import TimmViT, attention_logits, fold_channels, load_vit

TINY = "test_vit"  # timm's own test model: patch 16, width 64, 2 heads, 6 blocks


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [True, False])
def test_folding_equals_three_standardised_copies(bias: bool) -> None:
    convolution = nn.Conv2d(3, 8, 4, 4, bias=bias)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    grey = torch.rand(2, 1, 12, 8)
    three = (grey.expand(-1, 3, -1, -1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.allclose(fold_channels(convolution, mean, std)(grey), convolution(three), atol=1e-5)


def test_tokens_are_those_of_timm_on_three_copies(tmp_path: Path) -> None:
    model = load_vit(TINY, "none").eval()
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    ours = TimmViT(TINY, tmp_path / "vit.pth").eval()
    config, grey = model.pretrained_cfg, torch.rand(2, 1, 160, 160)
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    expected = model.forward_features((grey.expand(-1, 3, -1, -1) - mean) / std)
    found = ours(grey)
    assert torch.allclose(found.tokens.flatten(2).transpose(1, 2), expected[:, model.num_prefix_tokens :], atol=1e-4)
    assert not ours.vit.pos_embed.requires_grad and ours.vit.cls_token.requires_grad


def test_auxiliary_tokens_leave_the_third_block_from_the_end() -> None:
    network, kept = TimmViT(TINY, "none").eval(), []
    network.vit.blocks[network.depth - 3].register_forward_hook(lambda _m, _i, output: kept.append(output))
    result = network(torch.rand(1, 1, 64, 96))
    expected = kept[0][:, network.vit.num_prefix_tokens :]
    assert torch.equal(result.aux_tokens.flatten(2).transpose(1, 2), expected)


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (4, 6)), ((50, 70), (3, 4)), ((224, 32), (14, 2))])
def test_any_size(size: tuple[int, int], grid: tuple[int, int]) -> None:
    network = TimmViT(TINY, "none")
    result = network(torch.rand(2, 1, *size), need_affinity=True)
    tokens = grid[0] * grid[1]
    assert result.tokens.shape == (2, network.width, *grid) and result.aux_tokens.shape[1] == network.aux_width
    assert result.affinity_logits.shape == (2, 2 * network.heads, tokens, tokens)
    assert network(torch.rand(1, 1, *size)).affinity_logits is None and result.skips == ()


def test_overlapping_patches_refine_the_grid() -> None:
    network = TimmViT(TINY, "none", token_stride=8)
    assert network.patch_size == 8
    assert network(torch.rand(1, 1, 64, 48)).tokens.shape == (1, network.width, 8, 6)


@pytest.mark.parametrize("name", [TINY, "test_vit2", "test_vit3"])
def test_softmax_of_the_logits_reproduces_the_fused_attention(name: str) -> None:
    vit = load_vit(name, "none").eval()
    attention, tokens = vit.blocks[-1].attn, torch.randn(2, 11, vit.embed_dim)
    nn.init.normal_(attention.qkv.bias)  # 0 without trained weights
    logits = attention_logits(attention, tokens)
    values = attention.qkv(tokens).unflatten(2, (3, attention.num_heads, -1))[:, :, 2].transpose(1, 2)
    gathered = (logits.softmax(-1) @ values).transpose(1, 2).flatten(2)
    assert torch.allclose(attention.proj(attention.norm(gathered)), attention(tokens), atol=1e-5)


def test_asking_for_affinity_changes_no_feature_and_trains_queries_and_keys() -> None:
    network, images = TimmViT(TINY, "none").eval(), torch.rand(1, 1, 64, 64)
    plain, asked = network(images), network(images, need_affinity=True)
    assert torch.equal(plain.tokens, asked.tokens)
    asked.affinity_logits.square().mean().backward()
    rows = network.vit.blocks[-1].attn.qkv.weight.grad.chunk(3)
    assert rows[0].abs().max() > 0 and rows[1].abs().max() > 0 and rows[2].abs().max() == 0


def test_logits_are_those_between_patches_of_the_last_two_blocks() -> None:
    network, seen = TimmViT(TINY, "none").eval(), []
    for block in network.vit.blocks[-2:]:
        block.norm1.register_forward_hook(lambda _m, _i, output: seen.append(output))
    logits = network(torch.rand(1, 1, 32, 48), need_affinity=True).affinity_logits
    first = network.vit.num_prefix_tokens
    expected = [
        attention_logits(b.attn, x)[:, :, first:, first:]
        for b, x in zip(network.vit.blocks[-2:], seen[::2], strict=True)
    ]
    assert torch.allclose(logits, torch.cat(expected, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"model": "vit_smal_patch16_224", "weights": "none"}, "vit_small_patch16_224"),
        ({"model": TINY, "weights": "missing.pth"}, "missing.pth"),
        ({"model": TINY, "weights": "none", "token_stride": 5}, "network.token_stride"),
        ({"model": "resnet10t", "weights": "none"}, "network.model"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], names: str) -> None:
    with pytest.raises(UserError, match=names):
        TimmViT(**settings)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match="could not be loaded"):
        TimmViT(TINY, tmp_path / "bad.pth")
