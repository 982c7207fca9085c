"""Cross-validation: a run per fold in one folder, scores of the cases that each left out, one post-processing."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med import distributed
from unia_med.build import build_dataset
from unia_med.config.load import differences, dump_config, load_config, plain
from unia_med.config.schema import PostprocessConfig, RunConfig, SplitConfig
from unia_med.data.io.orientation import orient, orient_array
from unia_med.data.sample import CaseFiles
from unia_med.data.splits import fold_lists
from unia_med.engine.calibration import true_labels
from unia_med.engine.cleaning import choose_cleaning
from unia_med.engine.monitor import log_to
from unia_med.engine.session import FREE_ON_RESUME, run_training
from unia_med.engine.start import ReadStart
from unia_med.errors import UserError
from unia_med.evaluation.volumes import CaseAccumulator
from unia_med.files import read_json, write_json, write_text
from unia_med.inference.postprocess import postprocess
from unia_med.metrics.table import CaseScores, summarise, to_csv
from unia_med.names import number_of
from unia_med.progress import tracked
from unia_med.run_files import RunFiles, read_names

if TYPE_CHECKING:
    from unia_med.data.dataset import CaseDataset
    from unia_med.inference.predictor import Predictor

_LOG = logging.getLogger(__name__)

OpenFold = Callable[[Path], "Predictor"]


@dataclass(frozen=True)
class _LeftOut:
    """A case that a fold predicted and did not train on; labels turned so that slices lie along the third axis."""

    fold: int
    case: CaseFiles
    shape: tuple[int, ...]
    predicted: bytes
    true: bytes
    spacing_mm: tuple[float, ...]

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true labels (X, Y, Z)."""
        first, second = (
            np.frombuffer(zlib.decompress(packed), np.uint8).reshape(self.shape)
            for packed in (self.predicted, self.true)
        )
        return first, second


def train_folds(
    config: RunConfig,
    output: Path,
    folds: int,
    fold: int | None = None,
    resume: bool = False,
    device: str = "auto",
    start: ReadStart | None = None,
    open_fold: OpenFold | None = None,
) -> None:
    """Train the folds of a run, and when all are there score what they left out and choose a post-processing.

    Args:
        config: of all folds; its test patients are in none of them.
        output: gets `fold_0`, `fold_1`, ...; `folds.json`, `folds.csv` and `config.yaml` when all are finished.
        folds: K.
        fold: train this one alone, as a job of a cluster.
        resume: go on with what is there.
        device: as in `run_training`.
        start: as in `run_training`; where `training.start_from` names folds, each starts from its own.
        open_fold: makes a predictor of a finished fold, without post-processing.

    Raises:
        UserError: numbers that do not fit, another run in the folder, or what `run_training` refuses.
    """
    if folds < 2:
        raise UserError(number_of(folds, "fold"), where="--folds", remedy="Use 2 up to the number of patients")
    if fold is not None and not 0 <= fold < folds:
        raise UserError(f"fold {fold} of {folds}", where="--fold", remedy=f"Use 0 to {folds - 1}")
    dataset = build_dataset(config.data)
    configs = [_of_fold(config, dataset.cases(), folds, number) for number in range(folds)]
    _prepare(config, output, folds)
    for number in range(folds) if fold is None else [fold]:
        _train_one(configs[number], RunFiles(output).fold(number), resume, device, start)
    waiting = [number for number in range(folds) if not RunFiles(RunFiles(output).fold(number)).finished.is_file()]
    if waiting:
        _LOG.info("folds that are not trained yet: %s", ", ".join(map(str, waiting)))
    elif distributed.is_main() and open_fold is not None:
        with log_to(RunFiles(output).log):
            _conclude(config, configs, output, dataset, open_fold)


def _of_fold(config: RunConfig, cases: Sequence[CaseFiles], folds: int, number: int) -> RunConfig:
    lists = fold_lists(cases, config.data.split, config.seed, folds, number)
    split = SplitConfig(kind="lists", **{part: list(names) for part, names in lists.items()})
    changed = config.model_copy(update={"data": config.data.model_copy(update={"split": split})})
    source = config.training.start_from
    own = None if source is None else RunFiles(Path(source)).fold(number)
    if own is None or not own.is_dir():
        return changed
    return changed.model_copy(update={"training": config.training.model_copy(update={"start_from": str(own)})})


def _prepare(config: RunConfig, output: Path, folds: int) -> None:
    """Make the folder of all folds, or make sure that it is one with the same folds."""
    path = RunFiles(output).folds
    record = {"folds": folds, "seed": config.seed}
    if path.is_file():
        found = read_json(path)
        found = found if isinstance(found, dict) else {}
        if {name: found.get(name) for name in record} != record:
            what = f"holds {found.get('folds')} folds of seed {found.get('seed')}, not {folds} of {config.seed}"
            raise UserError(what, where=path, remedy="Name another --output, or the same numbers")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError("this is not an empty folder, and no run of folds either", output, "Name another --output")
    if distributed.is_main():
        write_json(path, record)


def _train_one(config: RunConfig, folder: Path, resume: bool, device: str, start: ReadStart | None) -> None:
    files = RunFiles(folder)
    if resume and files.finished.is_file():
        stored = plain(load_config(files.config))
        changed = {name for name in differences(plain(config), stored) if not name.startswith("training.cuda")}
        changed -= FREE_ON_RESUME | {"training.iterations", "training.batch_size"}  # a device may have its own
        if not changed:
            _LOG.info("%s is finished", folder)
            return
    run_training(config, folder, resume, device, start)
    if distributed.is_main():
        write_json(files.finished, {"iterations": load_config(files.config).training.iterations})


def _conclude(
    config: RunConfig, configs: Sequence[RunConfig], output: Path, dataset: CaseDataset, open_fold: OpenFold
) -> None:
    """Score the cases that the folds left out, choose a post-processing, and make the folder one run."""
    files = RunFiles(output)
    record = read_json(files.folds)
    left_out = _predicted(configs, output, dataset, open_fold)
    if left_out:
        cleaning = choose_cleaning((one.labels() for one in left_out), config.data.target_classes)
        _LOG.info("%s", cleaning)
        cleaned = PostprocessConfig(**cleaning.steps)
        config = config.model_copy(update={"inference": config.inference.model_copy(update={"postprocess": cleaned})})
        scores = summarise(config.data.target_classes, _scored(config, left_out))
        patients = {one.case.name: {"fold": one.fold, "patient": one.case.patient} for one in left_out}
        chosen = {"postprocess": cleaning.steps, "dice": cleaning.dice, "dice_without": cleaning.plain}
        record |= {"post_processing": chosen, "where": patients, "scores": scores}
        write_text(files.folds_table, to_csv(scores))
        _LOG.info(
            "cross-validated mean Dice of %s: %s", number_of(len(left_out), "case"), _line(scores["mean"]["dice"])
        )
    else:
        _LOG.info("no fold has validation masks: nothing is scored, and post-processing stays as the config says")
    labelled = {name for k in range(len(configs)) for name in read_names(RunFiles(files.fold(k)).labelled)}
    write_json(files.labelled, sorted(labelled))
    write_json(files.folds, record)
    dump_config(config, files.config)  # the last one: it makes the folder a run
    _LOG.info("done: %s; predict with all folds by --model %s", output, output)


def _predicted(configs: Sequence[RunConfig], output: Path, dataset: CaseDataset, open_fold: OpenFold) -> list[_LeftOut]:
    found = []
    for number, config in enumerate(configs):
        patients = set(config.data.split.val)
        cases = [case for case in dataset.cases() if case.patient in patients and case.mask is not None]
        if not cases:
            continue
        predictor = open_fold(RunFiles(output).fold(number))
        for case in tracked(cases, f"predicting fold {number}", len(cases)):
            sample = dataset.evaluation_case(case)
            volume, axis = sample.volume, config.data.grid.slice_axis
            masks = (predictor.predict_volume(volume).labels, true_labels(config, sample.labels))
            predicted, true = (orient_array(mask.astype(np.uint8), volume.affine, axis) for mask in masks)
            spacing = orient(volume, axis).spacing_mm
            found.append(_LeftOut(number, case, predicted.shape, _packed(predicted), _packed(true), spacing))
    return found


def _packed(labels: np.ndarray) -> bytes:
    return zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)


def _scored(config: RunConfig, left_out: Sequence[_LeftOut]) -> list[CaseScores]:
    steps = config.inference.postprocess.steps(config.data)
    in_pixels = config.data.grid.units == "pixels"
    cases = CaseAccumulator(config.data.target_classes)
    for one in left_out:
        predicted, true = one.labels()
        spacing = (1.0, 1.0, 1.0) if in_pixels else one.spacing_mm
        cases.add(one.case.name, postprocess(predicted, **steps), true, spacing, "px" if in_pixels else "mm")
    return cases.cases


def _line(means: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in means.items() if value is not None)
