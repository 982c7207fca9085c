"""Which of several regions shows a class, learned from slice tags: multiple-instance learning with a noisy-or.

A slice shows the class if at least one of its regions does (Maron and Lozano-Perez, NIPS 1998): with p_i the chance
that region i shows it, the slice shows it with 1 - prod(1 - p_i). Nothing else says which region it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

_HIDDEN, _STEPS, _RATE, _DECAY = 16, 300, 1e-2, 1e-3
_MEMBERS = 3  # small networks from different starts, whose logits are averaged
_SURE = 1e-6


class RegionChoice:
    """Small networks that give regions a score; standardised features in, logits out."""

    def __init__(self, mean: np.ndarray, deviation: np.ndarray, members: list[nn.Sequential]) -> None:
        self._mean, self._deviation, self._members = mean, deviation, members

    @classmethod
    def fit(cls, features: np.ndarray, slices: np.ndarray, present: np.ndarray, seed: int) -> RegionChoice | None:
        """Learn from the tags of slices; slices with and without the class weigh the same in all.

        Args:
            features: (N, F) of all regions.
            slices: int (N,), the slice of each region, in 0..S-1.
            present: bool (S,), whether the slice shows the class; slices without any region are not learned from.
            seed: of the networks' first weights.

        Returns:
            None where only slices with, or only slices without the class hold regions: tags say nothing then.
        """
        numbers, slices = np.unique(slices, return_inverse=True)
        target = torch.from_numpy(np.asarray(present, bool)[numbers]).float()
        if len(numbers) == 0 or target.min() == target.max():
            return None
        mean, deviation = features.mean(0), features.std(0) + _SURE
        inputs = torch.from_numpy((features - mean) / deviation).float()
        bags = torch.from_numpy(slices)
        weight = torch.where(target > 0, 0.5 / target.mean(), 0.5 / (1 - target).mean())
        members = [_learned(inputs, bags, target, weight, seed + member) for member in range(_MEMBERS)]
        return cls(mean, deviation, members)

    @torch.inference_mode()
    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the mean logit (N,) that regions with features (N, F) show the class."""
        inputs = torch.from_numpy((features - self._mean) / self._deviation).float()
        return torch.stack([member(inputs)[:, 0] for member in self._members]).mean(0).numpy()


def noisy_or_loss(logits: torch.Tensor, bags: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the cross-entropy between tags of slices and the noisy-or of their regions.

    Args:
        logits: (N,) of regions.
        bags: int64 (N,), the slice of each region.
        target: (S,), 1 where the slice shows the class, else 0.
        weight: (S,), of each slice.
    """
    none = torch.zeros_like(target).index_add(0, bags, F.logsigmoid(-logits))  # log of "no region shows it"
    some = torch.log((1 - none.exp()).clamp_min(_SURE))
    return -(weight * (target * some + (1 - target) * none)).mean()


def _learned(
    inputs: torch.Tensor, bags: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, seed: int
) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(inputs.shape[1], _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1))
    optimizer = torch.optim.Adam(net.parameters(), _RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
        loss = noisy_or_loss(net(inputs)[:, 0], bags, target, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net
