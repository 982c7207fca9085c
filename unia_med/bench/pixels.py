"""Benchmarks of networks and of losses on pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.bench.timing import Form
from unia_med.losses.dense_energy import smoothed_scores
from unia_med.nn.hybrid import HybridLite0
from unia_med.tensors import with_layout


def dense_energy_grey(device: torch.device) -> tuple[Form, Form]:
    """Return what the dense energy of a slice follows downhill, and summed over all pairs."""
    return _dense_energy(device, channels=1)


def dense_energy_colour(device: torch.device) -> tuple[Form, Form]:
    """Return what the dense energy of a picture follows downhill, and summed over all pairs."""
    return _dense_energy(device, channels=3)


def _dense_energy(device: torch.device, channels: int, side: int = 96) -> tuple[Form, Form]:
    coarse = torch.rand(1, channels, 12, 12) * torch.tensor([1.0, 0.4, 0.2])[:channels, None, None]
    images = F.interpolate(coarse, (side, side), mode="bilinear") + 0.02 * torch.rand(1, channels, side, side)
    logits = 3 * F.interpolate(torch.randn(1, 4, 8, 8), (side, side), mode="bilinear")
    images, logits = images.clamp(0, 1).to(device), logits.to(device)

    def form(exact: bool) -> Tensor:
        given = logits.clone().requires_grad_()
        scores = given.softmax(1)
        (slope,) = torch.autograd.grad(
            (scores.flatten(2) * smoothed_scores(images, scores.detach(), exact=exact)).sum(), given
        )
        return slope

    return lambda: form(exact=False), lambda: form(exact=True)


def half_precision_product(device: torch.device) -> tuple[Form, Form]:
    """Return a product of matrices in bfloat16, as `training.amp` computes it where that is faster, and in float32."""
    matrix = torch.rand(512, 512, device=device)
    half = matrix.bfloat16()
    return lambda: half @ half, lambda: matrix @ matrix


def memory_layout(device: torch.device) -> tuple[Form, Form]:
    """Return a training pass of the CPU backbone in two layouts."""
    images = torch.rand(8, 1, 128, 128, device=device)
    forms = [_training_pass(images, layout) for layout in (torch.channels_last, torch.contiguous_format)]
    return forms[0], forms[1]


def _training_pass(images: Tensor, layout: torch.memory_format) -> Form:
    """Forward and backward of the CPU backbone, weights and images in one memory layout."""
    torch.manual_seed(0)
    network = with_layout(HybridLite0(weights="none").to(images.device), layout)
    slices = images.to(memory_format=layout)

    def step() -> Tensor:
        network.zero_grad(set_to_none=True)
        loss = network(slices).tokens.square().mean()
        loss.backward()
        return loss.detach()

    return step
