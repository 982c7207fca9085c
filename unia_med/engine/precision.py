"""The precision of a training: float32, or mixed with a half precision type where the device computes that faster."""

from __future__ import annotations

import functools
import time

import torch

LEAST_GAIN = 1.5
"""How many times faster bfloat16 has to be on a CPU: with less, its conversions cost what its products save."""

_SIDE = 512
_ROUNDS = 5


def precision(device: torch.device, mixed: bool) -> str:
    """Return in words how numbers are computed on a device: `float32`, or mixed with a half precision type.

    Args:
        device: of the training.
        mixed: whether mixed precision is asked for.
    """
    half = half_precision(device) if mixed else None
    measured = mixed and device.type == "cpu" and bfloat16_units()
    note = f" (bfloat16 products take 1/{bfloat16_gain():.1f} of the time here)" if measured else ""
    return ("float32" if half is None else f"mixed {type_name(half)}") + note


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the half precision type for mixed precision on a device; None where float32 is as good.

    A CPU takes bfloat16 where it has units for it (AMX or AVX512-BF16) and these prove faster in a short timing.

    Args:
        device: of the training.
    """
    if device.type == "cpu":
        return torch.bfloat16 if bfloat16_units() and bfloat16_gain() >= LEAST_GAIN else None
    if device.type != "cuda":
        return None
    # Volta and Turing only emulate bfloat16, slowly; they get float16 with loss scaling.
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def type_name(half: torch.dtype | None) -> str | None:
    """Return what a checkpoint holds of a half precision type.

    Example:
        >>> type_name(torch.bfloat16), type_name(None)
        ('bfloat16', None)
    """
    return None if half is None else str(half).removeprefix("torch.")


def bfloat16_units() -> bool:
    """Whether the CPU computes products in bfloat16: AMX or AVX512-BF16, as torch sees it."""
    found = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return any(bool(supported()) for supported in found if supported is not None)


@functools.lru_cache(maxsize=1)
def bfloat16_gain() -> float:
    """How many times faster a product of matrices is in bfloat16 than in float32 on this CPU; measured once."""
    whole = torch.ones(_SIDE, _SIDE)
    half = whole.bfloat16()
    return _fastest(whole) / _fastest(half)


def _fastest(matrix: torch.Tensor) -> float:
    """Seconds of a product, the fastest of a few: the others were disturbed, or the first one set up."""
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
