"""The mean over views of a slice as a method, for runs that predict so by default: a bundle has one way to predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from unia_med.config.schema import TestTimeConfig
from unia_med.inference.tta import chosen_views, predict_views
from unia_med.inference.uncertainty import normalised_entropy
from unia_med.methods.base import Batch, Method, Prediction


class MeanOfViews(Method[Any]):
    """The mean of a method's class probabilities over views of each slice.

    Args:
        method: with its trained weights.
        flips: see `predict_views`, as is `scales`.
        scales: sizes relative to the slice.
    """

    def __init__(self, method: Method, flips: bool, scales: Sequence[float]) -> None:
        super().__init__()
        self.method = method
        self._flips, self._scales = flips, tuple(scales)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Is never called: a mean over views is not trained."""
        raise NotImplementedError("a mean over views predicts alone")

    def predict(self, images: Tensor) -> Prediction:
        """Mean probabilities, and their entropy.

        Args:
            images: (B, C, H, W) float32 in [0, 1].
        """
        mean = predict_views(self._probabilities, images, self._flips, self._scales)
        return Prediction(mean, normalised_entropy(mean))

    def _probabilities(self, view: Tensor) -> Tensor:
        return self.method.predict(view).probabilities.float()


def with_views(method: Method, config: TestTimeConfig) -> Method:
    """Return a method that predicts as `unia-med predict` does without `--tta`: with views where they are the default.

    Args:
        method: with its trained weights.
        config: of the run.
    """
    return MeanOfViews(method, *chosen_views(config)) if config.by_default else method
