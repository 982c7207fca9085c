"""Synthetic slices of a prior as a training set, and the trainer of a run that learns from nothing else."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from unia_med.build import build_method
from unia_med.config.load import plain
from unia_med.config.prior import prior_type
from unia_med.config.schema import RunConfig
from unia_med.config.teacher import TeacherConfig
from unia_med.data.slices.synthetic import SyntheticSlices
from unia_med.engine.randomness import seed_everything
from unia_med.engine.start import ReadStart, begin
from unia_med.engine.trainer import Trainer
from unia_med.priors.base import TeachingPrior
from unia_med.priors.classes import ClassMap

_LOG = logging.getLogger(__name__)


def draw_slices(prior: TeachingPrior[TeacherConfig], config: RunConfig, count: int, seed: int) -> SyntheticSlices:
    """Return synthetic slices whose labels are the run's classes.

    Args:
        prior: what draws them.
        config: names the classes and the grid.
        count: number of slices.
        seed: source of all randomness.
    """
    images, labels = prior.draw(count, config.data.grid, seed)
    classes = ClassMap.between(prior.classes, config.data)
    return SyntheticSlices(images, classes.table[labels], classes.classes)


def prior_trainer(config: RunConfig, output: Path, device: torch.device, start: ReadStart | None = None) -> Trainer:
    """Return the trainer of a run on the slices that its prior draws, without any image; nothing is validated.

    Args:
        config: of the run; `data.name` is `synthetic`, and `prior.names` holds a prior that draws slices.
        output: the run folder.
        device: where to compute.
        start: reads what `training.start_from` names: weights, and class names without background.

    Raises:
        UserError: the weights to start from are of another network.
    """
    seed_everything(config.seed)
    kinds = [(name, prior_type(name)) for name in config.prior.names]
    prior = next(kind(config.prior.settings_of(name)) for name, kind in kinds if issubclass(kind, TeachingPrior))
    slices = draw_slices(prior, config, prior.settings.slices, config.seed)
    _LOG.info("%d synthetic slices", len(slices))
    method = build_method(config)
    begin(method, config, output, start, build_method)
    return Trainer(
        method,
        slices,
        config.training,
        config.augment,
        output,
        device,
        config.seed,
        workers=config.data.workers,
        metadata={"config": plain(config), "classes": list(config.data.target_classes)},
    )
