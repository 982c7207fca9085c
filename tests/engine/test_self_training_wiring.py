"""What self-training hands to its parts: views, weights, tags, rules and seeds; on volumes in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.data.slices.synthetic import SyntheticSlices
from unia_med.engine import self_training
from unia_med.engine.self_training import SelfTraining, _averaged
from unia_med.labels import IGNORE
from unia_med.methods.base import Method
from unia_med.priors.base import PriorVolume
from unia_med.priors.classes import ClassMap

KNOWN = ("RV", "MYO", "LV")


class Volumes:
    """Two volumes of two slices each, of two channels, as `SliceDataset` gives them."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels, self.scores, self.volume_count, self.cases = None, None, 2, []
        self.images = torch.rand(2, 2, 2, 16, 16, generator=generator)
        self.tags = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, -1]], np.int8)

    def volumes(self) -> Iterator[tuple[SimpleNamespace, Tensor]]:
        return ((SimpleNamespace(name=str(index)), volume) for index, volume in enumerate(self.images))

    def rows(self, case: str) -> slice:
        return slice(2 * int(case), 2 * int(case) + 2)


def _plan(folder: Path, **prior: object) -> SelfTraining:
    values = {"data": {"grid": {"size": [16, 16]}}, "prior": {"names": [], "scales": [1.0], **prior}}
    config = RunConfig.model_validate({**values, "training": {"iterations": 12}})
    return SelfTraining(config, folder, Volumes(), torch.device("cpu"), lambda config: None)


def _certain(label: int, confidence: float = 1.0) -> np.ndarray:
    each = np.where(np.arange(4) == label, confidence, (1 - confidence) / 3)
    return each.reshape(1, 4, 1, 1) * np.ones((2, 1, 16, 16))


class Bright:
    """A class for each third of the intensities, and a record of the sizes that were seen."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def pseudo_probabilities(self, images: Tensor, tags: Tensor, step: int) -> Tensor:
        self.seen.append((*images.shape, step))
        return torch.cat((images, images.square(), 1 - images), 1).softmax(1)


def test_probabilities_are_averaged_over_scales_of_sixteen_pixels() -> None:
    """36 x 44 pixels are seen as 32 x 48; enlarged by a half they are 54 x 66, seen as 48 x 64."""
    volume, method = torch.rand(3, 1, 36, 44, generator=torch.Generator().manual_seed(0)), Bright()
    found = _averaged(method, volume, torch.ones(3, 3), 7, [1.0, 1.5])
    assert method.seen == [(3, 1, 32, 48, 7), (3, 1, 48, 64, 7)]
    expected = torch.zeros(3, 3, 36, 44)
    for size in ((32, 48), (48, 64)):
        view = F.interpolate(volume, size, mode="bilinear")
        chances = torch.cat((view, view.square(), 1 - view), 1).softmax(1)
        expected += F.interpolate(chances, (36, 44), mode="bilinear") / 2
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_a_prior_sees_the_first_channel_and_the_tags_of_its_own_classes(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    swapped = ClassMap(np.array([0, 3, 2, 1], np.uint8), np.zeros(3, bool), 3)
    found: list[PriorVolume] = plan._prior_volumes(swapped)
    for index, one in enumerate(found):
        np.testing.assert_array_equal(one.images, plan.slices.images[index, :, 0].numpy())
        np.testing.assert_array_equal(one.tags, plan.slices.tags[2 * index : 2 * index + 2, ::-1])
    assert [one.tags for one in _plan(tmp_path, use_tags=False)._prior_volumes(swapped)] == [None, None]


@pytest.mark.parametrize(("weight", "label"), [(0.2, 2), (0.8, 1), (0.5, None)])
def test_two_priors_are_averaged_with_their_weights(
    weight: float, label: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One says the first class, the other the second; four fifths of a vote are sure, a half is not."""
    plan = _plan(tmp_path, confidence=0.7, use_tags=False)
    said = {"one": 1, "other": 2}
    plan._priors = [SimpleNamespace(name="one", weight=weight), SimpleNamespace(name="other", weight=None)]
    monkeypatch.setattr(plan, "_prior_probabilities", lambda prior, _: iter([_certain(said[prior.name])] * 2))
    scores = plan._first_labels(None)
    assert len(scores) == 4 and scores[:, 1:].max() == (128 if label is None else 255)
    assert label is None or (scores[:, label] == 255).all()


def test_the_walk_knows_the_tags_and_the_images_of_its_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, handed = _plan(tmp_path, walker={"beta": 30.0}), []
    monkeypatch.setattr(self_training, "walked", lambda *given: handed.append(given) or given[0])
    monkeypatch.setattr(plan, "_probabilities", lambda method, step: iter([_certain(1), _certain(3)]))
    plan._network_labels(None, 1, None)
    for index, (probabilities, tags, images, settings) in enumerate(handed):
        assert probabilities[0, 3 if index else 1].min() == 1 and settings.beta == 30.0
        np.testing.assert_array_equal(tags, plan.slices.tags[2 * index : 2 * index + 2])
        np.testing.assert_array_equal(images, plan.slices.images[index].numpy())


@pytest.mark.parametrize("alone", [False, True])
def test_where_two_must_agree_shapes_and_confidence_hold_for_the_network_alone(alone: bool, tmp_path: Path) -> None:
    """The second volume has completed labels nowhere, or none at all."""
    plan = _plan(tmp_path, trust="agreement", use_tags=False, one_object=True, confidence=0.8)
    agreed, unknown = np.full((2, 16, 16), 3, np.uint8), np.full((2, 16, 16), IGNORE, np.uint8)
    plan._completed = {"0": agreed} if alone else {"0": agreed, "1": unknown}
    two = np.zeros((2, 16, 16), int)
    two[:, :8, :8], two[:, 12:15, 12:15] = 1, 1
    pieces = np.moveaxis(np.eye(4)[two] * 0.9 + 0.025, 3, 1)
    plan._probabilities = lambda method, step: iter([_certain(3, 0.5), pieces])
    scores = plan._network_labels(None, 1, None)
    assert (scores[:2, 3] == 255).all()  # both say so, whatever the confidence
    assert (scores[2:, 1, :8, :8] == 255).all() and (scores[2:, 1, 12:15, 12:15] == 128).all()


def test_the_maps_of_a_later_round_are_those_before_the_decoder_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    for source in ("prediction", "maps"):
        plan = _plan(tmp_path, source=source, rounds=2)
        monkeypatch.setattr(plan, "_probabilities", lambda _, step: steps.append(step) or iter([_certain(1)] * 2))
        plan._network_labels(None, 1, None)
    assert steps == [6, 0]


def test_regions_are_learned_from_the_maps_of_training_and_added_before_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation slices are labelled by what the training slices' tags tell, not by what their own do."""
    events: list[tuple[object, ...]] = []

    class Regions:
        def __init__(self, settings: object, labels: tuple[int, ...], seed: int) -> None:
            events.append(("made", labels, seed))

        def fit(self, volumes: Iterator[tuple[np.ndarray, ...]]) -> None:
            events.append(("fit", [(p[0, :, 0, 0].argmax(), t.tolist(), i.shape) for p, t, i in volumes]))

        def added(self, probabilities: np.ndarray, tags: np.ndarray, images: np.ndarray) -> np.ndarray:
            events.append(("added", tags.tolist(), images.shape))
            return _certain(2)

    monkeypatch.setattr(self_training, "ProposedRegions", Regions)
    monkeypatch.setattr(self_training, "walked", lambda p, *_: events.append(("walked", p[0, :, 0, 0].argmax())) or p)
    values = {"data": {"grid": {"size": [16, 16]}}, "training": {"iterations": 12}, "seed": 5}
    prior = {"rounds": 2, "proposals": {"classes": ["lv", "RV"]}, "walker": {}, "source": "maps"}
    config = RunConfig.model_validate({**values, "prior": {"names": [], **prior}})
    plan = SelfTraining(
        config, tmp_path, Volumes(), torch.device("cpu"), lambda config: None, validation=Volumes(), name="round"
    )
    for one in (plan, plan._alongside):
        monkeypatch.setattr(one, "_probabilities", lambda method, step: iter([_certain(1), _certain(3)]))
    plan._write_further(1, None)
    tags, shape = plan.slices.tags.tolist(), (2, 2, 16, 16)
    both = [(1, tags[:2], shape), (3, tags[2:], shape)]
    assert events[:2] == [("made", (1, 3), 5), ("fit", both)]
    labelled = [("added", tags[:2], shape), ("walked", 2), ("added", tags[2:], shape), ("walked", 2)]
    assert events[2:] == labelled * 2  # validation slices, then those of training
    for name in ("round_2.npy", "validation_round_2.npy"):
        sure = (np.load(plan.labels_dir / name)[:, 2] == 255).all((1, 2))
        assert sure.tolist() == [True, False, False, True]  # where its tag does not forbid the class


def test_mixed_slices_are_not_those_that_the_teacher_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most two thousand of them are mixed in, however many the teacher has."""
    drawn: list[tuple[int, int]] = []

    def draw(prior: object, config: RunConfig, count: int, seed: int) -> SyntheticSlices:
        drawn.append((count, seed))
        return SyntheticSlices(np.zeros((2, 16, 16), np.uint8), np.zeros((2, 16, 16), np.uint8), 3)

    class Stopped(Exception):
        pass

    def build(config: RunConfig) -> Method:
        raise Stopped

    monkeypatch.setattr(self_training, "draw_slices", draw)
    for count in (300, 3000):
        phantom = {"slices": count, "iterations": 2, "batch_size": 2}
        values = {"prior": {"names": ["phantom"], "synthetic_share": 0.3, "phantom": phantom}, "seed": 5}
        plan = SelfTraining(RunConfig.model_validate(values), tmp_path, Volumes(), torch.device("cpu"), build)
        with pytest.raises(Stopped):
            plan._teacher(plan._teaching)
    assert [count for count, _ in drawn] == [300, 300, 2000, 3000]
    assert drawn[0][1] == 5 and drawn[0][1] != drawn[1][1]
