"""Runs one training: from a configuration to a run folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from unia_med import distributed
from unia_med.build import build_dataset, build_method, check_weights, method_file, resolve_device, with_digest
from unia_med.config.custom import CustomConfig
from unia_med.config.data import SYNTHETIC
from unia_med.config.device import described, for_device
from unia_med.config.load import differences, dump_config, load_config, plain
from unia_med.config.prior import draws_slices
from unia_med.config.schema import RunConfig
from unia_med.data.dataset import CaseDataset
from unia_med.data.sample import CaseFiles
from unia_med.data.slices.dataset import build_slices
from unia_med.data.splits import split_cases
from unia_med.data.weak_labels.load import load_weak_labels
from unia_med.engine.calibration import calibrate
from unia_med.engine.data_record import check_record, data_record, write_record
from unia_med.engine.interrupt import Interrupted
from unia_med.engine.monitor import log_to, write_environment
from unia_med.engine.precision import precision
from unia_med.engine.randomness import seed_everything
from unia_med.engine.self_training import SelfTraining
from unia_med.engine.start import ReadStart, begin
from unia_med.engine.synthetic import prior_trainer
from unia_med.engine.trainer import Trainer
from unia_med.engine.training_images import note_images
from unia_med.engine.validation import Validation
from unia_med.errors import UserError
from unia_med.files import remove_leftovers, write_atomically, write_json
from unia_med.labels import IGNORE, TAG_UNKNOWN
from unia_med.names import number_of
from unia_med.run_files import RunFiles

_LOG = logging.getLogger(__name__)

# What may change between the parts of a run without changing its weights.
FREE_ON_RESUME = {
    "data.root",
    "data.cache",
    "data.cache_dir",
    "data.workers",
    "training.checkpoint_every",
    "training.log_every",
    "inference.temperature",
    "inference.uncertainty",
}
_BALANCED_WEIGHT = 3.0  # of slices whose tags disagree; they are 16 % of ACDC and become a good third


def train(
    config: RunConfig, output: Path, resume: bool = False, device: str = "auto", start: ReadStart | None = None
) -> int:
    """Train a run and return the exit code: 0 done, 130 interrupted with a checkpoint written.

    Args:
        config: as in `run_training`.
        output: as in `run_training`.
        resume: as in `run_training`.
        device: as in `run_training`.
        start: as in `run_training`.
    """
    try:
        run_training(config, output, resume, device, start)
    except Interrupted as stop:
        return stop.exit_code
    return 0


def run_training(
    config: RunConfig, output: Path, resume: bool = False, device: str = "auto", start: ReadStart | None = None
) -> None:
    """Train a run.

    Args:
        config: everything the run needs.
        output: the run folder.
        resume: continue the run that is there, or begin where there is none; without it, an existing run is never
            touched.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        start: reads what `training.start_from` names: weights, and class names without background.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with a checkpoint written.
        UserError: data or a folder that cannot be used.
    """
    where = distributed.device_of_this_process(resolve_device(device))
    config = with_digest(for_device(config, where.type))
    check_weights(config.network)
    fresh = not RunFiles(output).config.is_file()
    if config.data.name == SYNTHETIC:

        def learn() -> None:
            with _removed_if_refused(output, fresh):
                trainer = prior_trainer(config, output, where, start)
            trainer.run()
            _LOG.info("done: %s", output)

        _in_folder(config, output, resume, where, {}, learn)
        return
    _check_teaches(config)
    dataset = build_dataset(config.data)
    parts = split_cases(dataset.cases(), config.data.split, config.seed)
    if not parts["train"]:
        raise UserError("no patient is left to train on", "data.split", "Give fewer patients to val and test")
    _in_folder(
        config, output, resume, where, parts, lambda: _train(config, output, where, dataset, parts, fresh, start)
    )


def _check_teaches(config: RunConfig) -> None:
    """Refuse a config that names nothing to learn from, before there is a run folder."""
    other = config.data.labels or config.prior.names or config.training.start_from or config.method.name == "custom"
    if not other and config.data.tags.source in ("none", "labels"):
        what = "there is nothing to learn from: no labels on pixels, no tags and no prior"
        remedy = "Draw some and call `unia-med init FOLDER` again, or set data.labels or data.tags"
        raise UserError(what, where="data.labels", remedy=remedy)


def _in_folder(
    config: RunConfig,
    output: Path,
    resume: bool,
    device: torch.device,
    parts: Mapping[str, list[CaseFiles]],
    work: Callable[[], None],
) -> None:
    """Prepare the run folder, and train with a log in it."""
    with distributed.process_group(device):
        _prepare_folder(config, output, resume, device, parts)
        with log_to(RunFiles(output).log):
            _LOG.info("%s", described(config, str(device), precision(device, config.training.amp)))
            try:
                work()
            except Interrupted as stop:
                _LOG.warning("stopped at step %d; continue with --resume", stop.step)
                raise


def _prepared(
    config: RunConfig,
    output: Path,
    device: torch.device,
    dataset: CaseDataset,
    parts: Mapping[str, list[CaseFiles]],
    start: ReadStart | None,
) -> tuple[Trainer, SelfTraining | None, Validation]:
    """Read and check all that a training needs."""
    seed_everything(config.seed)
    torch.backends.cudnn.benchmark = True  # slices have one size, so the search for fast kernels pays
    labels = load_weak_labels(dataset, parts["train"], config.data, config.seed)
    slices = build_slices(
        dataset, parts["train"], config.data, cache_dir=RunFiles(output).cache, labels=labels, seed=config.seed
    )
    slices.discordant_weight = _BALANCED_WEIGHT if config.training.balanced else 1.0
    slices.labelled_share = config.training.labelled_share
    if distributed.is_main():
        known = [name for name, found in (labels or {}).items() if (found != IGNORE).any()]
        write_json(RunFiles(output).labelled, sorted(known))
    _LOG.info("%s of %s", number_of(len(slices), "training slice"), number_of(len(parts["train"]), "volume"))
    if missing := classes_without_example(config.data.target_classes, labels, slices.tags):
        _LOG.warning("no label and no tag of the training cases holds %s", ", ".join(missing))
    if config.training.keep_best_by == "none":
        looked = (
            "; validation masks are looked at, but choose nothing" if any(case.mask for case in parts["val"]) else ""
        )
        _LOG.info("best.pt will be the last state%s", looked)
    validation = Validation(config, dataset, parts["val"], device)
    validation.prepare()
    method = build_method(config)
    begin(method, config, output, start, build_method, teaches=any(map(draws_slices, config.prior.names)))
    plan = None
    if config.prior.names or config.prior.rounds > 1:
        drawn = _annotations(config, dataset, parts["train"])
        plan = SelfTraining(config, output, slices, device, build_method, drawn, validation.slices)
    trainer = Trainer(
        method,
        plan.dataset if plan else slices,
        config.training,
        config.augment,
        output,
        device,
        config.seed,
        validation=validation,
        boundaries=plan.boundaries if plan else {},
        restore=plan.restore if plan else None,
        restarts=config.prior.restart,
        workers=config.data.workers,
        metadata={"config": plain(config), "classes": list(config.data.target_classes)},
    )
    return trainer, plan, validation


@contextmanager
def _removed_if_refused(output: Path, fresh: bool) -> Iterator[None]:
    """Leave no folder of a run that is refused where there was none, so that the corrected one works."""
    try:
        yield
    except UserError:
        if fresh and distributed.is_main():
            shutil.rmtree(output, ignore_errors=True)  # it was empty, or held the first records of a killed run
        raise


def _train(
    config: RunConfig,
    output: Path,
    device: torch.device,
    dataset: CaseDataset,
    parts: Mapping[str, list[CaseFiles]],
    fresh: bool,
    start: ReadStart | None,
) -> None:
    with _removed_if_refused(output, fresh):
        trainer, plan, validation = _prepared(config, output, device, dataset, parts, start)
    if plan is not None and trainer.step == 0:
        plan.before_training(trainer.method)
        trainer.restart_average()
    elif plan is not None:
        plan.restore(trainer.step)
    trainer.run()
    best = trainer.ema_method, trainer.best_path, config, dataset
    calibrate(*best, parts["val"], output, validation.kept)
    note_images(*best, parts["train"], parts["val"], output)
    _LOG.info("done: %s", output)


def classes_without_example(
    classes: Sequence[str], labels: Mapping[str, np.ndarray] | None, tags: np.ndarray
) -> list[str]:
    """Return the classes that no training label and no tag holds; none where there are neither.

    Args:
        classes: names of the labels 1, 2, 3, ...
        labels: weak labels by case, IGNORE where nothing is annotated.
        tags: (N, K) of the slices, 1 where a class is present.
    """
    if labels is None and bool((np.asarray(tags) == TAG_UNKNOWN).all()):
        return []
    seen = set((1 + np.flatnonzero((np.asarray(tags) == 1).any(0))).tolist())
    for found in (labels or {}).values():
        seen.update(np.unique(found).tolist())
    return [name for value, name in enumerate(classes, start=1) if value not in seen]


def _annotations(config: RunConfig, dataset: CaseDataset, cases: Sequence[CaseFiles]) -> dict[str, np.ndarray] | None:
    """Return the weak labels as drawn, without completion, where self-training goes back to them."""
    if config.prior.trust != "agreement":
        return None
    sources = [source.model_copy(update={"fill": "none"}) for source in config.data.labels]
    return load_weak_labels(dataset, cases, config.data.model_copy(update={"labels": sources}), config.seed)


def _prepare_folder(
    config: RunConfig, output: Path, resume: bool, device: torch.device, parts: Mapping[str, list[CaseFiles]]
) -> None:
    """Check the run folder and write its records, on the first process; the others wait."""
    if distributed.is_main():
        files = RunFiles(output)
        begun = files.config.is_file()
        if not begun:
            _check_room(output)
        elif not resume:
            raise UserError("a run is here already", output, "Add --resume to continue it, or name another --output")
        else:
            _check_resumable(config, files.config)
        record = data_record(config, parts)
        if begun:
            check_record(files.data, record)
        else:
            write_record(files.data, record)
            write_json(files.split, {part: {case.name: case.patient for case in parts[part]} for part in parts})
        write_environment(files.environment, device, config.seed)
        # The last of the records: a folder without it is one in which nothing has begun.
        dump_config(_with_own_method(config, files), files.config)
    distributed.barrier()


def _with_own_method(config: RunConfig, files: RunFiles) -> RunConfig:
    """Copy the file of a method of one's own into the run folder, and return a config that names the copy."""
    method = config.method
    if not isinstance(method, CustomConfig) or method.digest is None:
        return config
    path, (_, _, name) = method_file(method), method.use.rpartition(":")
    if path != files.method.resolve():
        write_atomically(files.method, lambda file: file.write(path.read_bytes()))
    return config.model_copy(update={"method": method.model_copy(update={"use": f"{files.method.name}:{name}"})})


def _check_room(output: Path) -> None:
    """Refuse a folder that holds other things than the first records of a run that was killed at its start."""
    if output.exists() and not output.is_dir():
        raise UserError("is a file, and no run either", output, "Name another --output")
    if RunFiles(output).last.is_file():
        what = "holds the checkpoints of a run whose config.yaml is missing"
        raise UserError(what, output, "Put its config.yaml back, or name another --output")
    remove_leftovers(output)
    known = {RunFiles(output).environment, RunFiles(output).data, RunFiles(output).split, RunFiles(output).method}
    if output.is_dir() and not set(output.iterdir()) <= known:
        raise UserError("this is not an empty folder, and no run either", output, "Name another --output")


def _check_resumable(config: RunConfig, stored: Path) -> None:
    earlier, free = load_config(stored), set(FREE_ON_RESUME)
    if isinstance(config.method, CustomConfig) and config.method.digest is not None:
        free |= {"method.use"}  # the same file by its digest, elsewhere
    changed = sorted(set(differences(plain(config), plain(earlier))) - free)
    if changed:
        what = f"the run that is there has other settings: {', '.join(changed)}"
        raise UserError(what, stored, f"Resume it with --config {stored}")
