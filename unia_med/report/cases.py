"""Cases predicted for a report: their scores, their calibration, what was measured, and which are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np

from unia_med.config.schema import RunConfig
from unia_med.data.dataset import CaseDataset
from unia_med.data.io.orientation import orient
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import Volume
from unia_med.data.sample import CaseFiles
from unia_med.engine.calibration import true_labels
from unia_med.evaluation.images import SetAccumulator
from unia_med.evaluation.volumes import CaseAccumulator
from unia_med.inference.predictor import Predictor
from unia_med.labels import IGNORE
from unia_med.metrics.calibration import ErrorSearch, Reliability, neighbourhood, reliability
from unia_med.metrics.table import CaseScores
from unia_med.report.quantities import PatientFindings

_PERCENTILES = (1, 50, 99)


class MaskPair(NamedTuple):
    """Masks of a case in memory, with slices along the third axis; empty of a picture.

    Attributes:
        case: its files.
        predicted: labels 1, 2, 3, ... of the run's classes.
        true: the same.
    """

    case: CaseFiles
    predicted: Volume | None
    true: Volume | None


Measure = Callable[[str, Sequence[MaskPair]], PatientFindings]
"""From a patient's name and masks, in order of time, to what is measured in them."""


@dataclass
class Examination:
    """Scores and calibration of the cases of one part.

    Attributes:
        part: `val` or `test`.
        scores: per case, lowest Dice of a class first.
        patients: patient by case.
        doubts: mean entropy of the voxels that are called some class, by case; None where there are none.
        spreads: 1st, 50th and 99th percentile of the network's own uncertainty near the structures, a row per case.
        findings: what was measured, by patient.
        synthetic: whether the images say that they are made up.
        own_map: name of the network's own uncertainty, of methods that have one; else empty.
        near: confidence against truth near the structures (`neighbourhood`), over all cases.
        whole: the same over whole volumes.
        entropy, network: errors found by looking at the voxels most uncertain by either kind, near the structures.
        entropy_whole, network_whole: the same over whole volumes.
        counted: pixels of all cases together, of a run in pixels; None for others.
    """

    part: str
    scores: list[CaseScores] = field(default_factory=list)
    patients: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, float | None] = field(default_factory=dict)
    spreads: list[np.ndarray] = field(default_factory=list)
    findings: dict[str, PatientFindings] = field(default_factory=dict)
    synthetic: bool = False
    own_map: str = ""
    near: Reliability = field(default_factory=lambda: reliability(np.zeros(0), np.zeros(0, bool)))
    whole: Reliability = field(default_factory=lambda: reliability(np.zeros(0), np.zeros(0, bool)))
    entropy: ErrorSearch = field(default_factory=ErrorSearch)
    network: ErrorSearch = field(default_factory=ErrorSearch)
    entropy_whole: ErrorSearch = field(default_factory=ErrorSearch)
    network_whole: ErrorSearch = field(default_factory=ErrorSearch)
    counted: SetAccumulator | None = None


def examine(
    predictor: Predictor,
    config: RunConfig,
    dataset: CaseDataset,
    cases: Iterable[CaseFiles],
    part: str,
    measure: Measure = lambda patient, masks: PatientFindings(),
) -> Examination:
    """Predict cases that have masks and compare.

    Args:
        predictor: of the run.
        config: of the run.
        dataset: reads the cases.
        cases: all with masks, those of a patient one after another in order of time; an iterable, so that a caller can
            show progress.
        part: of the split they are from.
        measure: called with each patient's masks.
    """
    counted = SetAccumulator(len(config.data.target_classes)) if config.data.grid.units == "pixels" else None
    done = Examination(part, counted=counted, own_map=own_map(predictor, config))
    pairs = (_examine_case(predictor, config, dataset, case, done) for case in cases)
    for patient, masks in groupby(pairs, key=lambda pair: pair.case.patient):
        done.findings[patient] = measure(patient, list(masks))
    done.scores.sort(key=lambda scores: (worst_dice(scores), mean_dice(scores)))
    return done


def own_map(predictor: Predictor, config: RunConfig) -> str:
    """Return the name of the uncertainty that the method infers itself; empty where it has none.

    Args:
        predictor: of the run.
        config: of the run.
    """
    if not predictor.method.samples_features:
        return ""
    return "UniA's U" if config.method.name == "unia" else f"{config.method.name}'s own uncertainty"


def worst_dice(scores: CaseScores) -> float:
    """Lowest Dice of a class; above every score where no class has one, so that it sorts last.

    Args:
        scores: of a case.
    """
    return min((value for value in scores.dice.values() if value is not None), default=2.0)


def mean_dice(scores: CaseScores) -> float:
    """Mean Dice over the classes that have one; above every score where none has, so that it sorts last.

    Args:
        scores: of a case.
    """
    known = [value for value in scores.dice.values() if value is not None]
    return float(np.mean(known)) if known else 2.0


def choose_patients(done: Examination, count: int) -> list[str]:
    """Patients from worst to best, evenly spread: three are the worst, the median and the best one.

    A patient is as good as its worst case.

    Args:
        done: what was examined.
        count: how many are wanted at most.
    """
    order = list(dict.fromkeys(done.patients[scores.case] for scores in done.scores))
    if count >= len(order):
        return order
    places = np.linspace(0, len(order) - 1, count).round().astype(int)
    return [order[place] for place in dict.fromkeys(places.tolist())]


def _examine_case(
    predictor: Predictor, config: RunConfig, dataset: CaseDataset, case: CaseFiles, done: Examination
) -> MaskPair:
    found = dataset.evaluation_case(case)
    truth, spacing = true_labels(config, found.labels), found.volume.spacing_mm
    predicted = predictor.predict_in_detail(found.volume)
    if done.counted is not None:
        done.counted.add(predicted.labels, truth)
    done.scores.extend(_scores(case, predicted.labels, truth, spacing, config.data.target_classes))
    done.patients[case.name] = case.patient
    done.synthetic = done.synthetic or _says_synthetic(found.volume)
    marked = predicted.entropy[predicted.labels > 0]
    done.doubts[case.name] = float(marked.mean()) if marked.size else None
    pair = _masks(case, found.volume, predicted.labels, truth, config)
    known = truth != IGNORE
    truth = truth * known
    # Calibration is about what the network says, so its own labels count, not the cleaned ones.
    confidence, wrong = predicted.probabilities.max(0), predicted.probabilities.argmax(0) != truth
    everywhere = tuple(slice(None) for _ in truth.shape)
    for box, searches in (
        (near := neighbourhood([truth, predicted.labels], spacing), (done.entropy, done.network)),
        (everywhere, (done.entropy_whole, done.network_whole)),
    ):
        inside = known[box]
        table = reliability(confidence[box][inside], ~wrong[box][inside])
        if box is everywhere:
            done.whole += table
        else:
            done.near += table
        for search, uncertainty in zip(searches, (predicted.entropy, predicted.network), strict=True):
            search.add(uncertainty[box][inside], wrong[box][inside])
    if done.own_map and predicted.network[near].size:
        done.spreads.append(np.percentile(predicted.network[near], _PERCENTILES))
    return pair


def _says_synthetic(volume: Volume) -> bool:
    """Whether a NIfTI header calls the image synthetic, as `unia-med phantom` writes it."""
    try:
        text = bytes(volume.header["descrip"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError, IndexError):
        return False
    return text.lower().startswith(b"synthetic")


def _masks(case: CaseFiles, volume: Volume, predicted: np.ndarray, truth: np.ndarray, config: RunConfig) -> MaskPair:
    if is_image(case.image):
        return MaskPair(case, None, None)
    axis = config.data.grid.slice_axis
    return MaskPair(case, *(orient(Volume(labels, volume.affine), axis) for labels in (predicted, truth)))


def _scores(
    case: CaseFiles, predicted: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], classes: Sequence[str]
) -> list[CaseScores]:
    scores = CaseAccumulator(classes)
    if is_image(case.image):
        scores.add(case.name, predicted[:, :, 0], truth[:, :, 0], (1.0, 1.0), "px")
    else:
        scores.add(case.name, predicted, truth, spacing_mm)
    return scores.cases


def frames_of(cases: Sequence[CaseFiles], patient: str) -> list[CaseFiles]:
    """Return the cases of a patient in order of time.

    Args:
        cases: of all patients.
        patient: its name.
    """
    return sorted((case for case in cases if case.patient == patient), key=lambda case: (case.frame, case.name))
