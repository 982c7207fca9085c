"""Batch size and budget of a run on the device that it finds."""

from __future__ import annotations

from unia_med.config.data import SYNTHETIC
from unia_med.config.schema import RunConfig


def for_device(config: RunConfig, device: str) -> RunConfig:
    """Return the config for a device: on CUDA, `training.cuda` replaces the settings that it names.

    The result is what the run folder records, so that a run is continued with the budget that it began with.

    Args:
        config: the whole run.
        device: `cpu` or `cuda`.
    """
    given, prior = config.training.cuda, config.prior
    changes: dict[str, object] = {"cuda": None}
    if given is not None and device == "cuda":
        changes |= {"iterations": given.iterations, "batch_size": given.batch_size}
        teacher = prior.teacher()
        if teacher is not None:
            name, settings = teacher
            budget = {"iterations": given.teacher_iterations, "batch_size": given.batch_size}
            prior = prior.model_copy(update={name: settings.model_copy(update=budget)})
    return config.model_copy(update={"training": config.training.model_copy(update=changes), "prior": prior})


def described(config: RunConfig, device: str, precision: str) -> str:
    """Return one line about device, batch, precision and budget.

    Args:
        config: as `for_device` gives it.
        device: as torch names it.
        precision: such as `float32`.
    """
    training = config.training
    # A model to start from takes the teacher's place; a run on synthetic slices alone is a teacher's training itself.
    taught = training.start_from is None and config.data.name != SYNTHETIC
    teacher = config.prior.teacher() if taught else None
    first = "" if teacher is None else f"a teacher of {teacher[1].iterations} steps, then "
    return f"{device}, {precision}: {first}{training.iterations} steps of {training.batch_size} slices"
