"""Validation during training: Dice of whole volumes or pictures, and a table that shows label quality apart from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from unia_med import distributed
from unia_med.config.schema import RunConfig, TagsConfig
from unia_med.data.dataset import CaseDataset
from unia_med.data.grid.transforms import place_labels
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.volume import Volume
from unia_med.data.sample import CaseFiles
from unia_med.data.slices.dataset import build_slices
from unia_med.data.weak_labels.tags import group_labels
from unia_med.engine.voxels import Kept, Voxels, draw_voxels, voxels_per_case
from unia_med.evaluation.images import SetAccumulator
from unia_med.evaluation.volumes import CaseAccumulator, column_means
from unia_med.inference.predictor import Predictor
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch, Method
from unia_med.metrics.confusion import METRICS
from unia_med.progress import tracked

if TYPE_CHECKING:
    from unia_med.data.slices.dataset import SliceDataset

_LOG = logging.getLogger(__name__)
_Scored = tuple[CaseFiles, np.ndarray, np.ndarray]  # a case, predicted and true labels


class Validation:
    """Score a method on the validation cases, case by case, or over all pixels together where these are the unit.

    Dice of volumes is the mean over cases. Of pictures, in which classes are rare, pixels of all are counted together:
    Dice of a class is then 2 IoU / (1 + IoU) of the whole set, and the mean IoU, precision, recall and confusion ratio,
    background included, are scored next to it (`val_miou`, `val_mprecision`, `val_mrecall`, `val_mconfusion`).

    Volumes are predicted from the images alone. The table's label columns (CAM, affinity, fused, ...) use the slices'
    tags, as training does; it shows how good the labels are, not how good the method is (UniA specification, 20).

    Args:
        config: The run.
        dataset: Reads the cases.
        cases: Validation cases; those without a mask are left out.
        device: Where to predict.

    Attributes:
        kept: Voxels of the predictions for which a temperature may be fitted: the last ones, or the best so far.
    """

    def __init__(
        self, config: RunConfig, dataset: CaseDataset, cases: Sequence[CaseFiles], device: torch.device
    ) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        self.cases = [case for case in cases if case.mask is not None]
        self.classes = config.data.target_classes
        self._slices: SliceDataset | None = None
        self.kept: Kept | None = None
        self._best = -math.inf

    def prepare(self) -> None:
        """Read images and masks now, so that their faults are reported before training and not hours later.

        Raises:
            UserError: Lists every image and mask that cannot be used.
        """
        if self.cases:
            self._tagged_slices()

    def __call__(self, method: Method, step: int) -> dict[str, float]:
        """Mean Dice by class (`val_dice_RV`, ...), over classes (`val_dice`) and of the label columns."""
        if not self.cases:
            return {}
        method.eval()
        drawn: list[Voxels] | None = [] if self._may_calibrate(step) else None
        found = self._predictions(method, drawn)
        volumes, whole = self._set_scores(found) if self._in_pixels else (self._case_scores(found), {})
        columns = self._label_scores(method)
        if distributed.is_main():
            _LOG.info("validation at step %d\n%s", step, self._table(volumes, columns))
        scores = {f"val_dice_{name}": value for name, value in volumes.items()}
        known = [value for value in volumes.values() if not np.isnan(value)]
        scores["val_dice"] = float(np.mean(known)) if known else float("nan")
        self._keep(drawn, scores["val_dice"], step)
        for column, values in columns.items():
            scores[f"label_dice_{column.replace(' ', '_')}"] = column_means(np.array([values]).T)[0]
        if whole and distributed.is_main():
            listed = ", ".join(f"{name.removeprefix('val_')} {value:.4f}" for name, value in whole.items())
            _LOG.info("whole images at step %d: %s", step, listed)
        return {**scores, **whole}

    @property
    def _in_pixels(self) -> bool:
        return self.config.data.grid.units == "pixels"

    def _may_calibrate(self, step: int) -> bool:
        """Whether these predictions may be those of the checkpoint for which a temperature is fitted."""
        training = self.config.training
        last = training.keep_best_by == "dice" or step == training.iterations
        return last and self.config.inference.temperature in (None, 1.0)

    def _keep(self, drawn: list[Voxels] | None, dice: float, step: int) -> None:
        if drawn is not None and (self.config.training.keep_best_by != "dice" or dice > self._best):
            self.kept, self._best = Kept(step, drawn), dice

    def _case_scores(self, found: Iterable[_Scored]) -> dict[str, float]:
        cases = CaseAccumulator(self.classes, distances=False)
        for case, predicted, true in found:
            cases.add(case.name, predicted, true, (1.0,) * true.ndim)
        together = CaseAccumulator(self.classes, distances=False)
        together.extend(distributed.gather(cases.cases))
        return together.means()

    def _set_scores(self, found: Iterable[_Scored]) -> tuple[dict[str, float], dict[str, float]]:
        """Return Dice by class, and the means of the other scores."""
        counted = SetAccumulator(len(self.classes))
        for _, predicted, true in found:
            counted.add(predicted, true)
        together = SetAccumulator(len(self.classes))
        for counts in distributed.gather([counted.counts]):
            together.extend(counts)
        all_scores = together.scores()
        values = [_number(iou) for iou in all_scores.iou[1:]]
        by_class = {name: 2 * iou / (1 + iou) for name, iou in zip(self.classes, values, strict=True)}
        return by_class, {f"val_m{metric}": _number(all_scores.mean(metric)) for metric in METRICS}

    def _predictions(self, method: Method, drawn: list[Voxels] | None) -> Iterator[_Scored]:
        """Yield this process's cases with predicted and true labels (X, Y, Z); draw voxels of each where asked to."""
        predictor = Predictor(method, self.config, self.device)
        mine = distributed.share(self.cases)
        for case in tracked(mine, "validating", len(mine), quiet=not distributed.is_main()):
            found = self.dataset.evaluation_case(case)
            truth, volume = self._grouped(found.labels), found.volume
            if drawn is None:
                yield case, predictor.predict_volume(volume).labels, truth
                continue
            count, detail = voxels_per_case(len(self.cases)), predictor.predict_in_detail(volume)
            where = (volume.spacing_mm, count, self.config.seed)
            drawn.append(draw_voxels(truth, detail.raw, detail.probabilities, *where))
            yield case, detail.labels, truth

    def _grouped(self, labels: np.ndarray) -> np.ndarray:
        groups = self.config.data.groups
        return group_labels(labels, self.config.data.classes, groups) if groups else labels

    @torch.no_grad()  # not inference_mode: what a method caches here must stay usable in training
    def _label_scores(self, method: Method) -> dict[str, list[float]]:
        """Dice per class of each label column, over all slices of all cases together, on the network's grid."""
        slices = self._tagged_slices()
        mine = distributed.share(self.cases)
        shown = tracked(mine, "validating labels", len(mine), quiet=not distributed.is_main())
        rows = distributed.gather([self._case_counts(method, slices, case) for case in shown])
        names = list(dict.fromkeys(name for row in rows for name in row))
        totals = {name: np.sum([row[name] for row in rows if name in row], 0) for name in names}
        return {name: [2 * a / b if b else float("nan") for a, b in total] for name, total in totals.items()}

    def _case_counts(self, method: Method, slices: SliceDataset, case: CaseFiles) -> dict[str, np.ndarray]:
        """Per label column (T, 2): intersection and sum of sizes of each class in one case."""
        rows = slices.rows(case.name)
        volume = torch.stack([slices[index]["image"] for index in range(rows.start, rows.stop)]).float()
        tags, truth = slices.tags[rows], self._truth(case)
        scores = None if slices.scores is None else slices.scores[rows]
        counts: dict[str, np.ndarray] = {}
        for start in range(0, len(volume), self.config.inference.batch_slices):
            part = slice(start, start + self.config.inference.batch_slices)
            given = None if scores is None else torch.from_numpy(scores[part].astype(np.float32) / 255)
            batch = Batch(volume[part], torch.from_numpy(tags[part]), scores=given).to(self.device)
            for name, labels in method.label_maps(batch).items():
                found = _counts(labels.cpu().numpy(), truth[part], len(self.classes))
                counts[name] = counts.get(name, 0) + found
        return counts

    @property
    def slices(self) -> SliceDataset | None:
        """Tagged slices of the validation cases, for labels as in training; None where there is no mask to compare."""
        return self._tagged_slices() if self.cases else None

    def _tagged_slices(self) -> SliceDataset:
        if self._slices is None:
            # These cases all have masks, whatever the tags of the training cases are made from.
            data = self.config.data.model_copy(update={"tags": TagsConfig(source="masks"), "cache": "memory"})
            self._slices = build_slices(self.dataset, self.cases, data)
        return self._slices

    def _truth(self, case: CaseFiles) -> np.ndarray:
        affine = ChannelFiles.of(self.config.data).header(case.image).affine
        return place_labels(Volume(self._grouped(self.dataset.labels(case)), affine), self.config.data.grid)

    def _table(self, volumes: dict[str, float], columns: dict[str, list[float]]) -> str:
        header = f"{'class':<10}{'volume':>12}" + "".join(f"{name:>12}" for name in columns)
        lines = [header]
        for index, name in enumerate(self.classes):
            cells = [volumes[name], *(values[index] for values in columns.values())]
            lines.append(f"{name:<10}" + "".join(f"{value:>12.3f}" for value in cells))
        return "\n".join(lines)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _counts(labels: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(T, 2): intersection and sum of sizes per class, over known pixels; an abstaining label covers none."""
    known = truth != IGNORE
    rows = []
    for label in range(1, classes + 1):
        found, real = (labels == label) & known, truth == label
        rows.append((int((found & real).sum()), int(found.sum()) + int(real.sum())))
    return np.array(rows)
