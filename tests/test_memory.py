"""Memory of long work: what is freed is used again, without the system's help, until the work ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from unia_med import memory

# In a process of its own: the heap of one that has run other tests may hold free pieces as large as these tensors.
MEASURE = """
import json, resource, sys
from pathlib import Path
import torch
from unia_med.memory import MIDDLING, kept_memory

def faults(size):
    "How many pages the system has to clear for four tensors, one after another."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty(size // 4).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

large, small = 48 << 20, 16 << 20  # large: more than glibc ever keeps by itself
figures = {"outside": faults(large)}
with kept_memory(MIDDLING):
    for _ in range(4):  # until the heap has room for all that comes and goes
        faults(small)
    figures |= {"middling, small": faults(small), "middling, large": faults(large)}
with kept_memory():
    for _ in range(4):
        faults(large)
    figures |= {"inside": faults(large), "held": resident()}
figures["after"] = resident()
json.dump(figures, sys.stdout)
"""


@pytest.fixture(scope="module")
def figures() -> dict[str, int]:
    """Pages cleared for large tensors, outside and inside, and bytes held."""
    if memory._glibc() is None:
        pytest.skip("no glibc")
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_freed_memory_is_used_again_inside_and_given_back_afterwards(figures: dict[str, int]) -> None:
    assert figures["inside"] < 0.1 * figures["outside"]
    assert figures["held"] - figures["after"] > 0.5 * (48 << 20)


def test_larger_tensors_are_given_back_where_only_smaller_ones_are_kept(figures: dict[str, int]) -> None:
    assert figures["middling, small"] < 0.05 * figures["outside"]
    assert figures["middling, large"] > 0.5 * figures["outside"]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.kept_memory():
        assert torch.ones(3).sum() == 3
