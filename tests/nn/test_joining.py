"""The convolution whose weights' gradient is found with channels first: its results, and where it is used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.nn import joining
from unia_med.nn.joining import JoiningConv2d
from unia_med.nn.unet import SkipDecoder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bool, ...]]]:
    """What gradients were asked for."""
    seen: list[tuple[bool, ...]] = []
    found = joining._gradients
    monkeypatch.setattr(joining, "_gradients", lambda *given: seen.append(given[3]) or found(*given))
    yield seen


def layer(channels_in: int, channels_out: int) -> tuple[JoiningConv2d, Tensor]:
    torch.manual_seed(0)
    convolution = JoiningConv2d(channels_in, channels_out, 3, padding=1, bias=False)
    maps = torch.randn(2, channels_in, 9, 7).contiguous(memory_format=torch.channels_last)
    return convolution.to(memory_format=torch.channels_last), maps


@pytest.mark.parametrize("channels", [(12, 5), (8, 1), (5, 12)])
def test_maps_and_both_gradients_are_those_of_double_precision(channels: tuple[int, int]) -> None:
    convolution, maps = layer(*channels)
    maps.requires_grad_()
    result = convolution(maps)
    slope = torch.randn_like(result)
    result.backward(slope)
    exact, weight = maps.detach().double().requires_grad_(), convolution.weight.detach().double().requires_grad_()
    expected = F.conv2d(exact, weight, padding=1)
    expected.backward(slope.double())
    pairs = ((result, expected), (maps.grad, exact.grad), (convolution.weight.grad, weight.grad))
    assert all(torch.allclose(one.double(), other, atol=1e-4) for one, other in pairs)
    assert convolution.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_only_layers_to_fewer_channels_that_are_trained_take_the_detour(calls: list[tuple[bool, ...]]) -> None:
    convolution, maps = layer(12, 5)
    convolution(maps).sum().backward()
    assert calls == [(False, True, False)]  # the maps need no gradient
    convolution(maps.contiguous()).sum().backward()
    convolution(maps.detach().double().float().contiguous()).sum().backward()
    wider, narrow = layer(5, 12)
    wider(narrow).sum().backward()
    with torch.no_grad():
        convolution(maps)
    with torch.autocast("cpu", torch.bfloat16):
        convolution(maps).float().sum().backward()
    assert len(calls) == 1


def test_the_decoder_trains_with_it_and_keeps_its_names(calls: list[tuple[bool, ...]]) -> None:
    torch.manual_seed(0)
    decoder = SkipDecoder(12, (4, 6), 3, (8, 6, 4)).to(memory_format=torch.channels_last)
    tokens, skips = torch.randn(2, 12, 4, 4), (torch.randn(2, 4, 16, 16), torch.randn(2, 6, 8, 8))
    last = [maps.contiguous(memory_format=torch.channels_last) for maps in (tokens, *skips)]
    decoder(last[0], last[1:], (32, 32)).sum().backward()
    assert calls.count((False, True, False)) == 3  # the first convolution of each pair
    assert "steps.0.0.weight" in decoder.state_dict() and "last.0.weight" in decoder.state_dict()
