"""One training run from a configuration to a run folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unia_med.build import build_dataset, build_method, resolve_device
from unia_med.config.load import dump_config, load_config, plain
from unia_med.config.schema import RunConfig
from unia_med.data.acdc import AcdcDataset
from unia_med.data.sample import CaseFiles
from unia_med.data.slices import build_slices
from unia_med.data.splits import split_cases
from unia_med.engine import distributed
from unia_med.engine.interrupt import Interrupted
from unia_med.engine.monitor import write_environment
from unia_med.engine.randomness import seed_everything
from unia_med.engine.self_training import SelfTraining
from unia_med.engine.trainer import Trainer
from unia_med.engine.validation import Validation
from unia_med.errors import UserError

_LOG = logging.getLogger(__name__)
_IGNORED_ON_RESUME = {"data.root", "data.cache_dir", "data.workers"}


def train(config: RunConfig, output: Path, resume: bool = False, device: str = "auto") -> int:
    """Trains a run and returns the exit code: 0 done, 130 interrupted with a checkpoint written.

    Args:
        config: Everything the run needs.
        output: The run folder.
        resume: Continue the run that is there; without it, an existing run is never touched.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """
    where = distributed.device_of_this_process(resolve_device(device))
    dataset = build_dataset(config.data)
    parts = split_cases(dataset.cases(), config.data.split, config.seed)
    if not parts["train"]:
        raise UserError("no patient is left to train on", "data.split", "give fewer patients to val and test")
    _prepare_folder(config, output, resume)
    with distributed.process_group(where), _log_file(output / "train.log"):
        seed_everything(config.seed)
        if distributed.is_main():
            write_environment(output / "environment.json", where, config.seed)
        try:
            _train(config, output, where, dataset, parts)
        except Interrupted as stop:
            _LOG.warning("stopped at step %d; continue with --resume", stop.step)
            return stop.exit_code
    return 0


def _train(
    config: RunConfig, output: Path, device: torch.device, dataset: AcdcDataset, parts: dict[str, list[CaseFiles]]
) -> None:
    slices = build_slices(dataset, parts["train"], config.data, cache_dir=output / "cache")
    slices.discordant_weight = 3.0 if config.training.balanced else 1.0
    _LOG.info("%d training slices of %d volumes", len(slices), len(parts["train"]))
    method = build_method(config)
    plan = SelfTraining(config, output, slices, device, build_method) if config.prior.names else None
    trainer = Trainer(
        method,
        plan.dataset if plan else slices,
        config.training,
        config.augment,
        output,
        device,
        config.seed,
        validation=Validation(config, dataset, parts["val"], device),
        boundaries=plan.boundaries if plan else {},
        metadata={"config": plain(config), "classes": list(config.data.target_classes)},
        workers=config.data.workers,
    )
    if plan is not None and trainer.step == 0:
        plan.before_training(trainer.method)
        trainer.restart_average()
    elif plan is not None:
        plan.restore(trainer.step)
    trainer.run()
    _LOG.info("done: %s", output)


def _prepare_folder(config: RunConfig, output: Path, resume: bool) -> None:
    stored = output / "config.yaml"
    if resume:
        if not stored.exists():
            raise UserError("there is no run to resume", output, "leave out --resume to start one")
        _check_same(config, load_config(stored), output)
        return
    if output.exists() and any(output.iterdir()):
        raise UserError("the run folder is not empty", output, "add --resume to continue it, or name another --output")
    if distributed.is_main():
        output.mkdir(parents=True, exist_ok=True)
        dump_config(config, stored)


def _check_same(config: RunConfig, stored: RunConfig, output: Path) -> None:
    changed = sorted(set(_differences(plain(config), plain(stored))) - _IGNORED_ON_RESUME)
    if changed:
        raise UserError(
            f"differs from the run that is there in {', '.join(changed)}", output, "resume with its own config.yaml"
        )


def _differences(mine: dict[str, Any], other: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in mine.keys() | other.keys():
        a, b = mine.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}"


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Sends the package's messages to the screen and, on the main process, to a file."""
    logger = logging.getLogger("unia_med")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if distributed.is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if distributed.is_main() else logging.WARNING)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
