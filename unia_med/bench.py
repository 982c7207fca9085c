"""Side-by-side timings: each hot part in the form used here and in the plain form that it replaces.

Both forms run alternately in one process on the same input, after their results were compared, so the ratio holds on
this machine at this moment whatever else it is doing. The plain forms follow the public implementations that the UniA
specification describes (its section A) or the definition itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unia_med.build import resolve_device
from unia_med.errors import UserError, suggestion
from unia_med.localise.affinity_refine import SINKHORN_ROUNDS, normalise_affinity, radius_mask
from unia_med.localise.pixel_refine import combine_high_low, pixel_kernel, propagate, refine_labels
from unia_med.losses.affinity import contrastive, pair_labels
from unia_med.metrics.surface import hausdorff95, surface_distances
from unia_med.nn.hybrid import HybridLite0
from unia_med.tensors import with_layout

Form = Callable[[], Tensor]
ROUNDS = 5
"""Timed runs of each form; the fastest counts, being the one that other programs disturbed least."""


@dataclass(frozen=True)
class Benchmark:
    """Two ways to one result.

    Attributes:
        summary: what is compared, for people.
        make: given a device, the form used here and the plain form.
        tolerance: largest share of result values that may differ by more than 1e-3; labels on ties may.
    """

    summary: str
    make: Callable[[torch.device], tuple[Form, Form]]
    tolerance: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Seconds of the two forms, each at its fastest."""

    used: float
    plain: float

    @property
    def ratio(self) -> float:
        """How many times faster the form used here is."""
        return self.plain / self.used


def run_benchmarks(names: Sequence[str], device: str = "auto") -> dict[str, Timing]:
    """Time benchmarks and print a line for each.

    Args:
        names: keys of `BENCHMARKS`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: an unknown name, before anything is timed.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise UserError(f"unknown benchmark '{name}'", remedy=suggestion(name, BENCHMARKS))
    place = resolve_device(device)
    print(f"device {place}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}", flush=True)
    timings = {}
    for name in names:
        timings[name] = timing = time_benchmark(BENCHMARKS[name], place)
        figures = f"{timing.ratio:10.3g} x   {timing.used * 1e3:9.3g} ms against {timing.plain * 1e3:9.3g} ms"
        print(f"{name:<20}{figures}   {BENCHMARKS[name].summary}", flush=True)
    return timings


def time_benchmark(benchmark: Benchmark, device: torch.device, rounds: int = ROUNDS) -> Timing:
    """Compare the results of both forms, then time them in turn.

    Args:
        benchmark: what to time.
        device: where.
        rounds: timed runs of each form.

    Raises:
        RuntimeError: the forms do not agree, so their times mean nothing.
    """
    torch.manual_seed(0)
    used, plain = benchmark.make(device)
    _check_agreement(used(), plain(), benchmark.tolerance)  # Also warms caches and the allocator.
    pairs = [(_seconds(used, device), _seconds(plain, device)) for _ in range(rounds)]
    return Timing(*(min(column) for column in zip(*pairs, strict=True)))


def _check_agreement(first: Tensor, second: Tensor, tolerance: float) -> None:
    first, second = first.float(), second.float()
    differing = ~torch.isclose(first, second, rtol=1e-3, atol=1e-3)
    if differing.float().mean().item() > tolerance:
        raise RuntimeError(f"the two forms differ in {differing.float().mean().item():.2%} of the values")


def _seconds(form: Form, device: torch.device) -> float:
    """Return the seconds of one call, averaged over calls that take 0.05 s together, since the clock is coarse."""
    calls, start = 0, time.perf_counter()
    while True:
        form()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
        if elapsed > 0.05:
            return elapsed / calls


def _pixel_refine(device: torch.device) -> tuple[Form, Form]:
    images = F.avg_pool2d(torch.rand(4, 1, 130, 130, device=device), 3, stride=1)
    cam = F.avg_pool2d(torch.rand(4, 3, 136, 136, device=device), 9, stride=1)
    tags = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 1]], dtype=torch.int8, device=device)

    def used() -> Tensor:
        return refine_labels(pixel_kernel(images), cam, tags, high=0.7, low=0.25)

    def plain() -> Tensor:
        pairs = zip(images.split(1), cam.split(1), tags, strict=True)
        return torch.cat([_refine_one(image, maps, present) for image, maps, present in pairs])

    return used, plain


def _refine_one(image: Tensor, maps: Tensor, present: Tensor) -> Tensor:
    """Refined labels of one slice, (1, H, W), the kernel built again for each threshold [A12]."""
    classes = (present == 1).nonzero().flatten()
    keys = torch.cat((classes.new_zeros(1), classes + 1))
    labels = []
    for background in (0.7, 0.25):
        stacked = torch.cat((torch.full_like(maps[:, :1], background), maps[:, classes]), 1)
        halved = F.interpolate(stacked, scale_factor=0.5, mode="bilinear", align_corners=False).softmax(1)
        refined = propagate(pixel_kernel(image), halved)
        full = F.interpolate(refined, scale_factor=2, mode="bilinear", align_corners=False)
        labels.append(keys[full.argmax(1)])
    high, low = labels
    return combine_high_low(high, low)


def _radius_mask(device: torch.device) -> tuple[Form, Form]:
    side, radius = 16, 7

    def plain() -> Tensor:
        mask = torch.zeros(side * side, side * side, dtype=torch.bool)
        for i in range(side * side):
            for j in range(side * side):
                rows, columns = abs(i // side - j // side), abs(i % side - j % side)
                mask[i, j] = rows <= radius and columns <= radius
        return mask.to(device)

    return lambda: radius_mask(side, side, radius, device), plain


def _affinity_loss(device: torch.device) -> tuple[Form, Form]:
    affinity = torch.rand(2, 256, 256, device=device)
    labels = torch.randint(0, 4, (2, 4, 4), device=device).repeat_interleave(4, 1).repeat_interleave(4, 2)
    positive, negative = pair_labels(labels, radius_mask(16, 16, 7, device))

    def plain() -> Tensor:
        anchors = [_anchor_loss(affinity, positive, negative, b, i) for b in range(2) for i in range(256)]
        return torch.stack([loss for loss in anchors if loss is not None]).mean()

    return lambda: contrastive(affinity, positive, negative), plain


def _anchor_loss(affinity: Tensor, positive: Tensor, negative: Tensor, b: int, i: int) -> Tensor | None:
    """Return the loss of one token as section 12 writes it, or None for a token without both kinds of pairs."""
    others = positive[b, i].clone()
    others[i] = False
    if not (others.any() and negative[b, i].any()):
        return None
    weights = (affinity[b, i] / 0.5).exp()
    return -(weights[others] / (weights[others] + weights[negative[b, i]].sum())).log().mean()


def _sinkhorn(device: torch.device) -> tuple[Form, Form]:
    affinity = torch.rand(4, 784, 784, device=device)
    affinity = (affinity + affinity.transpose(1, 2)) / 2
    near = radius_mask(28, 28, 7, device)

    def plain() -> Tensor:
        matrix = (affinity * near) ** 2
        for _ in range(SINKHORN_ROUNDS):
            matrix = matrix / matrix.sum(1, keepdim=True)
            matrix = matrix / matrix.sum(2, keepdim=True)
        return (matrix + matrix.transpose(1, 2)) / 2

    return lambda: normalise_affinity(affinity, near), plain


def _memory_layout(device: torch.device) -> tuple[Form, Form]:
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


def _hd95(device: torch.device) -> tuple[Form, Form]:
    """Distances of a small organ, of a large one, and of two organs with stray voxels, all on the CPU."""
    from monai.metrics import compute_hausdorff_distance

    pairs = [
        (*_two_balls((216, 256, 10), (1.5, 1.5, 10.0), 42.0, stray=0), (1.5, 1.5, 10.0)),
        (*_two_balls((128, 128, 96), (1.0, 1.0, 1.5), 38.0, stray=0), (1.0, 1.0, 1.5)),
        (*_two_balls((128, 128, 96), (1.0, 1.0, 1.5), 38.0, stray=400), (1.0, 1.0, 1.5)),
    ]

    def used() -> Tensor:
        found = (surface_distances(one, other, spacing) for one, other, spacing in pairs)
        return torch.tensor([hausdorff95(distances) for distances in found if distances is not None])

    def plain() -> Tensor:
        values = []
        for one, other, spacing in pairs:
            first, second = (torch.from_numpy(mask)[None, None].float() for mask in (one, other))
            values.append(compute_hausdorff_distance(first, second, True, percentile=95, spacing=spacing))
        return torch.cat(values).flatten()

    return used, plain


def _two_balls(
    shape: tuple[int, ...], spacing: tuple[float, ...], radius_mm: float, stray: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return two bool balls a few voxels apart, the first with stray voxels anywhere."""
    axes = np.meshgrid(*(np.arange(size, dtype=float) for size in shape), indexing="ij")
    middle = [size / 2 for size in shape]
    balls = []
    for shift, radius in ((0.0, radius_mm), (2.0, radius_mm + spacing[0])):
        away = [axis - centre for axis, centre in zip(axes, middle, strict=True)]
        away[:2] = [axis - shift for axis in away[:2]]
        balls.append(sum((axis * size) ** 2 for axis, size in zip(away, spacing, strict=True)) < radius**2)
    first, second = (np.asarray(ball) for ball in balls)
    first.flat[np.random.default_rng(0).choice(first.size, stray, replace=False)] ^= True
    return first, second


BENCHMARKS: dict[str, Benchmark] = {
    "pixel_refine": Benchmark(
        "PAR labels: whole batch at once / loop over slices and thresholds", _pixel_refine, 0.001
    ),
    "radius_mask": Benchmark("token neighbourhood: cached / Python double loop", _radius_mask),
    "affinity_loss": Benchmark("contrastive affinity loss: all pairs at once / loop over tokens", _affinity_loss),
    "sinkhorn": Benchmark("Sinkhorn scaling: accumulated factors / rescaled matrix", _sinkhorn),
    "hd95": Benchmark("HD95 of one class: neighbours in order of distance / MONAI", _hd95),
    "memory_layout": Benchmark("training pass of the CPU backbone: channels last / channels first", _memory_layout),
}
"""Every benchmark by name, in the order of printing."""
