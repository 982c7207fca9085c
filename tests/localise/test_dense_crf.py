"""The dense CRF against a version that goes through all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unia_med.localise import dense_crf as module
from unia_med.localise.dense_crf import CrfSettings, dense_crf

EXACT = CrfSettings(iterations=3, smoothness_px=1.2, appearance_px=4.0, appearance_colour=30.0, stride=1)


def _picture(height: int = 7, width: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(3, height, width, generator=generator)
    image[:, :, width // 2 :] *= 0.3
    return image, (2 * torch.randn(4, height, width, generator=generator)).softmax(0)


def _brute_force(image: np.ndarray, probabilities: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Mean field in float64 with explicit kernels over all pairs, symmetrically normalised."""
    classes, height, width = probabilities.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    kernels = np.zeros((2, len(pixels), len(pixels)))
    for i, (y, x) in enumerate(pixels):
        for j, (v, u) in enumerate(pixels):
            far = (y - v) ** 2 + (x - u) ** 2
            colours = ((255 * (image[:, y, x] - image[:, v, u])) ** 2).sum()
            kernels[0, i, j] = np.exp(-far / (2 * settings.smoothness_px**2))
            kernels[1, i, j] = np.exp(
                -far / (2 * settings.appearance_px**2) - colours / (2 * settings.appearance_colour**2)
            )
    for kernel in kernels:
        norm = kernel.sum(1)
        kernel /= np.sqrt(norm[:, None] * norm[None])
    belief = unary = probabilities.reshape(classes, -1).astype(np.float64)
    for _ in range(settings.iterations):
        energy = np.log(unary)
        energy = energy + settings.smoothness_weight * belief @ kernels[0].T
        energy = energy + settings.appearance_weight * belief @ kernels[1].T
        belief = np.exp(energy) / np.exp(energy).sum(0)
    return belief.reshape(classes, height, width)


def test_equals_the_sum_over_all_pairs() -> None:
    image, probabilities = _picture()
    expected = _brute_force(image.double().numpy(), probabilities.double().numpy(), EXACT)
    found = dense_crf(image, probabilities, EXACT)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    assert np.abs(expected - probabilities.numpy()).max() > 0.1  # it does something


def test_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    image, probabilities = _picture()
    whole = dense_crf(image, probabilities, EXACT)
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 150)  # two or three pixels at a time
    torch.testing.assert_close(dense_crf(image, probabilities, EXACT), whole, atol=1e-6, rtol=0)


def test_no_iteration_and_no_weight_change_nothing() -> None:
    image, probabilities = _picture()
    assert torch.equal(dense_crf(image, probabilities, EXACT._replace(iterations=0)), probabilities)
    idle = EXACT._replace(smoothness_weight=0.0, appearance_weight=0.0)
    torch.testing.assert_close(dense_crf(image, probabilities, idle), probabilities)


def test_labels_follow_the_edge_of_the_image() -> None:
    """A square that is predicted too large is pulled back to its colours, by the exact sums and by the sampled ones."""
    image, true = torch.full((3, 40, 48), 0.2), torch.zeros(40, 48, dtype=torch.int64)
    true[8:32, 12:36] = 1
    image[:, true == 1] = 0.8
    loose = torch.zeros(40, 48, dtype=torch.bool)
    loose[6:34, 10:38] = True
    first = torch.where(loose, 0.65, 0.1)
    probabilities = torch.stack((1 - first, first))
    assert ((probabilities.argmax(0) == 1) != (true == 1)).sum() > 100
    for stride in (1, 3):
        found = dense_crf(image, probabilities, CrfSettings(stride=stride))
        assert torch.equal(found.argmax(0), true)
        torch.testing.assert_close(found.sum(0), torch.ones(40, 48))


def test_sampled_sums_approach_the_exact_ones() -> None:
    torch.manual_seed(0)
    coarse = torch.rand(3, 6, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)  # even patches of 8 x 8 pixels
    probabilities = torch.randn(3, 6, 8).repeat_interleave(8, 1).repeat_interleave(8, 2).softmax(0)
    settings = CrfSettings(iterations=2, appearance_px=40.0, appearance_colour=40.0, stride=1)
    exact = dense_crf(coarse, probabilities, settings)
    sampled = dense_crf(coarse, probabilities, settings._replace(stride=4))
    assert (exact - sampled).abs().max() < 0.02


def test_the_sample_lies_in_the_middle_and_a_rare_colour_is_no_hole() -> None:
    """Of 9 x 9 pixels, those in the middle of each 3 x 3: mirrored pictures give mirrored results."""
    image, probabilities = _picture(9, 9)
    sampled = EXACT._replace(stride=3, appearance_colour=3.0)
    found = dense_crf(image, probabilities, sampled)
    turned = dense_crf(image.flip(1, 2), probabilities.flip(1, 2), sampled).flip(1, 2)
    torch.testing.assert_close(found, turned, atol=1e-4, rtol=1e-3)
    image[:, 0, 0] = torch.tensor([0.0, 1.0, 0.0])  # like no pixel of the sample
    assert dense_crf(image, probabilities, sampled).isfinite().all()


def test_no_class_is_ruled_out_by_a_probability_of_zero() -> None:
    image, probabilities = _picture()
    certain = torch.nn.functional.one_hot(probabilities.argmax(0), 4).movedim(-1, 0).float()
    found = dense_crf(image, certain, EXACT)
    assert found.isfinite().all() and found.min() > 0


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        dense_crf(torch.zeros(3, 4, 4), torch.zeros(2, 4, 5))
