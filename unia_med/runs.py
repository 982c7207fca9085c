"""What `unia-med train` left in a run folder, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.config.load import load_config, parse_config
from unia_med.config.schema import RunConfig
from unia_med.errors import UserError, suggestion

if TYPE_CHECKING:
    import torch

    from unia_med.inference.predictor import Predictor

CHECKPOINTS = ("best.pt", "last.pt")
"""In order of preference."""

UNCERTAINTIES = ("entropy", "network")
"""Kinds that `inference.uncertainty` knows."""


def find_checkpoint(run: Path) -> Path:
    """Return the checkpoint of a run folder that predicts best; nothing is opened.

    Args:
        run: what `unia-med train --output` named.

    Raises:
        UserError: there is no such folder, or no checkpoint in it.
    """
    if not run.is_dir():
        found = "is a file, not a run folder" if run.exists() else "no such run folder"
        raise UserError(found, where=run, remedy="Give the folder that `unia-med train --output` named")
    for name in CHECKPOINTS:
        if (run / "checkpoints" / name).is_file():
            return run / "checkpoints" / name
    raise UserError(
        "holds no checkpoints/best.pt and no checkpoints/last.pt",
        where=run,
        remedy="Give the folder that `unia-med train --output` named; one that was interrupted goes on with --resume",
    )


def load_predictor(
    run: Path | str,
    device: torch.device | str = "cpu",
    *,
    tta: bool = False,
    postprocess: bool = True,
    uncertainty: str | None = None,
) -> Predictor:
    """Return the predictor of a trained run, weights loaded and averaged ones preferred.

    Args:
        run: run folder.
        device: where to compute.
        tta: average over several views, see `Predictor`.
        postprocess: clean the masks.
        uncertainty: `entropy` or `network`, in place of the config's `inference.uncertainty`.

    Raises:
        UserError: no run, or a checkpoint that is damaged, holds code, or does not fit the config.
    """
    from unia_med.build import build_method
    from unia_med.engine.checkpoint import load_checkpoint, load_weights
    from unia_med.inference.predictor import Predictor

    path = find_checkpoint(Path(run))
    state = load_checkpoint(path, keys=("config", "classes"))
    config = _run_config(Path(run), state, path)
    if uncertainty is not None:
        config = _with_uncertainty(config, uncertainty)
    # The weights are about to be replaced: pre-trained ones need not be there, and are not looked for.
    method = build_method(config.model_copy(update={"network": config.network.model_copy(update={"weights": "none"})}))
    load_weights(method, _weights(state, path), path)
    return Predictor(method, config, device, tta=tta, postprocess=postprocess)


def load_run_config(run: Path) -> RunConfig:
    """Return the resolved config of a run folder, with the temperature that was fitted for it.

    Args:
        run: run folder; one without `config.yaml`, as a teacher's is, has it in its checkpoint.
    """
    if (run / "config.yaml").is_file():
        return with_fitted_temperature(load_config(run / "config.yaml"), run)
    from unia_med.engine.checkpoint import load_checkpoint

    path = find_checkpoint(run)
    return with_fitted_temperature(parse_config(load_checkpoint(path, keys=("config",))["config"], path), run)


def with_fitted_temperature(config: RunConfig, run: Path) -> RunConfig:
    """Return the config with `inference.temperature` from `RUN/calibration.json`, unless set in the config or missing.

    Args:
        config: of the run.
        run: run folder.
    """
    from unia_med.engine.calibration import read_temperature

    fitted = None if config.inference.temperature is not None else read_temperature(run)
    if fitted is None:
        return config
    return config.model_copy(update={"inference": config.inference.model_copy(update={"temperature": fitted})})


def _with_uncertainty(config: RunConfig, kind: str) -> RunConfig:
    if kind not in UNCERTAINTIES:
        raise UserError(f"unknown uncertainty '{kind}'", remedy=suggestion(kind, UNCERTAINTIES))
    return config.model_copy(update={"inference": config.inference.model_copy(update={"uncertainty": kind})})


def _run_config(run: Path, state: dict[str, Any], path: Path) -> RunConfig:
    """`config.yaml`, in which a user may have changed the inference settings, or else the checkpoint's own config."""
    named = (run / "config.yaml").is_file()
    config = load_run_config(run) if named else with_fitted_temperature(parse_config(state["config"], path), run)
    stored = list(state["classes"])
    if stored not in (config.data.target_classes, ["background", *config.data.target_classes]):
        raise UserError(
            f"the checkpoint has the classes {stored}, its config {config.data.target_classes}",
            where=path,
            remedy="Put back the config.yaml with which the run was trained",
        )
    return config


def _weights(state: dict[str, Any], path: Path) -> dict[str, Any]:
    for key in ("ema", "model"):
        if state.get(key):
            return state[key]
    raise UserError(
        "the checkpoint lacks the weights of a model", where=path, remedy="Name another run, or train again"
    )
