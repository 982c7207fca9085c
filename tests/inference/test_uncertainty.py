"""Entropy against its formula, temperature against logits."""

from __future__ import annotations

import math

import pytest
import torch

from unia_med.inference.uncertainty import apply_temperature, fit_temperature, normalised_entropy


def test_entropy_by_hand() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25, 0.0]])
    expected = -(0.5 * math.log(0.5) + 0.5 * math.log(0.25)) / math.log(4)
    assert normalised_entropy(probabilities).item() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_entropy_stays_in_its_range(classes: int) -> None:
    logits = torch.randn(5, classes, 6, 4, generator=torch.Generator().manual_seed(0)) * 20
    values = normalised_entropy(logits.softmax(1))
    assert values.shape == (5, 6, 4)
    assert 0 <= values.min() and values.max() <= 1
    assert normalised_entropy(torch.full((1, classes), 1 / classes)).item() == pytest.approx(1)


def test_temperature_divides_logits() -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    scaled = apply_temperature(logits.softmax(1), 2.5)
    torch.testing.assert_close(scaled, (logits / 2.5).softmax(1))
    assert apply_temperature(logits.softmax(1), 1.0).equal(logits.softmax(1))


def test_temperature_of_certain_voxels_is_finite() -> None:
    certain = torch.tensor([[1.0, 0.0, 0.0]])
    for temperature in (0.3, 5.0):
        scaled = apply_temperature(certain, temperature)
        assert torch.isfinite(scaled).all() and scaled.sum().item() == pytest.approx(1)
        assert scaled.argmax().item() == 0


def test_what_is_always_right_is_made_as_sure_as_the_limit_allows() -> None:
    always, labels = torch.tensor([[0.6, 0.4]]).expand(100, 2), torch.zeros(100, dtype=torch.long)
    assert fit_temperature(always, labels) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(always, labels + 1) == pytest.approx(20.0, rel=1e-3)


def test_fitting_finds_the_temperature_that_made_the_labels() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(20000, 4, generator=generator) * 2
    labels = torch.multinomial((logits / 3.0).softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits.softmax(1), labels) == pytest.approx(3.0, rel=0.05)
