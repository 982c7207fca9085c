"""Validation on photographs: mIoU over all validation images beside the Dice that chooses and plots."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch

from unia_med import distributed
from unia_med.engine.validation import Validation
from unia_med.inference.predictor import Predictor
from unia_med.methods.base import Method
from unia_med.metrics.confusion import METRICS, ConfusionMatrix, RegionScores, region_scores

_LOG = logging.getLogger(__name__)


class ImageValidation(Validation):
    """As `Validation`, with pixels of all images counted together and those labelled IGNORE left out.

    Dice of a class is therefore 2 IoU / (1 + IoU), of the whole set and not a mean over images.
    """

    def __call__(self, method: Method, step: int) -> dict[str, float]:
        """As `Validation`, and `val_miou`, `val_mprecision`, `val_mrecall`, `val_mconfusion`, background included."""
        scores = super().__call__(method, step)
        if not scores:
            return scores
        means = {f"val_m{metric}": _number(self._regions.mean(metric)) for metric in METRICS}
        if distributed.is_main():
            told = ", ".join(f"{name.removeprefix('val_')} {value:.4f}" for name, value in means.items())
            _LOG.info("whole images at step %d: %s", step, told)
        return {**scores, **means}

    def _volume_scores(self, method: Method) -> dict[str, float]:
        predictor = Predictor(method, self.config, self.device)
        matrix = ConfusionMatrix(len(self.classes) + 1, self.device)
        for case in distributed.share(self.cases):
            found = self.dataset.evaluation_case(case)
            prediction, _ = predictor.predict_volume(found.volume)
            matrix.add(torch.from_numpy(prediction), torch.from_numpy(self._grouped(found.labels)))
        self._regions: RegionScores = region_scores(np.sum(distributed.gather([matrix.counts()]), 0))
        values = [_number(iou) for iou in self._regions.iou[1:]]
        return {name: 2 * iou / (1 + iou) for name, iou in zip(self.classes, values, strict=True)}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
