"""Uncertainty of a prediction: normalised entropy, and the temperature that calibrates it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURES = (0.05, 20.0)
_STEPS = 60


def normalised_entropy(probabilities: Tensor) -> Tensor:
    """Predictive entropy divided by its largest value, log K: 0 is certain, 1 is all K classes alike.

    Args:
        probabilities: (B, K, ...) with K >= 2, summing to 1 over K.

    Returns:
        (B, ...) of the same type, in [0, 1].

    >>> normalised_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    # entr(0) is 0, its limit; p * log(p) would be NaN there.
    return (torch.special.entr(probabilities).sum(1) / math.log(probabilities.shape[1])).clamp(0, 1)


def apply_temperature(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities as if their logits had been divided by a temperature (Guo et al. 2017).

    Args:
        probabilities: (B, K, ...), summing to 1 over K.
        temperature: above 1 softer, below 1 sharper; the most probable class stays the same.
    """
    if temperature == 1.0:
        return probabilities
    smallest = torch.finfo(probabilities.dtype).tiny
    return torch.softmax(probabilities.clamp_min(smallest).log() / temperature, dim=1)


def fit_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """Temperature of the least mean negative log likelihood on validation data.

    A golden-section search over log temperature from 0.05 to 20; the likelihood has a single optimum in 1/temperature.

    Args:
        probabilities: (N, K) of N voxels, before any temperature.
        labels: (N,) int64 true classes.
    """
    smallest = torch.finfo(torch.float64).tiny
    logits = probabilities.double().clamp_min(smallest).log()

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    low, high = (math.log(limit) for limit in _TEMPERATURES)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return math.exp((low + high) / 2)
