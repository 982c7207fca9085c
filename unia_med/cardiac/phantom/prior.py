"""The `phantom` prior: slices of synthetic hearts, whose labels are known by construction, as a training set.

A teacher is trained on them alone (`unia_med.engine.self_training`), labels the tagged slices of real hearts, and the
run continues on those labels. Extra knowledge used: what a short-axis heart looks like, and the side of the RV.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unia_med.cardiac.phantom.bank import draw_bank
from unia_med.config.prior import PhantomPriorConfig
from unia_med.config.schema import GridConfig

_CLASSES = 4
_PIXEL_MM = 1.5  # assumed where a configuration keeps stored pixels of unknown size


class PhantomSlices(Dataset):
    """Synthetic slices with the same items as a real data set: image, tags, index, and exact class scores.

    Args:
        settings: How many slices, and the side of the RV.
        grid: Pixels and their size.
        seed: Source of all randomness.
        count: Other number of slices than the settings say.
    """

    def __init__(self, settings: PhantomPriorConfig, grid: GridConfig, seed: int, count: int | None = None) -> None:
        direction = math.radians(settings.rv_direction_degrees)
        count = settings.slices if count is None else count
        self.cases = [("synthetic", index) for index in range(count)]
        self.images, self.labels = draw_bank(count, grid.size, grid.spacing_mm or _PIXEL_MM, seed, direction)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        labels = self.labels[index]
        present = np.bincount(labels.ravel(), minlength=_CLASSES)[1:] > 0
        scores = (labels[None] == np.arange(_CLASSES)[:, None, None]).astype(np.float32)
        return {
            "image": torch.from_numpy(self.images[index].astype(np.float32) / 255).unsqueeze(0),
            "tags": torch.from_numpy(present.astype(np.int8)),
            "scores": torch.from_numpy(scores),
            "index": index,
        }
