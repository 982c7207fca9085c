"""Real and synthetic slices in one data set, so that self-training never forgets the shapes it knows exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset


class MixedSlices(Dataset):
    """Two data sets end to end; every batch holds a fixed share of the second.

    Args:
        real: Tagged slices.
        synthetic: Synthetic slices with the same items.
        share: Share of synthetic slices in a batch, in [0, 1).
    """

    def __init__(self, real: Any, synthetic: Any, share: float) -> None:
        self.real, self.synthetic, self.share = real, synthetic, share
        self.cases = [*real.cases, *synthetic.cases]

    def __len__(self) -> int:
        return len(self.real) + len(self.synthetic)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < len(self.real):
            return self.real[index]
        item = self.synthetic[index - len(self.real)]
        return {**item, "index": index}

    def batch_order(self, seed: int, epoch: int, batch_size: int) -> list[list[int]]:
        """Batches of one epoch over the real slices: a pure function of (seed, epoch)."""
        synthetic = round(self.share * batch_size)
        real = max(1, batch_size - synthetic)
        generator = np.random.default_rng((seed, epoch))
        order = generator.permutation(len(self.real))
        batches = []
        for start in range(0, len(order) - real + 1, real):
            extra = generator.integers(len(self.synthetic), size=synthetic) + len(self.real)
            batches.append([*order[start : start + real].tolist(), *extra.tolist()])
        return batches or [list(range(len(self.real)))]
