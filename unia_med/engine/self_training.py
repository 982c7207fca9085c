"""Anatomical priors and self-training rounds of one run.

Round 1: with priors, the mean of their scores labels the tagged training slices: those of a teacher trained on a
prior's synthetic slices, whose weights also start the run, and those of priors that label volumes themselves. Rounds
2, 3, ...: the run's own averaged network labels the slices again; with `prior.trust: agreement` completed weak labels
count from then on only where the network agrees. Tags remove what is not in a slice; masks are never read. Every
labelling is written before it is used, so that a run killed at any moment resumes with the same labels.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch.nn import functional as F

from unia_med import distributed
from unia_med.config.load import plain
from unia_med.config.prior import ProposalsConfig, WalkerConfig, labels_named, prior_type
from unia_med.config.schema import RunConfig
from unia_med.config.teacher import TeacherConfig
from unia_med.data.io.arrays import read_array, write_array
from unia_med.data.slices.dataset import SliceDataset
from unia_med.data.slices.mixed import MixedSlices
from unia_med.engine.synthetic import draw_slices
from unia_med.engine.trainer import Trainer
from unia_med.errors import UserError
from unia_med.labels import TAG_UNKNOWN
from unia_med.methods.base import Method
from unia_med.priors.base import Prior, PriorVolume, ScoringPrior, TeachingPrior, shares
from unia_med.priors.classes import ClassMap
from unia_med.priors.proposed_regions import ProposedRegions
from unia_med.priors.pseudo_labels import Confidence, ShapeRules, agreed_scores, pseudo_scores, walked
from unia_med.progress import tracked
from unia_med.run_files import RunFiles

_LOG = logging.getLogger(__name__)
_Parts = TypeVar("_Parts")
_TEACHER_SEED = 101  # keeps the teacher's slices apart from those mixed into the run
_MIXED_SLICES = 2000
_SLICES_AT_ONCE = 32


class SelfTraining:
    """The plan of a run with priors: what happens before training, and at the boundaries of its rounds.

    Args:
        config: The whole run.
        run_dir: The run folder; the teacher trains in `prior/`, labels lie in `labels/`.
        slices: The tagged training slices (`SliceDataset`).
        device: Where networks run.
        build: Makes a method from a configuration.
        annotations: The weak labels as drawn, by case name; needed where `prior.trust` is `agreement`, in whose later
            rounds they take the place of the completed labels that `slices` holds.
        validation: Tagged slices that are labelled alongside, so that the validation table shows how good the labels
            are from which training learns; they train nothing.
        name: Of the files of this plan's labels.
    """

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        slices: SliceDataset,
        device: torch.device,
        build: Callable[[RunConfig], Method],
        annotations: Mapping[str, np.ndarray] | None = None,
        validation: SliceDataset | None = None,
        name: str = "round",
    ) -> None:
        self._name, self._alongside = name, None
        if validation is not None:
            alone = config.model_copy(update={"prior": config.prior.model_copy(update={"synthetic_share": 0.0})})
            self._alongside = SelfTraining(alone, run_dir, validation, device, build, name=f"validation_{name}")
        self.config, self.prior, self.device, self._build = config, config.prior, device, build
        self.run_dir, self.labels_dir = run_dir, RunFiles(run_dir).labels
        self.slices = slices
        self._completed, self._annotations = slices.labels, annotations
        self._confidence = Confidence(self.prior.confidence, self.prior.background_confidence)
        self._rules = ShapeRules(self.prior.one_object, labels_named(self.prior.one_piece, config.data))
        self._priors = [prior_type(name)(self.prior.settings_of(name)) for name in self.prior.names]
        self._teaching = next((prior for prior in self._priors if isinstance(prior, TeachingPrior)), None)
        self.dataset: SliceDataset | MixedSlices = slices
        if self._teaching is not None and self.prior.synthetic_share > 0:
            count = min(_MIXED_SLICES, self._teaching.settings.slices)
            extra = draw_slices(self._teaching, config, count, config.seed)
            self.dataset = MixedSlices(slices, extra, self.prior.synthetic_share)

    @property
    def boundaries(self) -> dict[int, Callable[[Method], None]]:
        """For each step at which a new round begins, the function that labels the slices with the averaged method."""
        return {self._start(index): self._relabeller(index) for index in range(1, self._rounds)}

    def before_training(self, method: Method) -> None:
        """Give `method` the weights of the teacher where there is one, and label round 1.

        A run that starts from another model (`training.start_from`) has its teacher in that; none is trained.
        """
        teacher = None
        if self._teaching is not None and self.config.training.start_from is not None:
            teacher = copy.deepcopy(method)
        elif self._teaching is not None:
            teacher = self._teacher(self._teaching)
            method.load_state_dict(teacher.state_dict())
        if self._priors and distributed.is_main() and not self._file(0).exists():
            self._write_first(teacher)
        distributed.barrier()
        self.restore(0)

    def restore(self, step: int) -> None:
        """Give the data set the labels that hold from `step` on."""
        index = max(i for i in range(self._rounds) if self._start(i) <= step)
        labelled = index > 0 or bool(self._priors)
        if self._alongside is not None:
            self._alongside.restore(step)
        elif self._name != "round" and not self._file(index).exists():
            labelled = False  # a run that began without labelled validation slices goes on without them
        self.slices.set_scores(_read_scores(self._file(index)) if labelled else None)
        if self.prior.trust == "agreement":
            self.slices.set_labels(self._annotations if index else self._completed)

    @property
    def _rounds(self) -> int:
        """How many rounds there are: each has at least one step."""
        return min(self.prior.rounds, self.config.training.iterations)

    def _start(self, index: int) -> int:
        return self.config.training.iterations * index // self._rounds

    def _file(self, index: int) -> Path:
        return self.labels_dir / f"{self._name}_{index + 1}.npy"

    def _relabeller(self, index: int) -> Callable[[Method], None]:
        def relabel(method: Method) -> None:
            _LOG.info("round %d: the network labels the training slices", index + 1)
            self._write_further(index, method)
            self.restore(self._start(index))

        return relabel

    def _write_first(self, teacher: Method | None) -> None:
        if self._alongside is not None:
            self._alongside._write_first(teacher)
        write_array(self._file(0), self._first_labels(teacher))

    def _write_further(self, index: int, method: Method, regions: ProposedRegions | None = None) -> None:
        if self.prior.proposals is not None and regions is None:
            regions = self._fitted_regions(self.prior.proposals, method, index)
        if self._alongside is not None:
            self._alongside._write_further(index, method, regions)
        write_array(self._file(index), self._network_labels(method, index, regions))

    def _class_map(self, prior: Prior[Any]) -> ClassMap:
        return ClassMap.between(prior.classes, self.config.data)

    def _teacher(self, prior: TeachingPrior[TeacherConfig]) -> Method:
        """Return a method trained on synthetic slices alone; weights found in `prior/` are used or continued."""
        settings, config = prior.settings, self.config
        training = config.training.model_copy(
            update={
                "iterations": settings.iterations,
                "batch_size": settings.batch_size,
                "learning_rate": settings.learning_rate,
            }
        )
        config = config.model_copy(update={"training": training})
        seed = config.seed + _TEACHER_SEED
        bank = draw_slices(prior, config, settings.slices, seed)
        method = self._build(config)
        _LOG.info("teacher: %d synthetic slices, %d iterations", len(bank), settings.iterations)
        trainer = Trainer(
            method,
            bank,
            training,
            config.augment,
            RunFiles(self.run_dir).prior,
            self.device,
            seed,
            metadata={"config": plain(config), "classes": list(config.data.target_classes)},
            title="teacher",
        )
        trainer.run()
        return trainer.ema_method

    def _first_labels(self, teacher: Method | None) -> np.ndarray:
        found = [self._prior_probabilities(prior, teacher) for prior in self._priors]
        if len(found) == 1:
            return self._scores(found[0])
        parts = shares(self._priors)
        weighted = (zip(parts, volume, strict=True) for volume in zip(*found, strict=True))
        return self._scores(np.sum([share * one for share, one in volume], 0) for volume in weighted)

    def _prior_probabilities(self, prior: Prior[Any], teacher: Method | None) -> Iterator[np.ndarray]:
        """Probabilities (Z, K, H, W) of the run's classes for each training volume, as one prior gives them."""
        if isinstance(prior, ScoringPrior):
            classes = self._class_map(prior)
            found = prior.scores(self._prior_volumes(classes), self.config.data.grid)
            return (classes.scores(scores) for scores in found)
        assert teacher is not None
        return self._probabilities(teacher, self.config.training.iterations)

    def _prior_volumes(self, classes: ClassMap) -> list[PriorVolume]:
        parts = zip(self.slices.volumes(), self._tags(), strict=True)
        known = ((case, volume[:, 0].float().numpy(), tags) for (case, volume), tags in parts)
        return [PriorVolume(case, images, None if tags is None else classes.tags(tags)) for case, images, tags in known]

    def _found(self, method: Method, index: int) -> Iterator[np.ndarray]:
        """Probabilities (Z, K, H, W) of each training volume, from what `prior.source` names."""
        return self._probabilities(method, 0 if self.prior.source == "maps" else self._start(index))

    def _fitted_regions(self, settings: ProposalsConfig, method: Method, index: int) -> ProposedRegions:
        """Return what the tags of the training slices tell of the regions beside the object."""
        regions = ProposedRegions(settings, labels_named(settings.classes, self.config.data), self.config.seed)
        regions.fit(self._with_images(self._found(method, index)))
        return regions

    def _with_images(self, probabilities: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Probabilities, tags and images of each training volume, for proposals."""
        for found, (_, volume), tags in zip(probabilities, self.slices.volumes(), self._tags(), strict=True):
            assert tags is not None  # `prior.proposals` needs `prior.use_tags`
            yield found, tags, volume.float().numpy()

    def _network_labels(self, method: Method, index: int, regions: ProposedRegions | None) -> np.ndarray:
        probabilities = self._found(method, index)
        if regions is not None:
            probabilities = (regions.added(*parts) for parts in self._with_images(probabilities))
        if self.prior.walker is not None:
            probabilities = self._walked(probabilities, self.prior.walker)
        if self.prior.trust == "network":
            return self._scores(probabilities)
        cases = (case.name for case, _ in self.slices.volumes())
        completed = (None if self._completed is None else self._completed.get(case) for case in cases)
        parts = self._labelling(zip(probabilities, self._tags(), completed, strict=True))
        return np.concatenate([agreed_scores(p, t, c, self._confidence, self._rules) for p, t, c in parts])

    def _scores(self, probabilities: Iterable[np.ndarray]) -> np.ndarray:
        parts = self._labelling(zip(probabilities, self._tags(), strict=True))
        return np.concatenate([pseudo_scores(p, t, self._confidence, self._rules) for p, t in parts])

    def _labelling(self, volumes: Iterable[_Parts]) -> Iterator[_Parts]:
        return tracked(volumes, "labelling", self.slices.volume_count)

    def _tags(self) -> Iterator[np.ndarray | None]:
        for case, _ in self.slices.volumes():
            yield self.slices.tags[self.slices.rows(case.name)] if self.prior.use_tags else None

    def _probabilities(self, method: Method, step: int) -> Iterator[np.ndarray]:
        """Class probabilities (Z, K, H, W) of each training volume, averaged over `prior.scales` and smoothed."""
        method = method.to(self.device).eval()
        volumes = zip(self.slices.volumes(), self._tags(), strict=True)
        for (_, volume), tags in volumes:
            classes = len(self.config.data.target_classes)
            known = torch.from_numpy(np.full((len(volume), classes), TAG_UNKNOWN, np.int8) if tags is None else tags)
            known = known.to(self.device)
            found = _averaged(method, volume.to(self.device), known, step, self.prior.scales)
            sigma = self.prior.slice_smoothing
            yield gaussian_filter1d(found, sigma, axis=0, mode="nearest") if sigma > 0 else found

    def _walked(self, probabilities: Iterable[np.ndarray], settings: WalkerConfig) -> Iterator[np.ndarray]:
        parts = zip(probabilities, self.slices.volumes(), self._tags(), strict=True)
        for found, (_, volume), tags in parts:
            yield walked(found, tags, volume.float().numpy(), settings)


@torch.inference_mode()
def _averaged(method: Method, volume: torch.Tensor, tags: torch.Tensor, step: int, scales: list[float]) -> np.ndarray:
    """Mean probabilities (Z, K, H, W) over image scales; enlarged sizes are rounded to multiples of 16."""
    size = tuple(volume.shape[-2:])
    total = volume.new_zeros(())
    for scale in scales:
        target = tuple(max(16, round(side * scale / 16) * 16) for side in size)
        scaled = volume.float()
        if target != size:
            scaled = F.interpolate(scaled, size=target, mode="bilinear", align_corners=False)
        batches = zip(scaled.split(_SLICES_AT_ONCE), tags.split(_SLICES_AT_ONCE), strict=True)
        parts = [method.pseudo_probabilities(images, known, step) for images, known in batches]
        total = total + F.interpolate(torch.cat(parts), size=size, mode="bilinear", align_corners=False)
    return (total / len(scales)).cpu().numpy()


def _read_scores(path: Path) -> np.ndarray:
    """Return the soft labels of a round, mapped from the disk, as they were written."""
    try:
        return read_array(path, signed=False)
    except (OSError, ValueError) as error:
        what = f"the labels of this round are damaged ({str(error).splitlines()[0]})"
        remedy = "The run cannot go on without them; train again with another --output"
        raise UserError(what, path, remedy) from error
