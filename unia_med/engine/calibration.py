"""The temperature of a run: fitted on validation masks after training, kept in `RUN/calibration.json`.

Temperature scaling (Guo et al. 2017) has one number and changes no label. It is fitted to the plain prediction, without
test-time augmentation, on voxels in and round the structures: elsewhere a network is certain, and right.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unia_med import distributed
from unia_med.config.schema import RunConfig
from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.tags import group_labels
from unia_med.engine.checkpoint import load_checkpoint, load_weights
from unia_med.engine.voxels import Kept, Voxels, draw_voxels, voxels_per_case
from unia_med.errors import UserError
from unia_med.files import decoded, write_text
from unia_med.inference.predictor import Predictor
from unia_med.inference.uncertainty import apply_temperature, fit_temperature
from unia_med.methods.base import Method
from unia_med.metrics.calibration import expected_calibration_error, reliability
from unia_med.names import number_of
from unia_med.progress import tracked
from unia_med.run_files import RunFiles

if TYPE_CHECKING:
    from unia_med.data.dataset import CaseDataset

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and on what.

    Attributes:
        temperature: divides logits before the softmax.
        cases: validation volumes with masks.
        voxels: voxels that were used.
        ece_before: expected calibration error of these voxels as the network gives them.
        ece_after: with the temperature; on the same voxels, so a little flattering.
    """

    temperature: float
    cases: int
    voxels: int
    ece_before: float
    ece_after: float


def calibrate(
    method: Method,
    checkpoint: Path,
    config: RunConfig,
    dataset: CaseDataset,
    cases: Sequence[CaseFiles],
    run: Path,
    kept: Kept | None = None,
) -> Calibration | None:
    """Fit the temperature of a finished run and write it down; nothing where no validation case has a mask.

    Args:
        method: takes the checkpoint's averaged weights.
        checkpoint: what will be predicted with.
        config: of the run.
        dataset: reads the cases.
        cases: validation cases; those without a mask are left out. Every process calls this with all of them.
        run: gets `calibration.json`; one that is there already is kept.
        kept: voxels of the last validation; where it was of the checkpoint's step, no case is predicted again.
    """
    # The first process writes the checkpoint after the last step, while the others are here already.
    distributed.barrier()
    masked = [case for case in cases if case.mask is not None]
    if not masked or RunFiles(run).calibration.is_file():
        return None
    state = load_checkpoint(checkpoint, keys=("ema",))
    load_weights(method, state["ema"], checkpoint)
    known = kept.cases if kept is not None and kept.step == state.get("step") else None
    found = fit(method, config, dataset, masked, next(method.parameters()).device, known)
    if distributed.is_main():
        write_text(RunFiles(run).calibration, json.dumps(asdict(found), indent=2) + "\n")
        _LOG.info(
            "temperature %.3f fitted on %s; calibration error %.4f, before %.4f",
            found.temperature,
            number_of(found.cases, "validation volume"),
            found.ece_after,
            found.ece_before,
        )
    return found


def fit(
    method: Method,
    config: RunConfig,
    dataset: CaseDataset,
    cases: Sequence[CaseFiles],
    device: torch.device,
    known: Sequence[Voxels] | None = None,
) -> Calibration:
    """Fit the temperature that makes a method's probabilities likeliest; 1 where calibration would get worse.

    The likelihood is ruled by the worst voxels: where a method gives right classes a probability of 0, as a random walk
    or a network of few iterations may, it asks for probabilities that are nearly even everywhere.

    Args:
        method: with its trained weights.
        config: of the run.
        dataset: reads the cases.
        cases: with masks; shared between processes.
        device: where to predict.
        known: voxels of the cases of this process, where they were drawn before.
    """
    if known is None:
        plain = config.model_copy(update={"inference": config.inference.model_copy(update={"temperature": 1.0})})
        predictor = Predictor(method, plain, device, postprocess=False)
        known = list(_draw(predictor, config, dataset, cases, voxels_per_case(len(cases))))
    drawn = distributed.gather(list(known))
    probabilities = torch.from_numpy(np.concatenate([one.probabilities for one in drawn]))
    labels = torch.from_numpy(np.concatenate([one.labels for one in drawn])).long()
    temperature = fit_temperature(probabilities, labels)
    before, after = (_ece(apply_temperature(probabilities, value), labels) for value in (1.0, temperature))
    if after > before:
        temperature, after = 1.0, before
    return Calibration(
        temperature=round(temperature, 6), cases=len(cases), voxels=len(labels), ece_before=before, ece_after=after
    )


def read_temperature(run: Path) -> float | None:
    """Return the fitted temperature of a run folder, or None where none was fitted.

    Args:
        run: run folder.

    Raises:
        UserError: the file holds no temperature.
    """
    found = read_calibration(run)
    return None if found is None else found.temperature


def read_calibration(run: Path) -> Calibration | None:
    """Return what was fitted for a run, or None.

    Args:
        run: run folder.

    Raises:
        UserError: the file is no record of a calibration.
    """
    path = RunFiles(run).calibration
    if not path.is_file():
        return None
    try:
        values = json.loads(decoded(path.read_bytes()))
        if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values.values()):
            raise ValueError("a value that is no number")
        found = Calibration(**values)
        if not 0 < float(found.temperature) < float("inf"):
            raise ValueError(f"temperature {found.temperature}")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        remedy = "Delete it and call `unia-med train --resume` to fit it again, or set inference.temperature"
        raise UserError("this is no record of a calibration", where=path, remedy=remedy) from error
    return found


def true_labels(config: RunConfig, labels: np.ndarray) -> np.ndarray:
    """Labels of a case as the run predicts them: merged where its config merges classes.

    Args:
        config: of the run.
        labels: uint8 (X, Y, Z), 1..T in the order of `data.classes`.
    """
    groups = config.data.groups
    return group_labels(labels, config.data.classes, groups) if groups else labels


def _draw(
    predictor: Predictor, config: RunConfig, dataset: CaseDataset, cases: Sequence[CaseFiles], count: int
) -> Iterator[Voxels]:
    """Predict the cases of this process, and draw voxels of each."""
    mine = distributed.share(cases)
    for case in tracked(mine, "calibrating", len(mine), quiet=not distributed.is_main()):
        found = dataset.evaluation_case(case)
        predicted, volume = predictor.predict_in_detail(found.volume), found.volume
        truth = true_labels(config, found.labels)
        yield draw_voxels(truth, predicted.raw, predicted.probabilities, volume.spacing_mm, count, config.seed)


def _ece(probabilities: Tensor, labels: Tensor) -> float:
    confidence, classes = probabilities.max(1)
    error = expected_calibration_error(reliability(confidence.numpy(), (classes == labels).numpy()))
    return round(error or 0.0, 6)
