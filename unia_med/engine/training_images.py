"""What a finished run keeps of its images: how they look to the network, and what uncertainty is doubtful."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med import distributed
from unia_med.config.schema import RunConfig
from unia_med.data.io.frames import iterate_frames
from unia_med.data.io.volume import Volume
from unia_med.data.sample import CaseFiles
from unia_med.engine.calibration import read_temperature, true_labels
from unia_med.engine.checkpoint import load_checkpoint, load_weights
from unia_med.inference.likeness import Likeness, Seen
from unia_med.inference.predictor import Predictor, Segmentation
from unia_med.inference.records import Tally
from unia_med.labels import IGNORE
from unia_med.methods.base import Method
from unia_med.metrics.overlap import dice
from unia_med.names import number_of
from unia_med.progress import tracked
from unia_med.run_files import RunFiles

if TYPE_CHECKING:
    from unia_med.data.dataset import CaseDataset

MOST_IMAGES = 40
"""Images of each part that are looked at, drawn by their names."""

GOOD_DICE = 0.8
"""Mean Dice over classes below which a mask should be reviewed."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looked:
    """One image, predicted.

    Attributes:
        seen: what was noted of it.
        doubt: mean uncertainty inside its mask; None where the mask is empty.
        dice: mean Dice over the classes; None without a true mask.
    """

    seen: Seen
    doubt: float | None
    dice: float | None


def note_images(
    method: Method,
    checkpoint: Path,
    config: RunConfig,
    dataset: CaseDataset,
    training: Sequence[CaseFiles],
    validation: Sequence[CaseFiles],
    run: Path,
) -> None:
    """Write `training_images.json` of a finished run; one that is there already is kept.

    Args:
        method: takes the checkpoint's averaged weights.
        checkpoint: what will be predicted with.
        config: of the run.
        dataset: reads the cases.
        training: cases that were learned from; their masks are not read.
        validation: validation cases; masks, where there are some, decide what is doubtful.
        run: the run folder.
    """
    path = RunFiles(run).images
    if path.is_file() or not distributed.is_main():
        return
    load_weights(method, load_checkpoint(checkpoint, keys=("ema",))["ema"], checkpoint)
    fitted = config.inference.temperature or read_temperature(run)
    inference = config.inference.model_copy(update={"temperature": fitted})
    predictor = Predictor(method, config.model_copy(update={"inference": inference}), next(method.parameters()).device)
    known = [replace(case, mask=None) for case in drawn(training)]
    cases = [*known, *drawn(validation)]
    looked = [look(predictor, config, dataset, case) for case in tracked(cases, "looking at images", len(cases))]
    learned, others = looked[: len(known)], looked[len(known) :]
    if not learned:
        return
    likeness = Likeness.of([one.seen for one in learned], [one.seen for one in others])
    threshold, reason = review_threshold(others, learned)
    replace(likeness, review=threshold, review_reason=reason).write(path)
    if threshold is not None:
        _LOG.info("masks are marked for review above an uncertainty of %.3f (%s)", threshold, reason)


def drawn(cases: Sequence[CaseFiles]) -> list[CaseFiles]:
    """Return at most `MOST_IMAGES` cases, drawn by their names, so that the same are drawn each time."""
    order = sorted(cases, key=lambda case: hashlib.sha256(case.name.encode()).digest())
    return sorted(order[:MOST_IMAGES], key=lambda case: case.name)


def look(predictor: Predictor, config: RunConfig, dataset: CaseDataset, case: CaseFiles) -> Looked:
    """Predict one case, and note what is compared later.

    Args:
        predictor: of the run.
        config: of the run.
        dataset: reads true masks.
        case: its mask is read where it has one.
    """
    if case.mask is None:
        seen = seen_of(predictor, case.image)
        return Looked(seen, seen.doubt, None)
    found = dataset.evaluation_case(case)
    seen, results = _watched(predictor, [found.volume])
    truth = true_labels(config, found.labels)
    return Looked(seen, seen.doubt, _mean_dice(results[0].labels, truth, len(config.data.target_classes)))


def seen_of(predictor: Predictor, image: Path) -> Seen:
    """Return what is noted of an image while it is predicted.

    Args:
        predictor: of a run.
        image: its file.
    """
    source = predictor.open(image)
    frames = [source] if isinstance(source, Volume) and "T" not in source.axes else list(iterate_frames(source))
    return _watched(predictor, frames)[0]


def _watched(predictor: Predictor, frames: Sequence[Volume]) -> tuple[Seen, list[Segmentation]]:
    """Predict frames of one image, and return what was noted of it and the results."""
    tally = Tally()
    with predictor.watching() as seen:
        results = list(tally.watched(predictor.predict_frames(frames)))
    doubts = np.concatenate([result.uncertainty[result.labels > 0] for result in results])
    in_mm = predictor.grid.units == "mm"
    voxel_ml = abs(float(np.linalg.det(frames[0].affine[:3, :3]))) / 1000
    volumes = tally.volumes_ml(predictor.classes, voxel_ml) if in_mm else {}
    seen.predicted(volumes, float(doubts.mean()) if doubts.size else None)
    return seen, results


def review_threshold(validation: Sequence[Looked], training: Sequence[Looked]) -> tuple[float | None, str]:
    """Return the mean uncertainty from which a mask is doubtful, and where that number comes from.

    With validation masks, it is the one that best separates scores below `GOOD_DICE` from others (Youden's index);
    where all are good, the largest of them. Without, the largest of training and validation images.

    Args:
        validation: images, with a Dice where they have a mask.
        training: images that were learned from.
    """
    scored = [(one.doubt, one.dice) for one in validation if one.doubt is not None and one.dice is not None]
    bad = [doubt for doubt, score in scored if score < GOOD_DICE]
    good = [doubt for doubt, score in scored if score >= GOOD_DICE]
    reason = f"{number_of(len(scored), 'validation mask')}, {len(bad)} with a Dice below {GOOD_DICE}"
    if bad and good:
        values = sorted({*bad, *good})
        edges = [values[0] * 0.999, *((a + b) / 2 for a, b in zip(values, values[1:], strict=False))]
        gains = [np.mean(np.array(bad) > edge) - np.mean(np.array(good) > edge) for edge in edges]
        return round(float(edges[int(np.argmax(gains))]), 4), reason
    if scored:
        return round(max(good) if good else min(bad) * 0.999, 4), reason
    doubts = [one.doubt for one in (*validation, *training) if one.doubt is not None]
    return (round(max(doubts), 4), f"{number_of(len(doubts), 'image')} without masks") if doubts else (None, "")


def _mean_dice(labels: np.ndarray, truth: np.ndarray, classes: int) -> float | None:
    known = truth != IGNORE
    scores = [dice(labels[known] == value, truth[known] == value) for value in range(1, classes + 1)]
    found = [score for score in scores if score is not None]
    return float(np.mean(found)) if found else None
