"""Perfect labels stay what they are on their way to the decoder, for every shipped config of UniA."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.build import build_dataset
from unia_med.cardiac.phantom.bank import draw_bank
from unia_med.config.load import load_config
from unia_med.config.schema import RunConfig
from unia_med.config.shipped import shipped_configs
from unia_med.data.grid.transforms import place_labels
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.volume import Volume
from unia_med.data.slices.dataset import build_slices
from unia_med.labels import IGNORE
from unia_med.localise.token_grid import majority_labels
from unia_med.methods.base import Batch
from unia_med.methods.label_plan import label_plan
from unia_med.methods.pseudo_labels import PseudoLabels

_LARGE = ("voc.yaml", "voc_published.yaml", "coco.yaml")  # half a minute each: photographs of 320 pixels and more
CONFIGS = [
    pytest.param(path.name, marks=pytest.mark.slow if path.name in _LARGE else ())
    for path in shipped_configs()
    if load_config(path).method.name == "unia"
]
FIELD_MM = 240.0
CLASSES = 4


@cache
def _phantoms(size: int) -> tuple[Tensor, Tensor]:
    images, labels = draw_bank(8, (size, size), FIELD_MM / size, 5, np.pi)
    return torch.from_numpy(images).float().unsqueeze(1) / 255, torch.from_numpy(labels).long()


@cache
def _acdc(root: Path, size: int) -> tuple[Tensor, Tensor]:
    grid = [f"data.grid.size=[{size}, {size}]", f"data.grid.spacing_mm={FIELD_MM / size}"]
    config = load_config("acdc_cpu.yaml", [f"data.root={root}", *grid]).data
    dataset = build_dataset(config)
    case = dataset.cases()[0]
    slices = build_slices(dataset, [case], config)
    affine = ChannelFiles.of(config).header(case.image).affine
    truth = place_labels(Volume(dataset.labels(case), affine), config.grid)
    images = torch.stack([slices[index]["image"] for index in range(len(slices))]).float()
    return images, torch.from_numpy(np.asarray(truth)).long()


def _grid(config: RunConfig) -> tuple[int, int]:
    side = config.network.input_size or max(config.data.grid.size)
    stride = 16 if config.network.backbone == "vit" else config.network.token_stride or 8
    return side // stride, side // stride


def _fused(config: RunConfig, images: Tensor, truth: Tensor, **batch: Tensor) -> dict[str, Tensor]:
    """P1, P2 and F of perfect scores, with the affinity of tokens that know their class."""
    scores = torch.nn.functional.one_hot(truth, CLASSES).movedim(-1, 1).float()
    tags = (scores[:, 1:].amax((2, 3)) > 0).to(torch.int8)
    grid = _grid(config)
    tokens = majority_labels(truth, grid, CLASSES).flatten(1)
    affinity = (tokens.unsqueeze(2) == tokens.unsqueeze(1)).float()
    plan = label_plan(config.method, config.training.iterations, config.training.iterations)
    parts = Batch(images, tags, scores=scores, **batch)
    labeller = PseudoLabels(config.method, CLASSES)
    return labeller.make(parts, _no_maps, grid, affinity, plan, frozenset(("P2", "F")))


def _no_maps() -> tuple[Tensor, Tensor]:
    raise AssertionError("scores take the place of activation maps")


def _dice(found: Tensor, truth: Tensor) -> list[float]:
    pairs = (((found == k), (truth == k)) for k in range(1, CLASSES))
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def _check(config: RunConfig, images: Tensor, truth: Tensor) -> None:
    made = _fused(config, images, truth)
    for source in ("P1", "P2", "F"):
        assert min(_dice(made[source], truth)) >= 0.90, (source, _dice(made[source], truth))


@pytest.mark.parametrize("name", CONFIGS)
def test_perfect_scores_survive_on_phantoms(name: str) -> None:
    config = load_config(name)
    _check(config, *_phantoms(max(config.data.grid.size)))


@pytest.mark.parametrize("name", CONFIGS)
def test_perfect_scores_survive_on_real_hearts(name: str, real_acdc: Path) -> None:
    config = load_config(name)
    _check(config, *_acdc(real_acdc, max(config.data.grid.size)))


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_labels_reach_the_decoder_as_they_are(name: str) -> None:
    """Even at borders that augmentation has blurred; a slice that is not exact keeps its doubt there."""
    config = load_config(name)
    images, truth = _phantoms(max(config.data.grid.size))
    images, truth = images[:2], truth[:2]
    scores = torch.nn.functional.one_hot(truth, CLASSES).movedim(-1, 1).float()
    blurred = torch.nn.functional.avg_pool2d(scores, 3, 1, 1)
    blurred[:, :, :8, :8] = torch.tensor([0.51, 0.49, 0.0, 0.0]).view(1, CLASSES, 1, 1)
    tags = torch.ones(2, CLASSES - 1, dtype=torch.int8)
    batch = Batch(images, tags, scores=blurred, exact=torch.tensor([True, False]))
    grid = _grid(config)
    affinity = torch.rand(2, grid[0] * grid[1], grid[0] * grid[1], generator=torch.Generator().manual_seed(0))
    plan = label_plan(config.method, 0, 1)
    made = PseudoLabels(config.method, CLASSES).make(batch, _no_maps, grid, affinity, plan, frozenset(("P2", "F")))
    for source in ("P1", "P2", "F"):
        assert torch.equal(made[source][0], blurred[0].argmax(0))
    assert (made["P1"][1, :8, :8] == IGNORE).all()
