"""Synthetic slices, whose labels are known by construction, as a training set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset


class SyntheticSlices(Dataset):
    """Slices with the same items as a real data set: image, tags, index, and exact class scores, called so by `exact`.

    Args:
        images: uint8 (N, H, W).
        labels: uint8 (N, H, W), values 0..T.
        classes: T.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int) -> None:
        self.images, self.labels, self._classes = images, labels, classes + 1
        self.cases = [("synthetic", index) for index in range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        labels = self.labels[index]
        present = np.bincount(labels.ravel(), minlength=self._classes)[1:] > 0
        scores = (labels[None] == np.arange(self._classes)[:, None, None]).astype(np.float32)
        return {
            "image": torch.from_numpy(self.images[index].astype(np.float32) / 255).unsqueeze(0),
            "tags": torch.from_numpy(present.astype(np.int8)),
            "scores": torch.from_numpy(scores),
            "exact": torch.tensor(True),
            "index": index,
        }
