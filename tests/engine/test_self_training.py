"""Rounds of a run with priors: who labels what and when, and that a resumed run sees the same labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unia_med.build import build_dataset
from unia_med.config.schema import RunConfig
from unia_med.data.slices.dataset import SliceDataset, build_slices
from unia_med.engine.self_training import SelfTraining
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch, Method, Prediction


class Constant(Method):
    """State one class everywhere; training leaves it as it is."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("label", torch.tensor(label))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.scale * 0.0}

    def predict(self, images: Tensor) -> Prediction:
        probabilities = torch.zeros(len(images), 4, *images.shape[-2:])
        probabilities[:, self.label] = 1.0
        return Prediction(probabilities, torch.zeros_like(images[:, 0]))


def _config(root: Path, **prior: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"root": str(root), "grid": {"spacing_mm": None, "size": [32, 32]}},
            "prior": {
                "rounds": 2,
                "scales": [1.0],
                "phantom": {"slices": 4, "iterations": 2, "batch_size": 2},
                **prior,
            },
            "training": {"iterations": 10, "batch_size": 4},
        }
    )


def _slices(config: RunConfig) -> SliceDataset:
    dataset = build_dataset(config.data)
    return build_slices(dataset, dataset.cases(), config.data)


def _plan(config: RunConfig, folder: Path, slices: SliceDataset, label: int = 3) -> SelfTraining:
    return SelfTraining(config, folder, slices, torch.device("cpu"), lambda config: Constant(label))


def test_the_teacher_labels_round_one_and_the_network_round_two(tiny_acdc: Path, tmp_path: Path) -> None:
    config = _config(tiny_acdc, names=["phantom"])
    slices = _slices(config)
    plan = _plan(config, tmp_path, slices)
    method = Constant(1)
    plan.before_training(method)
    assert int(method.label) == 3  # the teacher's weights start the run
    tagged = slices.tags[:, 2] == 1
    assert slices.scores is not None
    assert (slices.scores[tagged, 3] == 255).all()
    assert set(plan.boundaries) == {5}
    plan.boundaries[5](Constant(2))
    assert (slices.scores[slices.tags[:, 1] == 1, 2] == 255).all()
    plan.restore(4)
    assert (slices.scores[tagged, 3] == 255).all()
    plan.restore(7)
    assert (slices.scores[slices.tags[:, 1] == 1, 2] == 255).all()


def test_a_run_shorter_than_its_rounds_has_fewer_of_them(tiny_acdc: Path, tmp_path: Path) -> None:
    config = _config(tiny_acdc, names=["phantom"], rounds=3)
    config = config.model_copy(update={"training": config.training.model_copy(update={"iterations": 2})})
    plan = _plan(config, tmp_path, _slices(config))
    plan.before_training(Constant(1))  # reads the labels of round 1, the only ones there are
    assert set(plan.boundaries) == {1}


def test_a_model_to_start_from_takes_the_teachers_place(tiny_acdc: Path, tmp_path: Path) -> None:
    config = _config(tiny_acdc, names=["phantom"])
    training = config.training.model_copy(update={"start_from": "another model"})
    config = config.model_copy(update={"training": training})
    slices = _slices(config)
    method = Constant(1).train()
    _plan(config, tmp_path, slices, label=3).before_training(method)
    assert slices.scores is not None
    assert (slices.scores[slices.tags[:, 0] == 1, 1] == 255).all()
    assert int(method.label) == 1
    assert method.training
    assert not (tmp_path / "prior").exists()


def test_tags_remove_what_is_not_in_a_slice_unless_switched_off(tiny_acdc: Path, tmp_path: Path) -> None:
    absent_kept = []
    for use_tags in (True, False):
        config = _config(tiny_acdc, names=["phantom"], use_tags=use_tags)
        slices = _slices(config)
        slices.tags[0] = 0
        _plan(config, tmp_path / str(use_tags), slices).before_training(Constant(0))
        absent_kept.append(bool(slices.scores[0, 3].any()))
    assert absent_kept == [False, True]


def test_finished_labels_are_taken_up_again(tiny_acdc: Path, tmp_path: Path) -> None:
    config = _config(tiny_acdc, names=["phantom"])
    _plan(config, tmp_path, _slices(config)).before_training(Constant(0))
    written = tmp_path / "labels" / "round_1.npy"
    before = written.stat().st_mtime_ns, np.load(written).sum()
    again = _slices(config)
    _plan(config, tmp_path, again, label=1).before_training(Constant(0))
    assert (written.stat().st_mtime_ns, np.load(written).sum()) == before


@pytest.mark.parametrize("names", [["ring"], ["ring", "phantom"]])
def test_the_ring_labels_with_and_without_a_teacher(tiny_acdc: Path, tmp_path: Path, names: list[str]) -> None:
    config = _config(tiny_acdc, names=names, confidence=0.0)
    slices = _slices(config)
    _plan(config, tmp_path, slices).before_training(Constant(0))
    assert slices.scores is not None
    assert slices.scores.shape == (len(slices), 4, 32, 32)
    assert (slices.scores[:, 1:].sum(1) <= 255).all()


def test_batches_hold_their_share_of_synthetic_slices(tiny_acdc: Path, tmp_path: Path) -> None:
    config = _config(tiny_acdc, names=["phantom"], synthetic_share=0.25)
    plan = _plan(config, tmp_path, _slices(config))
    real = len(plan.slices)
    batches = plan.dataset.batch_order(seed=1, epoch=0, batch_size=4)
    assert batches == plan.dataset.batch_order(seed=1, epoch=0, batch_size=4)
    assert all(sum(index >= real for index in batch) == 1 and len(batch) == 4 for batch in batches)
    seen = [index for batch in batches for index in batch if index < real]
    assert len(seen) == len(set(seen))
    alone = _plan(_config(tiny_acdc, names=["phantom"], synthetic_share=0.0), tmp_path, slices := _slices(config))
    assert alone.dataset is slices


def test_agreement_without_a_prior_goes_back_to_what_was_drawn(tiny_acdc: Path, tmp_path: Path) -> None:
    config = _config(tiny_acdc, names=[], trust="agreement", use_tags=False, rounds=2)
    case = "patient001_frame01"
    completed, drawn = np.full((4, 32, 32), 3, np.uint8), np.full((4, 32, 32), IGNORE, np.uint8)
    completed[:, :16], drawn[:, 0, 0] = 0, 2
    slices = _slices(config)
    slices.set_labels({case: completed})

    def plan_on(slices: SliceDataset) -> SelfTraining:
        build = lambda config: Constant(3)  # noqa: E731
        return SelfTraining(config, tmp_path, slices, torch.device("cpu"), build, {case: drawn})

    plan = plan_on(slices)
    plan.before_training(Constant(1))
    assert slices.scores is None and slices.labels == {case: completed}
    plan.boundaries[5](Constant(3))
    assert slices.labels == {case: drawn}
    scores = np.asarray(slices.scores)[slices.rows(case)]
    assert (scores[:, 3, 16:] == 255).all()  # the walker says so too
    assert (scores[:, 3, :16] == 128).all()  # it does not
    assert (np.asarray(slices.scores)[slices.rows("patient002_frame01"), 3] == 255).all()  # nobody else speaks
    resumed = _slices(config)
    resumed.set_labels({case: completed})
    plan_on(resumed).restore(7)
    assert resumed.labels == {case: drawn}
    np.testing.assert_array_equal(np.asarray(resumed.scores), np.asarray(slices.scores))
    plan.restore(4)
    assert slices.scores is None and slices.labels == {case: completed}


def _relabelled(config: RunConfig, folder: Path, method: Method) -> SliceDataset:
    """The slices with the labels of round 2, which `method` gave."""
    slices = _slices(config)
    plan = _plan(config, folder, slices)
    plan.before_training(Constant(0))
    plan.boundaries[5](method)
    return slices


class Lone(Constant):
    """State LV in the second slice of a stack and background in all others."""

    def predict(self, images: Tensor) -> Prediction:
        probabilities = torch.zeros(len(images), 4, *images.shape[-2:])
        probabilities[:, 0] = 1.0
        probabilities[1, [0, 3]] = torch.tensor([0.0, 1.0]).view(2, 1, 1)
        return Prediction(probabilities, torch.zeros_like(images[:, 0]))


@pytest.mark.parametrize(("sigma", "sure"), [(0.0, 255), (0.3, 255), (1.0, 0)])
def test_a_slice_that_its_neighbours_contradict_is_outvoted(
    tiny_acdc: Path, tmp_path: Path, sigma: float, sure: int
) -> None:
    slices = _relabelled(_config(tiny_acdc, slice_smoothing=sigma, use_tags=False), tmp_path, Lone(0))
    case, _ = next(iter(slices.volumes()))
    scores = slices.scores[slices.rows(case.name)]
    # A normal curve of one slice leaves 0.40 of its weight, or 0.45 near the end of the stack, on the slice itself.
    assert (scores[1, 3] == sure).all()
    assert (scores[2, 3] == 0).all()


class MapsFirst(Constant):
    """State MYO as long as its decoder has not learned."""

    def pseudo_probabilities(self, images: Tensor, tags: Tensor, step: int) -> Tensor:
        probabilities = self.predict(images).probabilities
        return probabilities if step else probabilities.roll(-1, 1)


@pytest.mark.parametrize(("source", "label"), [("prediction", 3), ("maps", 2)])
def test_later_rounds_are_labelled_by_the_prediction_or_the_maps(
    tiny_acdc: Path, tmp_path: Path, source: str, label: int
) -> None:
    slices = _relabelled(_config(tiny_acdc, source=source, use_tags=False), tmp_path, MapsFirst(3))
    assert (slices.scores.argmax(1) == label).all()


class Half(Constant):
    """Is sure of the LV in the left quarter of a slice, of background in the right half, and undecided between."""

    def predict(self, images: Tensor) -> Prediction:
        inside = torch.full(tuple(images.shape[-2:]), 0.45)
        inside[:, : images.shape[-1] // 4] = 1.0
        inside[:, images.shape[-1] // 2 :] = 0.0
        probabilities = torch.zeros(len(images), 4, *images.shape[-2:])
        probabilities[:, 0], probabilities[:, 3] = 1 - inside, inside
        return Prediction(probabilities, torch.zeros_like(images[:, 0]))


def test_the_walker_decides_where_the_network_does_not(tiny_acdc: Path, tmp_path: Path) -> None:
    slices = _relabelled(_config(tiny_acdc, walker={"beta": 1.0}, confidence=0.5, use_tags=False), tmp_path, Half(3))
    left = np.asarray(slices.scores)[:, 3, 4:-4] == 255
    # Without edges to follow, the border lies half-way between the seeds of columns 7 and 16.
    assert left[..., :10].mean() > 0.95
    assert left[..., 14:].mean() < 0.05


class Spots(Constant):
    """State the third class in two spots of every slice, far from one another."""

    def predict(self, images: Tensor) -> Prediction:
        probabilities = torch.zeros(len(images), 4, *images.shape[-2:])
        probabilities[:, 0] = 1.0
        for rows, columns in ((slice(2, 6), slice(2, 6)), (slice(20, 30), slice(20, 30))):
            probabilities[:, 0, rows, columns], probabilities[:, 3, rows, columns] = 0.0, 1.0
        return Prediction(probabilities, torch.zeros_like(images[:, 0]))


@pytest.mark.parametrize(("rules", "value"), [({}, 255), ({"one_object": True}, 128), ({"one_piece": ["lv"]}, 128)])
def test_two_lesions_survive_self_training_unless_the_config_says_there_is_one(
    tiny_acdc: Path, tmp_path: Path, rules: dict[str, object], value: int
) -> None:
    scores = np.asarray(_relabelled(_config(tiny_acdc, use_tags=False, **rules), tmp_path, Spots(3)).scores)
    assert (scores[:, 3, 20:30, 20:30] == 255).all() and (scores[:, 3, 2:6, 2:6] == value).all()


def _permuted(config: RunConfig, classes: list[str], groups: dict[str, list[str]] | None = None) -> RunConfig:
    data = config.data.model_copy(update={"classes": classes, "groups": groups})
    return config.model_copy(update={"data": data})


@pytest.mark.parametrize("names", [["phantom"], ["ring"]])
def test_a_prior_labels_by_name_whatever_the_order_of_the_classes(
    tiny_acdc: Path, tmp_path: Path, names: list[str]
) -> None:
    config = _config(tiny_acdc, names=names, confidence=0.0, synthetic_share=0.5)
    found = {}
    for order in ("RV MYO LV", "LV RV MYO"):
        classes = order.split()
        mine = _permuted(config, classes)
        slices = _slices(mine)
        # The teacher that is stood in for says LV, whatever its number is.
        plan = _plan(mine, tmp_path / order, slices, label=1 + classes.index("LV"))
        plan.before_training(Constant(0))
        scores = np.asarray(slices.scores)
        found[order] = {"background": scores[:, 0]} | {n: scores[:, 1 + k] for k, n in enumerate(classes)}
        if names == ["phantom"]:
            item = plan.dataset[len(slices)]
            found[order] |= {f"synthetic {n}": item["scores"][1 + k].numpy() for k, n in enumerate(classes)}
            found[order] |= {f"tag {n}": item["tags"][k].numpy() for k, n in enumerate(classes)}
    one, other = found.values()
    assert any(one[name].any() for name in ("RV", "MYO", "LV"))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_merged_classes_learn_from_all_their_members(tiny_acdc: Path, tmp_path: Path) -> None:
    config = _config(tiny_acdc, names=["phantom"], synthetic_share=0.5)
    merged = _permuted(config, ["LV", "RV", "MYO"], {"WHOLE_LV": ["MYO", "LV"], "RV": ["RV"]})
    apart = _plan(config, tmp_path / "apart", _slices(config)).dataset
    joined = _plan(merged, tmp_path / "joined", _slices(merged)).dataset
    for index in range(1, 4):
        one, other = (dataset[len(dataset.real) + index]["scores"] for dataset in (apart, joined))
        torch.testing.assert_close(other, torch.stack([one[0], one[2] + one[3], one[1]]))
