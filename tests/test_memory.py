"""Memory of long work: what is freed is used again, without the system's help, until the work ends."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from unia_med import memory
from unia_med.memory import MIDDLING, kept_memory

BYTES = 48 << 20  # more than glibc ever keeps by itself


def faults(size: int = BYTES) -> int:
    """How many pages the system has to clear for four large tensors, one after another."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty(size // 4).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(memory._glibc() is None, reason="no glibc")
def test_freed_memory_is_used_again_inside_and_given_back_afterwards() -> None:
    outside = faults()
    with kept_memory():
        for _ in range(4):  # until the heap has room for all that comes and goes
            faults()
        inside, held = faults(), resident()
    assert inside < 0.1 * outside
    assert held - resident() > 0.5 * BYTES


@pytest.mark.skipif(memory._glibc() is None, reason="no glibc")
def test_larger_tensors_are_given_back_where_only_smaller_ones_are_kept() -> None:
    small = 16 << 20
    outside = faults()
    with kept_memory(MIDDLING):
        for _ in range(4):
            faults(small)
        assert faults(small) < 0.05 * outside
        assert faults() > 0.5 * outside


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with kept_memory():
        assert torch.ones(3).sum() == 3
