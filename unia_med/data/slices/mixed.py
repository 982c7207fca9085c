"""Real and synthetic slices in one data set, so that self-training never forgets the shapes it knows exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from unia_med.data.slices.dataset import SliceDataset
from unia_med.data.slices.synthetic import SyntheticSlices


class MixedSlices(Dataset):
    """Two data sets end to end; every batch holds a fixed share of the second.

    Args:
        real: Tagged slices; their own order (balanced, with a share of labelled ones) is kept.
        synthetic: Synthetic slices with the same items and exact scores.
        share: Share of synthetic slices in a batch, in [0, 1).
    """

    def __init__(self, real: SliceDataset, synthetic: SyntheticSlices, share: float) -> None:
        self.real, self.synthetic, self.share = real, synthetic, share
        self.cases = [*real.cases, *synthetic.cases]

    def __len__(self) -> int:
        return len(self.real) + len(self.synthetic)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < len(self.real):
            return {**self.real[index], "exact": torch.tensor(False)}
        item = {**self.synthetic[index - len(self.real)], "index": index}
        if self.real.labels is not None:  # all slices of a batch have the same keys; here every pixel is known
            item["labels"] = item["scores"].argmax(0).to(torch.uint8)
        return item

    def batch_order(self, seed: int, epoch: int, batch_size: int) -> list[list[int]]:
        """Batches of one epoch over the real slices: a pure function of (seed, epoch)."""
        count = min(round(self.share * batch_size), batch_size - 1)
        generator = np.random.default_rng((seed, epoch, 2))
        batches = []
        for real in self.real.batch_order(seed, epoch, batch_size - count):
            synthetic = generator.integers(len(self.synthetic), size=count) + len(self.real)
            batches.append([*real.tolist(), *synthetic.tolist()])
        return batches
