"""What the ablation measures of a run, on volumes and within one network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from unia_med import api
from unia_med.build import build_dataset
from unia_med.config.schema import GridConfig, RunConfig
from unia_med.data.io.read import read_volume
from unia_med.data.sample import CaseFiles, EvaluationCase
from unia_med.data.structured.dataset import write_dataset
from unia_med.inference.predictor import DetailedSegmentation, Predictor
from unia_med.labels import IGNORE
from unia_med.methods.label_plan import label_plan
from unia_med.methods.unia import UniA
from unia_med.pipeline import ablation_measures
from unia_med.pipeline.ablation_measures import (
    LABELS,
    WITHIN,
    _cases,
    _with_labels,
    affinity_areas,
    overlaps,
    peaks_inside,
    within,
)

TINY = {"network.weights": "none", "network.width": 32, "network.depth": 2, "network.uncertainty_width": 32}


def tiny(**changes: object) -> RunConfig:
    return api.configured("objects_tags", {"data.root": "x", **TINY, **changes})


def written(folder: Path, mask: np.ndarray) -> EvaluationCase:
    """A case whose image is ten times its mask."""
    for name, array in (("a.nii.gz", mask * 10.0), ("a_gt.nii.gz", mask)):
        nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4)), folder / name)
    files = CaseFiles("a", "a", folder / "a.nii.gz", mask=folder / "a_gt.nii.gz")
    return EvaluationCase(files, read_volume(files.image), mask)


def test_overlaps_are_dice_by_class_with_undecided_pixels_outside() -> None:
    truth = np.zeros((4, 4, 1), np.uint8)
    truth[:2, :, 0], truth[3, :, 0] = 1, 2
    labels = truth.copy()
    labels[0, :2, 0], labels[3, :, 0] = IGNORE, 3
    assert overlaps(labels, truth, 4) == pytest.approx([2 * 6 / (6 + 8), 0.0, 0.0])  # class 4 is nowhere
    assert overlaps(labels, truth, 4, as_one=True) == pytest.approx([2 * 10 / (10 + 12)])


def test_a_peak_counts_where_its_class_is(tmp_path: Path) -> None:
    mask = np.zeros((16, 16, 2), np.uint8)
    mask[2:6, 2:6, 0], mask[10:14, 10:14, :] = 5, 7
    scores = torch.full((2, 3, 16, 16), 0.1)
    scores[0, 1, 3, 3] = scores[0, 2, 4, 4] = scores[1, 2, 11, 11] = 0.9  # class 2 of slice 0 peaks in class 1
    scores[:, 0] = 1 - scores[:, 1:].amax(1)
    method = torch.nn.Module()
    method.pseudo_probabilities = lambda slices, tags, step: scores if step == 0 else 1 / 0
    case = written(tmp_path, mask)
    grid = GridConfig(spacing_mm=1.0, size=(16, 16))
    of_classes = peaks_inside(SimpleNamespace(method=method), grid, (5, 7), case, np.ones((2, 2), np.int8))
    assert of_classes == [1.0, 0.0, 1.0]
    as_one = peaks_inside(SimpleNamespace(method=method), grid, (5, 7), case, np.ones((2, 2), np.int8), as_one=True)
    assert as_one == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "decoder", "rows"),
    [
        ("P1", "P1", None),
        ("P2", "P2", None),
        ("F", "F", (False, False)),
        ("F, row 2", "F", (False, True)),
        ("F, rows 1 and 2", "F", (True, True)),
    ],
)
def test_labels_of_one_network_differ_by_their_rules_alone(
    name: str, decoder: str, rows: tuple[bool, bool] | None
) -> None:
    config = tiny(**{"method.gates.final_labels": 0.5})
    method = UniA(config)
    maker = _with_labels(method, config, LABELS[name]).method
    plan = label_plan(maker.settings, maker.iterations, maker.iterations)
    assert plan.decoder == decoder
    assert rows is None or (plan.trust_cam, plan.agreement) == rows
    assert all(torch.equal(value, maker.state_dict()[key]) for key, value in method.state_dict().items())
    own = method.settings.model_dump(exclude={"label_source": True, "gates": {"agreement", "trust_cam"}})
    assert maker.settings.model_dump(exclude={"label_source": True, "gates": {"agreement", "trust_cam"}}) == own


def test_affinity_is_judged_by_near_pairs_with_foreground(tmp_path: Path) -> None:
    """Tokens of 4 x 4 pixels; within a radius of 1, the two classes of slice 0 touch; slice 1 is background alone."""
    mask = np.zeros((16, 16, 2), np.uint8)
    mask[4:8, 0:8, 0], mask[4:8, 8:16, 0] = 5, 7
    case = written(tmp_path, mask)
    truth = torch.from_numpy(mask[2::4, 2::4, 0].astype(int))
    config = tiny(**{"data.grid.spacing_mm": 1.0, "data.grid.size": (16, 16), "method.radius": 1})
    same = (truth.flatten().unsqueeze(1) == truth.flatten()).float()
    near = torch.ones(16, 16)  # of pairs that are too far away, the affinity says the opposite
    for i in range(16):
        for j in range(16):
            near[i, j] = max(abs(i // 4 - j // 4), abs(i % 4 - j % 4)) <= 1
    background = (truth.flatten().unsqueeze(1) == 0) & (truth.flatten() == 0)
    good = torch.where(background, 0.05, torch.where(near > 0, 0.1 + 0.8 * same, 0.9 - 0.8 * same)).fill_diagonal_(0)

    def areas(affinity: torch.Tensor) -> list[float]:
        inferred = SimpleNamespace(features=torch.zeros(2, 8, 4, 4))
        output = SimpleNamespace(affinity=affinity.expand(2, 16, 16), inferred=inferred)
        method = SimpleNamespace(network=lambda images, need_affinity: output, settings=UniA(config).settings)
        method.eval = lambda: method
        return affinity_areas(method, config, case, (5, 7))

    assert areas(good) == [1.0]
    assert areas(1 - good) == [0.0]
    assert areas(torch.full_like(good, 0.3)) == [0.5]


def test_what_is_seen_within_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels and affinity of training volumes, doubts of validation volumes without voxels that are unknown."""
    config = tiny(**{"data.grid.spacing_mm": 1.0, "data.grid.size": (32, 32)})
    mask = np.zeros((32, 32, 2), np.uint8)
    mask[8:24, 8:24, 0] = 1
    case = written(tmp_path, mask)
    asked: list[tuple[str, int | None]] = []

    def cases(of: RunConfig, part: str, most: int | None = None) -> list[tuple[EvaluationCase, np.ndarray, list[int]]]:
        asked.append((part, most))
        labels = mask.copy()
        labels[:, :, 1] = 1 if part == "val" else 0  # would be wrong, were it known
        labels[:, :4, :] = IGNORE
        return [(EvaluationCase(case.files, case.volume, labels), np.array([[1, 0, 0], [0, 0, 0]], np.int8), [1, 2, 3])]

    monkeypatch.setattr(ablation_measures, "_cases", cases)
    predictor = Predictor(UniA(config), config)

    def in_detail(volume: object) -> DetailedSegmentation:
        wrong = np.zeros((32, 32, 2), bool)
        wrong[:, :, 1] = True
        doubt = np.where(wrong, 0.9, 0.2).astype(np.float32)
        doubt[:, :4] = 1 - doubt[:, :4]  # the other way round where nothing is known
        return DetailedSegmentation(mask, np.zeros(1), 1 - doubt, doubt, mask)

    monkeypatch.setattr(predictor, "predict_in_detail", in_detail)

    def maker(method: UniA, of: RunConfig, changes: dict[str, object]) -> SimpleNamespace:
        labels = np.zeros_like(mask)
        labels[8:24, : 8 + 8 * (list(LABELS.values()).index(changes)), 0] = 1  # of known columns: 4 to 7, to 15, ...
        return SimpleNamespace(label_maps=lambda volume, tags: {"fused": labels})

    monkeypatch.setattr(ablation_measures, "_with_labels", maker)
    monkeypatch.setattr(ablation_measures, "affinity_areas", lambda method, of, one, values: [0.25, 0.75])
    found = within(SimpleNamespace(config=config, predictor=lambda: predictor, folder=tmp_path))
    assert tuple(found) == WITHIN and asked == [("train", 40), ("val", None)]
    assert [found[name] for name in LABELS] == pytest.approx(
        [0, 2 * 8 / (16 + 16), 2 * 16 / (24 + 16), 2 * 16 / (32 + 16), 2 * 16 / (32 + 16)]
    )
    assert (found["affinity"], found["U"], found["entropy"]) == (0.5, 1.0, 0.0)
    perfect = DetailedSegmentation(np.ones_like(mask), np.zeros(1), mask, mask, mask)
    monkeypatch.setattr(predictor, "predict_in_detail", lambda volume: perfect)
    mask[:] = 1
    found = within(SimpleNamespace(config=config, predictor=lambda: predictor, folder=tmp_path))
    assert found["U"] is None and found["entropy"] is None


def test_volumes_are_chosen_evenly_and_come_with_their_tags(tmp_path: Path) -> None:
    write_dataset(tmp_path, "objects", 6)
    config = api.configured("objects_tags", {"data.root": str(tmp_path), "data.split.modulus": 6})
    names = [case.name for case in build_dataset(config.data).cases()]
    of = {part: [(one.files.name, tags) for one, tags, _ in _cases(config, part)] for part in ("train", "val")}
    assert len(of["train"]) == 5 and len(of["val"]) == 1
    assert sorted(name for part in of.values() for name, _ in part) == sorted(names)
    assert [one.files.name for one, _, _ in _cases(config, "train", 2)] == [of["train"][0][0], of["train"][3][0]]
    for one, tags, values in _cases(config, "train", 5):
        assert tags.tolist() == [
            [int((one.labels[:, :, z] == value).any()) for value in values] for z in range(len(tags))
        ]
