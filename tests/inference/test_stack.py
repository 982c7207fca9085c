"""Probabilities smoothed along the stack: scipy's Gaussian over the slices of one volume, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.data.io.volume import Volume
from unia_med.inference.predictor import Predictor
from unia_med.inference.stack import smooth_parts, smooth_stack
from unia_med.methods.base import Batch, Method, Prediction

SIDE = 16


def _smoothed(probabilities: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    return gaussian_filter1d(probabilities.astype(np.float64), sigma, axis=axis, mode="nearest")


def _chances(slices: int, classes: int = 3, side: int = 5) -> Tensor:
    draws = np.random.default_rng(slices).dirichlet(np.full(classes, 0.3), (slices, side, side + 1))
    return torch.from_numpy(draws).float().permute(0, 3, 1, 2)


@pytest.mark.parametrize("slices", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0, 2.5])
def test_it_is_the_gaussian_of_scipy_with_the_outermost_slices_repeated(slices: int, sigma: float) -> None:
    chances = _chances(slices)
    found = smooth_stack(chances, sigma)
    np.testing.assert_allclose(found, _smoothed(chances.numpy(), sigma, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_a_standard_deviation_of_nothing_changes_nothing() -> None:
    chances = _chances(4)
    assert torch.equal(smooth_stack(chances, 0.0), chances)


@pytest.mark.parametrize("lengths", [[9], [1] * 9, [4, 5], [5, 4], [2, 2, 2, 3], [8, 1], [1, 8]])
@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_parts_make_no_difference_and_other_maps_stay_with_their_slices(lengths: list[int], sigma: float) -> None:
    chances, others = _chances(9), torch.arange(9.0).view(9, 1, 1, 1).expand(9, 2, 5, 6)
    parts = zip(chances.split(lengths), others.split(lengths), strict=True)
    found = list(smooth_parts(parts, sigma))
    assert all(len(one) == len(other) > 0 for one, other in found)
    assert torch.equal(torch.cat([one for one, _ in found]), smooth_stack(chances, sigma))
    assert torch.equal(torch.cat([other for _, other in found]), others)


def test_few_slices_are_held_at_once() -> None:
    taken: list[int] = []

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for index in range(50):
            taken.append(index)
            yield _chances(2), torch.zeros(2, 0, 5, 6)

    given = 0
    for smoothed, _ in smooth_parts(parts(), 0.6):
        given += len(smoothed)
        assert 2 * len(taken) - given <= 4  # the two that wait for neighbours, and two of a part
    assert given == 100


class _Levels(Method):
    """Three classes with the probabilities that the image holds: its intensity x gives (1 - x, 0.7 x, 0.3 x)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.weight.sum()}

    def predict(self, images: Tensor) -> Prediction:
        level = images[:, 0]
        return Prediction(torch.stack((1 - level, 0.7 * level, 0.3 * level), 1), level)


def _predictor(sigma: float, **inference: object) -> Predictor:
    settings = {"batch_slices": 4, "slice_smoothing": sigma, **inference}
    grid = {"spacing_mm": None, "size": (SIDE, SIDE), "percentiles": (0, 100), "slice_axis": "axial"}
    data = {"classes": ["a", "b"], "grid": grid}
    config = RunConfig.model_validate({"data": data, "inference": settings})
    return Predictor(_Levels(), config, postprocess=False)


def _volume(slices: int, seed: int = 0) -> Volume:
    """Noise whose slices lie along the first axis as stored."""
    noise = np.random.default_rng(seed).random((slices, SIDE, SIDE)).astype(np.float32)
    noise[0, 0, :2] = 0, 1
    affine = np.array([[0, 1.0, 0, 0], [0, 0, 1.0, 0], [8.0, 0, 0, 0], [0, 0, 0, 1]])
    return Volume(noise, affine)


@pytest.mark.parametrize("slices", [1, 3, 4, 11])
def test_volumes_are_smoothed_along_their_own_slices(slices: int) -> None:
    volume = _volume(slices)
    plain = _predictor(0.0).probabilities(volume)
    expected = _smoothed(plain, 0.8, axis=1)
    predictor = _predictor(0.8)
    np.testing.assert_allclose(predictor.probabilities(volume), expected, atol=1e-6)
    sure = np.abs(np.sort(expected, 0)[-1] - np.sort(expected, 0)[-2]) > 1e-5
    labels, _ = predictor.predict_volume(volume)
    np.testing.assert_array_equal(labels[sure], expected.argmax(0)[sure])
    detail = predictor.predict_in_detail(volume)
    np.testing.assert_allclose(detail.probabilities, expected, atol=1e-6)
    # The network's own uncertainty is of its slice.
    np.testing.assert_allclose(detail.network, 1 - plain[0], atol=1e-6)
    if slices > 1:
        assert (labels != plain.argmax(0)).mean() > 0.05


def test_volumes_that_go_through_together_keep_their_stacks_apart() -> None:
    volumes = [_volume(2, seed) for seed in range(3)]
    together = list(_predictor(0.8, batch_slices=8).predict_frames(iter(volumes)))
    for volume, found in zip(volumes, together, strict=True):
        alone = _predictor(0.8).predict_volume(volume)
        np.testing.assert_array_equal(found.labels, alone.labels)
        np.testing.assert_array_equal(found.uncertainty, alone.uncertainty)


def test_the_temperature_comes_last_so_that_it_changes_no_label() -> None:
    volume = _volume(9)
    plain, softer = _predictor(0.8), _predictor(0.8, temperature=3.0)
    mean = plain.probabilities(volume).astype(np.float64)
    expected = mean ** (1 / 3)
    np.testing.assert_allclose(softer.probabilities(volume), expected / expected.sum(0), atol=1e-5)
    np.testing.assert_array_equal(softer.predict_volume(volume).labels, plain.predict_volume(volume).labels)
