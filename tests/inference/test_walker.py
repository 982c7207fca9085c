"""Unsure pixels go to the side of the image's edge on which they lie; sure ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.data.io.volume import Volume
from unia_med.inference.predictor import Predictor
from unia_med.inference.walker import decide_unsure, sure_labels
from unia_med.localise.random_walker import walked_slices
from unia_med.methods.base import Batch, Method, Prediction

SIDE = 48
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] - SIDE // 2
DISTANCE = np.hypot(ROWS, COLUMNS)
DISC = DISTANCE < 12
"""The bright disc of the image."""
WIDE = np.clip((22 - DISTANCE) / 16, 0.01, 0.97)
"""What the network thinks: a blurred disc of radius 14, a third too large by area."""


def _image(slices: int = 1) -> Tensor:
    noise = np.random.default_rng(0).normal(scale=0.02, size=(slices, 1, SIDE, SIDE))
    return torch.from_numpy(0.2 + 0.6 * DISC + noise).float()


def _probabilities(inside: np.ndarray, slices: int = 1) -> Tensor:
    # Class 1 outweighs class 2, everywhere by the same factor.
    maps = torch.from_numpy(np.stack((1 - inside, 0.9 * inside, 0.1 * inside))).float()
    return maps.expand(slices, -1, -1, -1)


def test_the_boundary_moves_to_the_edge_of_the_image() -> None:
    probabilities = _probabilities(WIDE)
    found = decide_unsure(probabilities, _image(), foreground=0.8, background=0.2, beta=2000)
    assert (probabilities.argmax(1) == 1).sum() > 1.3 * DISC.sum()
    np.testing.assert_array_equal(found.argmax(1)[0], DISC)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert found.min() >= 0


def test_one_of_several_channels_may_show_the_edge() -> None:
    image = torch.cat((torch.full((1, 2, SIDE, SIDE), 0.5), _image()), 1)
    found = decide_unsure(_probabilities(WIDE), image, foreground=0.8, background=0.2, beta=2000)
    np.testing.assert_array_equal(found.argmax(1)[0], DISC)


def test_sure_pixels_keep_what_the_network_says() -> None:
    probabilities = _probabilities(WIDE)
    found = decide_unsure(probabilities, _image(), foreground=0.8, background=0.2, beta=2000)
    sure = torch.from_numpy((WIDE >= 0.8) | (WIDE <= 0.2))
    assert torch.equal(found[..., sure], probabilities[..., sure])
    assert (found[..., ~sure] != probabilities[..., ~sure]).any(1).float().mean() > 0.9


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_walk_has_its_share_where_the_network_is_unsure(share: float) -> None:
    probabilities, image = _probabilities(WIDE), _image()
    walk = walked_slices(image.numpy(), sure_labels(probabilities.numpy(), 0.8, 0.2), probabilities.numpy(), 2000)
    found = decide_unsure(probabilities, image, 0.8, 0.2, 2000, share=share)
    unsure = (WIDE < 0.8) & (WIDE > 0.2)
    expected = share * walk + (1 - share) * probabilities.numpy()
    np.testing.assert_allclose(found.numpy()[..., unsure], expected[..., unsure], atol=1e-6)
    assert torch.equal(found[..., torch.from_numpy(~unsure)], probabilities[..., torch.from_numpy(~unsure)])


def test_the_odds_of_the_background_are_multiplied_everywhere() -> None:
    plain, found = (decide_unsure(_probabilities(WIDE), _image(), 0.8, 0.2, 2000, background_odds=k) for k in (1, 3))
    torch.testing.assert_close(
        found[:, 0] / (1 - found[:, 0]), 3 * plain[:, 0] / (1 - plain[:, 0]), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(found[:, 1] / found[:, 2], plain[:, 1] / plain[:, 2])
    torch.testing.assert_close(found.sum(1), torch.ones(1, SIDE, SIDE))


def test_a_class_that_is_nowhere_sure_keeps_half_its_probability() -> None:
    """The walk gives it nothing, and the mean is with the network's own."""
    probabilities = _probabilities(WIDE)
    found = decide_unsure(probabilities, _image(), foreground=0.8, background=0.2, beta=2000)
    unsure = torch.from_numpy((WIDE < 0.8) & (WIDE > 0.2))
    torch.testing.assert_close(found[:, 2, unsure], probabilities[:, 2, unsure] / 2)


@pytest.mark.parametrize(("foreground", "background"), [(0.99, 0.2), (0.8, 0.005)])
def test_a_slice_without_one_of_both_sides_is_left_alone(foreground: float, background: float) -> None:
    probabilities = _probabilities(WIDE)
    found = decide_unsure(probabilities, _image(), foreground, background, beta=2000)
    torch.testing.assert_close(found, probabilities)


def test_sure_labels_have_the_likeliest_class() -> None:
    pixels = np.array([[0.05, 0.4, 0.55], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.1, 0.6, 0.3]])
    labels = sure_labels(pixels.T[None, :, None], foreground=0.9, background=0.1)
    np.testing.assert_array_equal(labels[0, 0], [2, 255, 0, 1])
    limits = np.array([[0.75, 0.125, 0.125], [0.25, 0.5, 0.25]]).T[None, :, None]
    np.testing.assert_array_equal(sure_labels(limits, foreground=0.75, background=0.25)[0, 0], [0, 1])


class Blurred(Method):
    """Answers with the blurred disc whatever it is shown."""

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        raise NotImplementedError

    def predict(self, images: Tensor) -> Prediction:
        maps = _probabilities(WIDE, len(images))
        empty = torch.zeros(len(images), 1, SIDE, SIDE)
        return Prediction(torch.cat((maps, empty), 1), torch.zeros_like(images[:, 0]))


@pytest.mark.parametrize("walker", [None, {"foreground": 0.8, "background": 0.2, "beta": 2000}])
def test_the_predictor_does_as_the_config_says(walker: dict[str, float] | None) -> None:
    grid = {"spacing_mm": None, "size": [SIDE, SIDE], "percentiles": [0, 100]}
    inference = {"walker": walker, "temperature": 3.0, "postprocess": {"largest_component": False}}
    config = RunConfig.model_validate({"data": {"grid": grid}, "inference": inference})
    stack = _image(3)[:, 0].permute(1, 2, 0).numpy()
    found = Predictor(Blurred(), config).predict_volume(Volume(stack, np.diag([1.5, 1.5, 10, 1])))
    wanted = DISC if walker else WIDE > 1 / 1.9  # where 0.9 of the inside outweighs the rest
    for index in range(3):
        np.testing.assert_array_equal(found.labels[..., index] == 1, wanted)
