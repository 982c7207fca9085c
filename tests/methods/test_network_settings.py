"""Settings of the section `network` do what they say, for every backbone."""

from __future__ import annotations

import pytest
import torch

from unia_med.config.schema import NetworkConfig
from unia_med.methods.segmenter import Segmenter, build_backbone

VIT = {"backbone": "vit", "model": "test_vit", "decoder": "largefov"}  # timm's own test model of 16 px patches


@pytest.mark.parametrize(
    ("network", "stride", "expected"),
    [
        ({}, None, 8),
        ({}, 4, 4),
        ({}, 16, 16),
        (VIT, None, 16),
        (VIT, 8, 8),
        (VIT, 4, 4),
    ],
)
def test_tokens_have_the_distance_that_is_set(network: dict[str, object], stride: int | None, expected: int) -> None:
    backbone = build_backbone(NetworkConfig(weights="none", token_stride=stride, **network))
    with torch.no_grad():
        found = backbone.eval()(torch.rand(1, 1, 64, 96))
    assert found.tokens.shape[-2:] == (64 // expected, 96 // expected)


def test_width_depth_and_channels_are_those_that_are_set() -> None:
    backbone = build_backbone(NetworkConfig(weights="none", width=24, depth=3, channels=2))
    assert (backbone.width, backbone.depth, len(backbone.blocks)) == (24, 3, 3)
    for network in ({}, VIT, {"backbone": "lite0"}):
        made = Segmenter(NetworkConfig(weights="none", channels=2, **network), 3).eval()
        with torch.no_grad():
            assert made(torch.rand(1, 2, 32, 48)).shape == (1, 3, 32, 48)
