"""Knowledge of the shape of classes for completing weak labels, reached by a name of `registry.SHAPES`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from unia_med.data.weak_labels.boxes import Box


class LabelShape(ABC):
    """Knowledge of the shape of some classes, which are recognised by their names; others are left alone."""

    @abstractmethod
    def from_walk(self, probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return labels uint8 (H, W) of one slice for the result of a random walker.

        Args:
            probabilities: (K, H, W) of the walker.
            labels: uint8 (H, W), what the walker started from, which stays; IGNORE elsewhere.
            names: the K - 1 class names.
        """

    @abstractmethod
    def from_boxes(self, image: np.ndarray, boxes: Sequence[Box], names: Sequence[str]) -> np.ndarray:
        """Return dense labels uint8 (H, W) of one slice: background outside the boxes, a structure in each.

        Args:
            image: float (C, H, W) in [0, 1].
            boxes: of the slice.
            names: the T class names.
        """
