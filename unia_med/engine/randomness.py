"""Random numbers as a pure function of (seed, step, rank): a resumed run draws what the whole run would have drawn."""

from __future__ import annotations

import random

import numpy as np
import torch

_MASK = (1 << 64) - 1


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Return a well-mixed 63-bit seed of one step on one process (finaliser of SplitMix64, Steele et al. 2014).

    Args:
        seed: of the run.
        step: iterations done.
        rank: number of the process.

    Example:
        >>> len({step_seed(0, step, rank) for step in range(100) for rank in range(4)})
        400
    """
    value = 0
    for part in (seed, step, rank):
        value = _mix((value ^ part & _MASK) + 0x9E3779B97F4A7C15)
    return value >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (the CPU, and CUDA once it is in use).

    Args:
        seed: 63 bits; NumPy takes the lower 32.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # torch.manual_seed would note the call's stack for every device kind that is not in use, half a millisecond a step.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _mix(value: int) -> int:
    value &= _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
