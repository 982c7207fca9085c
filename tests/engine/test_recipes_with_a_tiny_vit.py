"""The GPU recipes end to end on a CPU, with timm's tiny test model: what their labels contain, not the exit code."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from unia_med.build import build_dataset, build_method
from unia_med.config.load import load_config
from unia_med.config.schema import RunConfig
from unia_med.data.slices.dataset import SliceDataset, build_slices
from unia_med.engine.session import run_training
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch
from unia_med.methods.label_plan import label_plan
from unia_med.methods.unia import UniA
from unia_med.run_files import RunFiles

TINY = ["network.model=test_vit", "network.weights=none", "network.uncertainty_width=32", "training.batch_size=2"]
SHORT = ["training.iterations=6", "training.validate_every=6", "training.checkpoint_every=6", "training.warmup=0.2"]


def _trained(config: RunConfig, run: Path) -> tuple[UniA, SliceDataset]:
    run_training(config, run, device="cpu")
    state = torch.load(RunFiles(run).best, map_location="cpu", weights_only=True)
    method = build_method(config)
    assert isinstance(method, UniA)
    method.load_state_dict(state["ema"])
    dataset = build_dataset(config.data)
    cases = [case for case in dataset.cases() if case.mask is not None][:2]
    return method.eval(), build_slices(dataset, cases, config.data)


def _losses(run: Path) -> dict[str, float]:
    header, *rows = RunFiles(run).metrics.read_text().splitlines()
    return {name: float(value) for name, value in zip(header.split(","), rows[-1].split(","), strict=True) if value}


def test_acdc_vit_trains_and_its_labels_hold_every_class(tiny_acdc: Path, tmp_path: Path) -> None:
    teacher = ["prior.phantom.slices=8", "prior.phantom.iterations=4", "prior.phantom.batch_size=2", "prior.rounds=2"]
    grid = ["data.grid.size=[64, 48]", "network.input_size=96"]
    config = load_config("acdc_vit.yaml", [f"data.root={tiny_acdc}", *TINY, *SHORT, *teacher, *grid])
    method, slices = _trained(config, tmp_path / "run")
    losses = _losses(tmp_path / "run")
    assert all(np.isfinite(value) for value in losses.values() if not np.isnan(value))
    assert {"segmentation", "affinity", "distribution", "token_contrast", "label_dice_labels"} <= set(losses)
    written = sorted(path.name for path in RunFiles(tmp_path / "run").labels.iterdir() if path.suffix == ".npy")
    assert written == ["round_1.npy", "round_2.npy", "validation_round_1.npy", "validation_round_2.npy"]
    truth = torch.zeros(2, 64, 48, dtype=torch.long)  # perfect scores through the network's own affinity
    truth[:, 16:40, 8:36], truth[:, 22:34, 14:30], truth[:, 44:56, 8:40] = 2, 3, 1
    scores = torch.nn.functional.one_hot(truth, 4).movedim(-1, 1).float()
    images = 0.2 * truth.unsqueeze(1).float()
    batch = Batch(images, torch.ones(2, 3, dtype=torch.int8), scores=scores)
    with torch.no_grad():
        output = method.network(images, need_affinity=True)
        assert output.affinity is not None and output.inferred.features.shape[-2:] == (6, 4)  # 96 x 72 px, not squeezed
        fused = method._pseudo_labels(batch, output, label_plan(method.settings, 6, 6), frozenset(("F",)))["F"]
    for label in range(4):
        found, real = fused == label, truth == label
        assert float(2 * (found & real).sum() / (found.sum() + real.sum())) > 0.8, label
    assert len(slices) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc.yaml", "voc_published.yaml"])
def test_voc_trains_and_its_labels_say_something(name: str, photographs: ModuleType, tmp_path: Path) -> None:
    root = photographs.make_voc(tmp_path)
    data = [f"data.root={root}", "data.voc.train=train", "data.voc.masks=[SegmentationClass]", "data.cache=none"]
    data += ["data.workers=0", "data.grid.size=[64, 64]", "method.scales=[1.0, 0.5]", "method.dense_energy_grid=8"]
    config = load_config(name, [*data, *TINY, *SHORT, "inference.batch_slices=2"])
    method, slices = _trained(config, tmp_path / "run")
    losses = _losses(tmp_path / "run")
    assert losses["affinity"] > 0 and losses["segmentation"] > 0 and losses["token_contrast"] > 0
    samples = [slices[index] for index in range(len(slices))]
    images = torch.stack([sample["image"] for sample in samples]).float()
    tags = torch.stack([sample["tags"] for sample in samples])
    with torch.no_grad():
        output = method.network(images, need_affinity=True)
        plan = label_plan(method.settings, 6, 6)
        made = method._pseudo_labels(Batch(images, tags), output, plan, frozenset(("P2", "F")))
    for source in ("P1", "P2", "F"):
        for one, known in zip(made[source], tags, strict=True):
            values = set(one.unique().tolist()) - {0, IGNORE}
            assert values <= {index + 1 for index in known.nonzero().flatten().tolist()}, source  # no untagged class
    assert all((made["P1"] == value).any() for value in (0, IGNORE)) and (made["P1"] % IGNORE > 0).any()
    assert plan.decoder == ("P2" if name == "voc_published.yaml" else "F")
