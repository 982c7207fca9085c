"""Several processes, one run: start-up under `torchrun`, ranks, and collecting results.

Without `torchrun` every function acts for one process alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from unia_med.errors import UserError

Item = TypeVar("Item")

# Rank 0 relabels a whole data set between rounds while the others wait for it.
_PATIENCE = timedelta(hours=4)


def launched_by_torchrun() -> bool:
    """Whether this process is one of several that `torchrun` started."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def active() -> bool:
    """Whether the processes of this run are connected."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return number of this process, from 0."""
    return dist.get_rank() if active() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if active() else 1


def is_main() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return rank() == 0


def device_of_this_process(device: torch.device) -> torch.device:
    """Return the GPU of this process under `torchrun`; otherwise the device unchanged.

    Args:
        device: what the user asked for.
    """
    if device.type == "cuda" and launched_by_torchrun():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connect the processes of a `torchrun` launch for the time of a block; nothing otherwise.

    Args:
        device: CUDA processes talk by NCCL, CPU processes by gloo.
    """
    if not launched_by_torchrun() or active():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrap(method: nn.Module, device: torch.device) -> nn.Module:
    """Return the module whose call is the training step: gradients averaged over processes when there are several.

    Args:
        method: on its device already.
        device: of this process.
    """
    if not active():
        return method
    # A gated loss leaves its head without gradients for the first steps, so unused parameters are normal here.
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(method, device_ids=ids, find_unused_parameters=True)


def share(items: Sequence[Item]) -> list[Item]:
    """Return the part of a list that falls to this process: every `world_size`-th item, none padded, none twice.

    Args:
        items: the same list on every process.
    """
    return list(items[rank() :: world_size()])


@dataclass(frozen=True)
class Piece:
    """One of several disjoint parts of a list: every `count`-th item from number `index` on.

    Attributes:
        index: from 0.
        count: of parts.
    """

    index: int
    count: int

    @classmethod
    def read(cls, text: str | None) -> Piece:
        """Return what `--shard 2/8` names, the second of eight.

        Args:
            text: number from 1, and count; None: all in one.

        Raises:
            UserError: anything else.

        Example:
            >>> Piece.read("2/8")
            Piece(index=1, count=8)
        """
        if text is None:
            return WHOLE
        number, slash, count = text.partition("/")
        if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            remedy = "Give a number from 1 and how many there are: --shard 1/8 to --shard 8/8"
            raise UserError(f"'{text}' names no part", where="--shard", remedy=remedy)
        return cls(int(number) - 1, int(count))

    def of_this_process(self) -> Piece:
        """Return the part of this part that falls to this process under `torchrun`."""
        return Piece(self.index + self.count * rank(), self.count * world_size())

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the part of items.

        Args:
            items: the same, in the same order, for all parts.
        """
        return islice(items, self.index, None, self.count)


WHOLE = Piece(0, 1)


def gather(items: Sequence[Item]) -> list[Item]:
    """All processes' items in the order `share` split them; every process gets the whole list.

    Args:
        items: what this process made of its share, in the share's order.
    """
    if not active():
        return list(items)
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, list(items))
    longest = max(len(part) for part in parts)
    return [part[row] for row in range(longest) for part in parts if row < len(part)]


def largest(number: int, device: torch.device) -> int:
    """Return the largest of all processes' numbers; all must call this at the same step.

    Args:
        number: this process's own.
        device: of this process, since NCCL moves device tensors only.
    """
    if not active():
        return number
    shared = torch.tensor(number, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared.item())


def barrier() -> None:
    """Wait until every process is here."""
    if active():
        dist.barrier()


def broadcast_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers.

    Args:
        module: the same on every process but for its buffers.
    """
    if active():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
