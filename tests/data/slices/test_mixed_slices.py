"""Real and synthetic slices in one batch: shares, order, keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unia_med.build import build_dataset
from unia_med.cardiac.phantom.bank import draw_bank
from unia_med.config.schema import DataConfig
from unia_med.data.slices.dataset import SliceDataset, build_slices
from unia_med.data.slices.mixed import MixedSlices
from unia_med.data.slices.synthetic import SyntheticSlices
from unia_med.labels import IGNORE


def _mixed(root: Path, labels: dict[str, np.ndarray] | None = None) -> tuple[MixedSlices, SliceDataset]:
    data = DataConfig(root=root, grid={"spacing_mm": None, "size": (32, 32)})
    dataset = build_dataset(data)
    slices = build_slices(dataset, dataset.cases(), data, labels=labels)
    slices.set_scores(np.zeros((len(slices), 4, 32, 32), np.uint8))
    return MixedSlices(slices, SyntheticSlices(*draw_bank(3, (32, 32), 1.5, seed=0), 3), 0.5), slices


def test_real_slices_come_in_their_own_order(tiny_acdc: Path) -> None:
    mixed, slices = _mixed(tiny_acdc)
    slices.discordant_weight = 50.0  # slices 2 and 3 of each volume lack a class
    drawn = [index for epoch in range(20) for batch in mixed.batch_order(1, epoch, 8) for index in batch[:4]]
    share = np.mean([index % 4 >= 2 for index in drawn])
    assert share == pytest.approx(50 / 51, abs=0.03)


def test_all_items_have_the_same_keys_and_synthetic_ones_are_known_everywhere(tiny_acdc: Path) -> None:
    labels = {"patient001_frame01": np.full((4, 32, 32), IGNORE, np.uint8)}
    for given in (None, labels):
        mixed, slices = _mixed(tiny_acdc, given)
        synthetic = mixed[len(slices)]
        assert set(mixed[0]) == set(synthetic)
        if given:
            assert synthetic["labels"].dtype == mixed[0]["labels"].dtype == torch.uint8
            for label in range(4):
                assert torch.equal(synthetic["labels"] == label, synthetic["scores"][label] == 1)
