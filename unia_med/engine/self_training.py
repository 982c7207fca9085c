"""Anatomical priors and self-training rounds of one run.

Round 1: with a prior, it labels the tagged training slices (`phantom`: a teacher trained on synthetic hearts, whose
weights also start the run; `ring`: by contrast and geometry; both: their mean). Rounds 2, 3, ...: the run's own
averaged network labels them anew; with `prior.trust: agreement` completed weak labels count from then on only where
the network agrees. Tags remove what is not in a slice; masks are never read. Every labelling is written before it is
used, so that a run killed at any moment resumes with the same labels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch.nn import functional as F

from unia_med import distributed
from unia_med.cardiac.phantom.prior import PhantomSlices
from unia_med.cardiac.ring import RingPrior, RingSettings
from unia_med.config.load import plain
from unia_med.config.schema import RunConfig
from unia_med.data.sample import CaseFiles
from unia_med.data.slices.dataset import SliceDataset
from unia_med.data.slices.mixed import MixedSlices
from unia_med.engine.trainer import Trainer
from unia_med.files import write_atomically
from unia_med.labels import TAG_UNKNOWN
from unia_med.methods.base import Method
from unia_med.priors.pseudo_labels import agreed_scores, pseudo_scores, walked
from unia_med.run_files import RunFiles

_LOG = logging.getLogger(__name__)
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
    """

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        slices: SliceDataset,
        device: torch.device,
        build: Callable[[RunConfig], Method],
        annotations: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.config, self.prior, self.device, self._build = config, config.prior, device, build
        self.run_dir, self.labels_dir = run_dir, RunFiles(run_dir).labels
        self.slices = slices
        self._completed, self._annotations = slices.labels, annotations
        self.dataset: SliceDataset | MixedSlices = slices
        if "phantom" in self.prior.names and self.prior.synthetic_share > 0:
            count = min(_MIXED_SLICES, self.prior.phantom.slices)
            extra = PhantomSlices(self.prior.phantom, config.data.grid, config.seed, count)
            self.dataset = MixedSlices(slices, extra, self.prior.synthetic_share)

    @property
    def boundaries(self) -> dict[int, Callable[[Method], None]]:
        """For each step at which a new round begins, the function that labels the slices with the averaged method."""
        return {self._start(index): self._relabeller(index) for index in range(1, self.prior.rounds)}

    def before_training(self, method: Method) -> None:
        """Train the teacher where one is asked for, gives its weights to `method`, and labels round 1."""
        teacher = self._teacher() if "phantom" in self.prior.names else None
        if teacher is not None:
            method.load_state_dict(teacher.state_dict())
        if self.prior.names and distributed.is_main() and not self._file(0).exists():
            self._write(0, self._first_labels(teacher))
        distributed.barrier()
        self.restore(0)

    def restore(self, step: int) -> None:
        """Give the data set the labels that hold from `step` on."""
        index = max(i for i in range(self.prior.rounds) if self._start(i) <= step)
        labelled = index > 0 or bool(self.prior.names)
        self.slices.set_scores(np.load(self._file(index), mmap_mode="r") if labelled else None)
        if self.prior.trust == "agreement":
            self.slices.set_labels(self._annotations if index else self._completed)

    def _start(self, index: int) -> int:
        return self.config.training.iterations * index // self.prior.rounds

    def _file(self, index: int) -> Path:
        return self.labels_dir / f"round_{index + 1}.npy"

    def _relabeller(self, index: int) -> Callable[[Method], None]:
        def relabel(method: Method) -> None:
            _LOG.info("round %d: the network labels the training slices", index + 1)
            self._write(index, self._network_labels(method, self._start(index)))
            self.restore(self._start(index))

        return relabel

    def _write(self, index: int, scores: np.ndarray) -> None:
        self.labels_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(index), lambda file: np.save(file, scores))

    def _teacher(self) -> Method:
        """Return a method trained on synthetic slices alone; work found in `prior/` is used or continued."""
        settings, config = self.prior.phantom, self.config
        training = config.training.model_copy(
            update={
                "iterations": settings.iterations,
                "batch_size": settings.batch_size,
                "learning_rate": settings.learning_rate,
            }
        )
        config = config.model_copy(update={"training": training})
        seed = config.seed + _TEACHER_SEED
        bank = PhantomSlices(settings, config.data.grid, seed)
        method = self._build(config)
        method.expect_exact_labels()
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
        ring = self._ring_probabilities() if "ring" in self.prior.names else None
        if teacher is None:
            return self._scores(ring)
        learned = self._probabilities(teacher, self.config.training.iterations)
        if ring is None:
            return self._scores(learned)
        share = self.prior.ring.weight
        return self._scores((1 - share) * a + share * b for a, b in zip(learned, ring, strict=True))

    def _network_labels(self, method: Method, step: int) -> np.ndarray:
        probabilities = self._probabilities(method, 0 if self.prior.source == "maps" else step)
        if self.prior.walker is not None:
            probabilities = self._walked(probabilities)
        if self.prior.trust == "network":
            return self._scores(probabilities)
        cases = (case.name for case, _ in self.slices.volumes())
        completed = (None if self._completed is None else self._completed.get(case) for case in cases)
        parts = zip(probabilities, self._tags(), completed, strict=True)
        return np.concatenate([agreed_scores(p, t, c, self.prior.confidence) for p, t, c in parts])

    def _scores(self, probabilities: Iterator[np.ndarray]) -> np.ndarray:
        tags = self._tags()
        return np.concatenate(
            [pseudo_scores(p, t, self.prior.confidence) for p, t in zip(probabilities, tags, strict=True)]
        )

    def _tags(self) -> Iterator[np.ndarray | None]:
        for case, _ in self.slices.volumes():
            yield self.slices.tags[self.slices.rows(case.name)] if self.prior.use_tags else None

    def _probabilities(self, method: Method, step: int) -> Iterator[np.ndarray]:
        """Class probabilities (Z, K, H, W) of each training volume, averaged over `prior.scales` and smoothed."""
        method = method.to(self.device).eval()
        for (_, volume), tags in zip(self.slices.volumes(), self._tags(), strict=True):
            classes = len(self.config.data.target_classes)
            known = np.full((len(volume), classes), TAG_UNKNOWN, np.int8) if tags is None else tags
            known = torch.from_numpy(known).to(self.device)
            found = _averaged(method, volume.to(self.device), known, step, self.prior.scales)
            sigma = self.prior.slice_smoothing
            yield gaussian_filter1d(found, sigma, axis=0, mode="nearest") if sigma > 0 else found

    def _walked(self, probabilities: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        parts = zip(probabilities, self.slices.volumes(), self._tags(), strict=True)
        for found, (_, volume), tags in parts:
            yield walked(found, tags, volume.float().numpy(), self.prior.walker)

    def _ring_probabilities(self) -> Iterator[np.ndarray]:
        """Return the ring's scores of each training volume; all of them vote on its RV direction, without masks."""
        settings = RingSettings(spacing_mm=self.config.data.grid.spacing_mm or RingSettings.spacing_mm)
        found = [(case, volume[:, 0].float().numpy()) for case, volume in self.slices.volumes()]
        ring = RingPrior(settings).fit(volume for _, volume in found)
        for (case, volume), tags in zip(found, self._tags(), strict=True):
            partner = _other_phase(case, volume, found) if self.prior.ring.motion else None
            yield ring.scores(volume, tags, partner=partner)


def _other_phase(case: CaseFiles, volume: np.ndarray, found: list[tuple[CaseFiles, np.ndarray]]) -> np.ndarray | None:
    """Return the volume of the same patient at the other phase, or None where there is none of the same shape."""
    others = (v for other, v in found if other.patient == case.patient and other.name != case.name)
    return next((other for other in others if other.shape == volume.shape), None)


@torch.inference_mode()
def _averaged(method: Method, volume: torch.Tensor, tags: torch.Tensor, step: int, scales: list[float]) -> np.ndarray:
    """Mean probabilities (Z, K, H, W) over image scales; enlarged sizes are rounded to multiples of 16."""
    size = tuple(volume.shape[-2:])
    total = 0
    for scale in scales:
        target = tuple(max(16, round(side * scale / 16) * 16) for side in size)
        scaled = volume.float()
        if target != size:
            scaled = F.interpolate(scaled, size=target, mode="bilinear", align_corners=False)
        batches = zip(scaled.split(_SLICES_AT_ONCE), tags.split(_SLICES_AT_ONCE), strict=True)
        parts = [method.pseudo_probabilities(images, known, step) for images, known in batches]
        total = total + F.interpolate(torch.cat(parts), size=size, mode="bilinear", align_corners=False)
    return (total / len(scales)).cpu().numpy()
