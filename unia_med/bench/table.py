"""All benchmarks by name, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import torch

from unia_med.bench import labels, passes, pixels, volumes
from unia_med.bench.timing import ROUNDS, Benchmark, Timing, time_benchmark
from unia_med.build import resolve_device
from unia_med.errors import UserError, suggestion
from unia_med.inference.runtime import PACKAGES


def run_benchmarks(names: Sequence[str], device: str = "auto", quiet: bool = False) -> dict[str, Timing]:
    """Time benchmarks and print a line for each.

    Args:
        names: keys of `BENCHMARKS`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        quiet: print nothing.

    Raises:
        UserError: an unknown name, before anything is timed.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise UserError(f"unknown benchmark '{name}'", remedy=suggestion(name, BENCHMARKS))
    place = resolve_device(device)
    if not quiet:
        print(f"device {place}, 1 CPU thread, torch {torch.__version__}", flush=True)
    timings = {}
    for name in names:
        timings[name] = timing = time_benchmark(BENCHMARKS[name], place)
        if not quiet:
            print(f"{name:<20}{timing.ratio:8.3g} x   {timing.agreement:<60}{BENCHMARKS[name].summary}", flush=True)
    return timings


def as_json(timings: Mapping[str, Timing]) -> list[dict[str, str | float]]:
    """Return the results as plain values: ratios, since seconds mean nothing on another machine.

    Args:
        timings: by name.
    """
    return [
        {
            "name": name,
            "ratio": round(timing.ratio, 3),
            "agreement": timing.agreement,
            "summary": BENCHMARKS[name].summary,
        }
        for name, timing in timings.items()
    ]


def _dense_energy(channels: int, side: int, least_cosine: float, rounds: int = ROUNDS) -> Benchmark:
    colours = "1 channel" if channels == 1 else f"{channels} channels"
    return Benchmark(
        f"dense energy and gradient, {side} x {side}, {colours}: bilateral grid / all pairs",
        pixels.dense_energy(channels, side),
        least_cosine=least_cosine,
        value_first=True,
        rounds=rounds,
    )


def _runtime(name: str) -> Benchmark:
    return Benchmark(
        f"labels of 10 slices by the CPU network: {name} / torch",
        pixels.other_runtime(name, 10, 160),
        1e-4,
        runtime=name,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "pixel_refine": Benchmark(
        "PAR labels: whole batch, present classes / public form, slices and thresholds apart",
        labels.pixel_refine,
        0.001,
    ),
    "radius_mask": Benchmark("token neighbourhood: cached / Python double loop", labels.radius_neighbours),
    "affinity_pairs": Benchmark(
        "pairs and published affinity loss with gradient: closed form / public form", labels.affinity_pairs
    ),
    "affinity_loss": Benchmark(
        "contrastive affinity loss with gradient: closed form / by autograd", labels.affinity_loss
    ),
    "sinkhorn": Benchmark("Sinkhorn scaling: accumulated factors / rescaled matrix", labels.sinkhorn),
    "dense_energy_64": _dense_energy(1, 64, 0.999),
    "dense_energy_112": _dense_energy(1, 112, 0.999),
    "dense_energy_224": _dense_energy(1, 224, 0.999, rounds=1),
    "dense_energy_colour": _dense_energy(3, 112, 0.99, rounds=3),
    "training_step": Benchmark(
        "steps of the CPU network, batch 12, 160 x 160: as the trainer goes / torch's defaults, channels first",
        pixels.training_step(12, 160),
        rounds=2,
    ),
    "activation_maps": Benchmark(
        "UniA's pass and maps, 3 scales and mirrors, ViT-S, 224 x 224: what is shared once / whole passes",
        passes.activation_maps,
        rounds=2,
    ),
    "onnx": _runtime("onnx"),
    "openvino": _runtime("openvino"),
    "memory_layout": Benchmark(
        "training pass of the CPU backbone: channels last / channels first", pixels.memory_layout
    ),
    "bfloat16": Benchmark("product of matrices: bfloat16 / float32", pixels.half_precision_product, 0, 0.999),
    "percentiles": Benchmark("1st and 99th percentile of a volume: partition / torch.quantile", volumes.percentiles),
    "validation": Benchmark(
        "Dice of a volume and voxels for its temperature: one prediction / one for each", passes.validation
    ),
    "start_up": Benchmark(
        "predict of one small volume, whole process: imports by need / all of MONAI first", passes.start_up, rounds=2
    ),
    "hd95": Benchmark("HD95 of one class: neighbours in order of distance / MONAI", volumes.hd95),
}
"""Every benchmark by name, in the order of printing."""


def installed() -> list[str]:
    """Return the names of those whose packages are installed."""
    return [name for name, one in BENCHMARKS.items() if all(map(find_spec, PACKAGES[one.runtime]))]
