"""Benchmarks of volumes: their scores and their preparation, on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unia_med.bench.timing import Form
from unia_med.data.grid.transforms import percentiles_of
from unia_med.metrics.surface import hausdorff95, surface_distances


def percentiles(device: torch.device) -> tuple[Form, Form]:
    """Return two percentiles of a volume, and by sorting it."""
    values = torch.randn(216 * 256 * 10)
    ranks = torch.tensor([0.01, 0.99])
    return (
        lambda: torch.stack(percentiles_of(values.numpy().copy(), (1.0, 99.0))),
        lambda: torch.quantile(values, ranks),
    )


def hd95(device: torch.device) -> tuple[Form, Form]:
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
