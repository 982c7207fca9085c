"""A run folder, opened once and handed down: config, weights, scores, and the predictor made of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.config.load import differences, load_config, parse_config, plain, read_yaml
from unia_med.config.schema import RunConfig
from unia_med.errors import UserError, suggestion
from unia_med.files import at_home, content_digest
from unia_med.run_files import RunFiles, read_fold_count, read_metrics, read_names

if TYPE_CHECKING:
    import torch

    from unia_med.data.io.channels import ChannelFiles
    from unia_med.inference.likeness import Likeness
    from unia_med.inference.predictor import Predictor
    from unia_med.methods.base import Method

UNCERTAINTIES = ("entropy", "network")
"""Kinds that `inference.uncertainty` knows."""

_MODELS = Path(__file__).resolve().parent / "models"
_SECTIONS = ("data", "network", "method", "training", "inference")
_FIRST = "members.0."
"""Before the names of the weights of the first network of an average, in a bundle."""

_DECIDES = ("data.grid.", "data.channels", "data.volumes.channel_endings", "network.", "method.")
"""Settings that decide what is predicted, and should be those of the training."""
_MASKS = "validation masks"
"""In what is noted of a run that was calibrated."""
_MAY_CHANGE = ("network.weights", "method.use")

_LOG = logging.getLogger(__name__)

_TRAINED = "Give the folder that `unia-med train --output` named"


class Run:
    """A run folder of `unia-med train`, or a model that came with the package; files are read when needed.

    Args:
        folder: run folder.
        shipped: name of the shipped model that it is.

    Attributes:
        folder: as given.
        files: names of what lies in it.
        shipped: as given.

    Example:
        >>> Run.open("runs/acdc").predictor(tta=True)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, shipped: str | None = None) -> None:
        self.folder, self.shipped = folder, shipped
        self.files = RunFiles(folder)

    @classmethod
    def open(cls, source: Path | str | os.PathLike[str] | Run) -> Run:
        """Return a run by its folder, or a shipped model by its name; an existing folder wins.

        Args:
            source: run folder, or a name as `unia-med models` lists it; a run is returned as it is.

        Raises:
            UserError: there is no such folder and no such model.
        """
        if isinstance(source, Run):
            return source
        folder = at_home(source)
        if folder.is_dir():
            return cls(folder)
        if folder.exists():
            raise UserError("is a file, not a run folder", where=folder, remedy=_TRAINED)
        models = shipped_models()
        if str(source) in models:
            return cls(models[str(source)], str(source))
        raise UserError("no such run folder", where=folder, remedy=_known_models(str(source), models))

    @property
    def name(self) -> str:
        """Name of the folder, or of the shipped model."""
        return self.shipped or self.folder.resolve().name

    @cached_property
    def checkpoint(self) -> Path:
        """Checkpoint that predicts best; it is not opened.

        Raises:
            UserError: the folder holds none.
        """
        found = self.files.to_predict_with()
        if found is None and self.files.folds.is_file():
            what = "holds the folds of a run, and this is done with one model"
            raise UserError(what, where=self.folder, remedy=f"Name one of them, such as {self.files.fold(0)}")
        if found is None:
            what = "holds no checkpoints/best.pt and no checkpoints/last.pt"
            remedy = f"{_TRAINED}; one that was interrupted goes on with --resume"
            raise UserError(what, where=self.folder, remedy=remedy)
        if found == self.files.last:
            _LOG.warning("%s: is missing, so last.pt predicts, the state with which training goes on", self.files.best)
        return found

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where it lies."""
        return (self.folder,)

    @cached_property
    def weights(self) -> dict[str, str]:
        """Hash of the checkpoint that predicts, by the run's name."""
        return {self.name: content_digest(self.checkpoint)}

    @cached_property
    def config(self) -> RunConfig:
        """Resolved config with the temperature that was fitted, unless it names one.

        It is `config.yaml`, in which a user may have changed the inference settings; a folder without one, as a
        teacher's is, has it in its checkpoint.
        """
        from unia_med.engine.calibration import read_temperature

        config = _whole_config(self.files.config) if self.files.config.is_file() else self._stored_config()
        fitted = None if config.inference.temperature is not None else read_temperature(self.folder)
        if fitted is None and config.inference.temperature is None and self._was_calibrated:
            _LOG.warning("%s: is missing, so the uncertainty is as the network gives it", self.files.calibration)
        return config if fitted is None else _with_inference(config, temperature=fitted)

    @property
    def _was_calibrated(self) -> bool:
        """Whether validation masks, to which a temperature is fitted, were looked at after training."""
        return self.shipped is None and self.likeness is not None and _MASKS in str(self.likeness.review_reason)

    @cached_property
    def labelled(self) -> list[str]:
        """Names of the training cases that had weak labels; none of a run of an earlier version."""
        return read_names(self.files.labelled)

    @cached_property
    def folds(self) -> list[Run]:
        """The runs of the folds that `train --folds` trained here; empty of any other run.

        Raises:
            UserError: some are not finished.
        """
        path = self.files.folds
        if not path.is_file():
            return []
        count = read_fold_count(path)
        runs = [Run(self.files.fold(number)) for number in range(count)]
        done = [run.folder for run in runs if run.files.finished.is_file()]
        if len(done) < count or not self.files.config.is_file():
            names = f", or name those that are: --model {' '.join(map(str, done))}" if done else ""
            what = f"{len(done)} of {count} folds are finished"
            remedy = f"Go on with `unia-med train --folds {count} --resume`{names}"
            raise UserError(what, where=self.folder, remedy=remedy)
        return runs

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that are predicted, without background, in label order."""
        return tuple(self.config.data.target_classes)

    @property
    def kind(self) -> str:
        """`run`, or `shipped model`."""
        return "run" if self.shipped is None else "shipped model"

    @property
    def spacing_mm(self) -> float | None:
        """Pixel size in plane to which images are brought; None where they stay as they are."""
        return self.config.data.grid.spacing_mm

    @property
    def ct(self) -> bool | None:
        """Whether it learned from CT; None where that is not known, or from both."""
        if self.likeness is None:
            return False if self.config.data.name in ("acdc", "synthetic") else None  # MR, and slices drawn like it
        return None if len(self.likeness.modalities) != 1 else self.likeness.modalities == ["CT"]

    @property
    def in_pixels(self) -> bool:
        """Whether it learned from pictures, without millimetres."""
        return self.config.data.grid.units == "pixels"

    @property
    def channel_files(self) -> ChannelFiles:
        """How many channels images have, and how files store them."""
        from unia_med.data.io.channels import ChannelFiles

        return ChannelFiles.of(self.config.data)

    @cached_property
    def likeness(self) -> Likeness | None:
        """What the images were like that it was trained on; None for runs of earlier versions."""
        from unia_med.inference.likeness import read_likeness

        return read_likeness(self.files.images)

    def split_images(self, root: Path, part: str) -> list[tuple[str, Path]]:
        """Return name and file of the images of one part of a data set, by the run's own layout and split.

        Args:
            root: folder of the data set.
            part: `train`, `val` or `test`.

        Raises:
            UserError: no such data set, or nothing in this part.
        """
        from unia_med.build import build_dataset
        from unia_med.data.splits import split_cases

        dataset = build_dataset(self.config.data.model_copy(update={"root": root}))
        parts = split_cases(dataset.cases(), self.config.data.split, self.config.seed)
        if part not in parts:
            raise UserError(f"unknown part '{part}'", where="split", remedy=suggestion(part, parts))
        if not parts[part]:
            raise UserError(f"the run's split leaves no {part} case", where=root, remedy="Leave out --split")
        return [(case.name, case.image) for case in parts[part]]

    @property
    def metrics(self) -> list[dict[str, float]]:
        """Rows of metrics.csv with the cells that hold a number; a run writes one at each validation.

        Raises:
            UserError: there is no metrics.csv, or it is no table of numbers.
        """
        return read_metrics(self.files.metrics)

    def predictor(
        self,
        device: torch.device | str = "cpu",
        *,
        tta: bool | None = None,
        postprocess: bool = True,
        uncertainty: str | None = None,
        runtime: str = "torch",
    ) -> Predictor:
        """Return what segments images with this run's weights, averaged ones preferred.

        Args:
            device: where to compute.
            tta: average over several views, see `Predictor`; None: where the config does so by default.
            postprocess: clean the masks.
            uncertainty: `entropy` or `network`, in place of the config's `inference.uncertainty`.
            runtime: `torch`, or `onnx` or `openvino`, which compute on the CPU.

        Raises:
            UserError: no checkpoint, or one that is damaged, holds code, or does not fit the config.
        """
        from unia_med.inference.predictor import Predictor

        method = self.method()
        config = self.config
        if uncertainty is not None:
            if uncertainty not in UNCERTAINTIES:
                raise UserError(f"unknown uncertainty '{uncertainty}'", remedy=suggestion(uncertainty, UNCERTAINTIES))
            config = _with_inference(config, uncertainty=uncertainty)
        return Predictor(method, config, device, tta=tta, postprocess=postprocess, runtime=runtime)

    def method(self) -> Method:
        """Return the trained method with its weights, on the CPU.

        Raises:
            UserError: as `predictor`.
        """
        from unia_med import build
        from unia_med.engine.checkpoint import load_checkpoint, load_weights
        from unia_med.nn.lite0 import FROM_RUN

        state = load_checkpoint(self.checkpoint, keys=("config", "classes"))
        _check_classes(list(state["classes"]), self.config, self.checkpoint)
        _note_changes(self.config, state["config"], self.files.config)
        # The weights are about to be replaced: pre-trained ones need not be there, and are not looked for.
        own = self.config.network.backbone != "vit" and self.config.method.name != "custom"
        weights = FROM_RUN if own else "none"
        network = self.config.network.model_copy(update={"weights": weights})
        method = build.build_method(self.config.model_copy(update={"network": network}))
        load_weights(method, _weights(state, self.checkpoint), self.checkpoint)
        return method

    def __repr__(self) -> str:
        """Return the folder, the method and the classes."""
        try:
            known = f", {self.config.method.name}, classes {', '.join(self.classes)}"
        except UserError:
            known = ""
        return f"Run({self.shipped or self.folder}{known})"

    def _stored_config(self) -> RunConfig:
        from unia_med.engine.checkpoint import load_checkpoint

        return parse_config(load_checkpoint(self.checkpoint, keys=("config",))["config"], self.checkpoint)


def read_start(source: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return weights and class names of a run, a shipped model or a bundle.

    Args:
        source: folder, or name of a shipped model.

    Raises:
        UserError: there is none, or its weights cannot be read.
    """
    from unia_med.inference.bundle import Bundle, is_bundle
    from unia_med.nn.lite0 import load_state_file

    folder = at_home(source)
    if not is_bundle(folder):
        run = Run.open(source)
        if run.folds:
            remedy = f"Start from one of them, --from {run.files.fold(0)}, or train --folds {len(run.folds)}"
            raise UserError("holds the folds of a run, and a training starts from one", source, remedy)
        return dict(run.method().state_dict()), list(run.classes)
    weights = load_state_file(folder / "models" / "model.pt")
    first = {name.removeprefix(_FIRST): value for name, value in weights.items() if name.startswith(_FIRST)}
    return first or weights, list(Bundle(folder).classes)  # of the bundle of an average, the first network


def shipped_models() -> dict[str, Path]:
    """Return the folders of the models that came with the package, by the name that a user types."""
    folders = sorted(_MODELS.iterdir()) if _MODELS.is_dir() else []
    return {path.name.replace("_", "-"): path for path in folders if RunFiles(path).config.is_file()}


def _whole_config(path: Path) -> RunConfig:
    """Return the config of a run, which holds every section; one that was cut off would mean other settings."""
    lacking = [name for name in _SECTIONS if name not in read_yaml(path)]
    if lacking:
        what = f"is empty or cut off: it lacks {', '.join(lacking)}"
        raise UserError(what, where=path, remedy="Put back the config.yaml with which the run was trained")
    return load_config(path)


def _known_models(name: str, models: dict[str, Path]) -> str:
    # A path was meant where it has a folder in it; a bare name may be a misspelt model.
    if len(Path(name).parts) > 1 or not models:
        return _TRAINED
    return f"{_TRAINED}, or the name of a shipped model. {suggestion(name, models)}"


def _with_inference(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"inference": config.inference.model_copy(update=changes)})


def _check_classes(stored: list[str], config: RunConfig, path: Path) -> None:
    if stored not in (config.data.target_classes, ["background", *config.data.target_classes]):
        raise UserError(
            f"the checkpoint has the classes {stored}, its config {config.data.target_classes}",
            where=path,
            remedy="Put back the config.yaml with which the run was trained",
        )


def _note_changes(config: RunConfig, stored: Mapping[str, Any], path: Path) -> None:
    """Say which settings of a `config.yaml` are not those of the training, as after an edit or a damage."""
    try:
        trained = plain(parse_config(stored))
    except UserError:  # of an earlier version; whether the weights fit shows in a moment
        return
    names = [name for name in differences(plain(config), trained) if name.startswith(_DECIDES)]
    changed = [name for name in names if name not in _MAY_CHANGE]
    if changed:
        _LOG.warning("%s: other settings than those of the training: %s. Masks may be wrong", path, ", ".join(changed))


def _weights(state: dict[str, Any], path: Path) -> dict[str, Any]:
    for key in ("ema", "model"):
        if state.get(key):
            return state[key]
    raise UserError(
        "the checkpoint lacks the weights of a model", where=path, remedy="Name another run, or train again"
    )
