"""Benchmarks of networks and of losses on pixels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unia_med.bench.timing import Form
from unia_med.build import build_method
from unia_med.config.schema import RunConfig
from unia_med.inference.runtime import ConvertedMethod, check_runtime
from unia_med.losses.dense_energy import smoothed_scores
from unia_med.memory import kept_memory
from unia_med.methods.base import Method
from unia_med.nn.hybrid import HybridLite0
from unia_med.nn.lite0 import Lite0
from unia_med.nn.unet import SkipDecoder
from unia_med.tensors import evaluating, size_of, with_layout

_WALKER_NETWORK = {
    "network": {"backbone": "lite0", "weights": "none", "decoder_widths": [96, 64, 32, 24]},
    "method": {"name": "partial"},
}
"""That of `acdc_cpu_walker.yaml`, without trained weights."""


def dense_energy(channels: int, side: int) -> Callable[[torch.device], tuple[Form, Form]]:
    """Return what makes two forms of the dense energy, followed by its gradient: by a grid, and over all pairs.

    Args:
        channels: of the image, 1 or 3.
        side: of the square grid of pixels.
    """

    def forms(device: torch.device) -> tuple[Form, Form]:
        coarse = torch.rand(1, channels, 12, 12) * torch.tensor([1.0, 0.4, 0.2])[:channels, None, None]
        images = F.interpolate(coarse, (side, side), mode="bilinear") + 0.02 * torch.rand(1, channels, side, side)
        logits = 3 * F.interpolate(torch.randn(1, 4, 8, 8), (side, side), mode="bilinear")
        images, logits = images.clamp(0, 1).to(device), logits.to(device)
        return partial(_energy_and_slope, images, logits, False), partial(_energy_and_slope, images, logits, True)

    return forms


def _energy_and_slope(images: Tensor, logits: Tensor, exact: bool) -> Tensor:
    given = logits.clone().requires_grad_()
    scores = given.softmax(1)
    energy = -(scores.flatten(2) * smoothed_scores(images, scores.detach(), exact=exact)).sum()
    (slope,) = torch.autograd.grad(energy, given)
    return torch.cat((energy.detach().view(1), slope.flatten()))


def half_precision_product(device: torch.device) -> tuple[Form, Form]:
    """Return a product of matrices in bfloat16, as `training.amp` computes it where that is faster, and in float32."""
    matrix = torch.rand(512, 512, device=device)
    half = matrix.bfloat16()
    return lambda: half @ half, lambda: matrix @ matrix


def other_runtime(name: str, slices: int, side: int) -> Callable[[torch.device], tuple[Form, Form]]:
    """Return what makes the labels of a volume by the CPU network: in another runtime, and in torch.

    Args:
        name: `onnx` or `openvino`; its packages must be installed.
        slices: of the volume.
        side: of the square slices, in pixels.
    """

    def forms(device: torch.device) -> tuple[Form, Form]:
        check_runtime(name, device)
        torch.manual_seed(0)
        method = with_layout(build_method(RunConfig.model_validate(_WALKER_NETWORK)), torch.channels_last)
        images = F.interpolate(torch.rand(slices, 1, 12, 12), (side, side), mode="bilinear")
        images = images.contiguous(memory_format=torch.channels_last)
        _settle(method, images)
        converted = ConvertedMethod(method, name)

        def used() -> Tensor:
            with evaluating(method):
                return converted.predict(images)[0].probabilities.argmax(1)

        def plain() -> Tensor:
            with evaluating(method):
                return method.predict(images).probabilities.argmax(1)

        return used, plain

    return forms


def _settle(method: Method, images: Tensor) -> None:
    """Set the statistics of batch norm to those of some images: without, an untrained network says one class only."""
    norms = [module for module in method.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        method.train().predict(images)
    method.eval()


def memory_layout(device: torch.device) -> tuple[Form, Form]:
    """Return a training pass of the CPU backbone in two layouts."""
    images = torch.rand(8, 1, 128, 128, device=device)
    forms = [_training_pass(images, layout) for layout in (torch.channels_last, torch.contiguous_format)]
    return forms[0], forms[1]


def training_step(batch: int, side: int) -> Callable[[torch.device], tuple[Form, Form]]:
    """Return what makes two forms of four steps of the CPU network: as the trainer goes, and as torch's defaults go.

    Args:
        batch: slices of a step.
        side: of the square slices, in pixels.
    """

    def forms(device: torch.device) -> tuple[Form, Form]:
        images = torch.rand(batch, 1, side, side, device=device)
        labels = torch.randint(0, 4, (batch, side, side), device=device)
        return _steps(images, labels, fast=True), _steps(images, labels, fast=False)

    return forms


def _steps(images: Tensor, labels: Tensor, fast: bool) -> Form:
    """Forward, backward and update of backbone and decoder, four times; every call gives the same losses."""
    torch.manual_seed(0)
    backbone = Lite0(weights="none")
    decoder = SkipDecoder(backbone.width, backbone.skip_channels, 4, (96, 64, 32, 24))
    layout = torch.channels_last if fast else torch.contiguous_format
    network = with_layout(nn.ModuleList([backbone, decoder]).to(images.device), layout)
    slices = images.to(memory_format=layout)
    # The rate is 0, so that each call computes the same: the update takes as long with any rate.
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.0, fused=fast, foreach=False)

    def step() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        features = backbone(slices)
        logits = decoder(features.tokens, features.skips, size_of(slices))
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def form() -> Tensor:
        with kept_memory() if fast else nullcontext():
            return torch.stack([step() for _ in range(4)])

    return form


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
