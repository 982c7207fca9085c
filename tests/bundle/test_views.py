"""A bundle has one way to predict: with the views that are the run's default."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from unia_med.bundle.average import AveragedMethod
from unia_med.bundle.views import MeanOfViews, with_views
from unia_med.config.schema import TestTimeConfig
from unia_med.methods.base import Batch, Method, Prediction

SIDE = 32


class _Sides(Method):
    """Three classes whose probabilities depend on the column and on the size of the slice, but not on its content."""

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {}

    def predict(self, images: Tensor) -> Prediction:
        side = images.shape[-1]
        ramp = ((torch.arange(side) + 0.5) / side).expand(len(images), side, side)
        first = ramp * SIDE / (SIDE + side)
        found = torch.stack((first, (1 - first) * 0.75, (1 - first) * 0.25), 1)
        return Prediction(found, torch.zeros_like(ramp))


def _by_hand(scales: tuple[float, ...], mirrored: bool) -> np.ndarray:
    """(3, columns) mean over the views; a ramp keeps its values between the outermost columns when it is resized."""
    column = (np.arange(SIDE) + 0.5) / SIDE
    views = []
    for scale, flip in product(scales, (False, True) if mirrored else (False,)):
        first = (1 - column if flip else column) / (1 + scale)
        views.append([first, (1 - first) * 0.75, (1 - first) * 0.25])
    return np.mean(views, 0)


@pytest.mark.parametrize(("scales", "mirrored"), [((0.5, 1.0), False), ((1.0,), True), ((0.5, 1.0, 2.0), True)])
def test_the_mean_is_that_of_all_views_of_the_config(scales: tuple[float, ...], mirrored: bool) -> None:
    config = TestTimeConfig(scales=list(scales), flips=mirrored, by_default=True)
    method = with_views(_Sides(), config)
    found = method.predict(torch.rand(2, 1, SIDE, SIDE))
    expected = _by_hand(scales, mirrored)
    inner = slice(2, -2)
    np.testing.assert_allclose(found.probabilities[1, :, 5, inner], expected[:, inner], atol=1e-5)
    np.testing.assert_allclose(found.uncertainty[0, 7, inner], entropy(expected, base=3)[inner], atol=1e-4)


def test_a_run_without_views_by_default_stays_as_it_is() -> None:
    method = _Sides()
    assert with_views(method, TestTimeConfig(scales=[0.5, 1.0])) is method
    with pytest.raises(NotImplementedError):
        MeanOfViews(method, True, (1.0,)).losses(Batch(torch.rand(1, 1, SIDE, SIDE), torch.ones(1, 2)), 0)


def test_views_come_before_the_temperature_of_a_member() -> None:
    views = TestTimeConfig(scales=[0.5, 1.0], by_default=True)
    average = AveragedMethod([_Sides(), with_views(_Sides(), views)], [1.0, 3.0], [[0, 1, 2], [0, 1, 2]])
    found = average.predict(torch.rand(1, 1, SIDE, SIDE)).probabilities[0, :, 9]
    second = _by_hand((0.5, 1.0), False) ** (1 / 3)
    expected = (_by_hand((1.0,), False) + second / second.sum(0)) / 2
    np.testing.assert_allclose(found[:, 2:-2], expected[:, 2:-2], atol=1e-5)
