"""The steps of a recipe: train a run, or let a trained run label volumes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from unia_med.build import check_root
from unia_med.config.load import apply_override, load_config, parse_config, plain
from unia_med.config.pipeline import LabelStepConfig
from unia_med.config.schema import DataConfig, RunConfig
from unia_med.errors import UserError, suggestion
from unia_med.labels import IGNORE
from unia_med.pipeline.recipe import merged, put
from unia_med.progress import tracked
from unia_med.run_files import RunFiles

if TYPE_CHECKING:
    from unia_med.data.sample import CaseFiles
    from unia_med.inference.predictor import Predictor

LABELS_SUFFIX = "_labels"
QUALITY_FILE = "quality.json"


class Step(ABC):
    """One stage with its settings checked.

    Args:
        settings: Of the stage, with the outputs of the stages it reads filled in.
        shared: What all stages of the recipe share.
        overrides: `key=value` texts that win over both.
        where: Recipe and stage, for messages.
    """

    @abstractmethod
    def __init__(
        self, settings: Mapping[str, Any], shared: Mapping[str, Any], overrides: Sequence[str], where: str
    ) -> None: ...

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return the settings that affect the outcome, as plain values."""

    @abstractmethod
    def inputs(self) -> list[Path]:
        """Return files and folders, other than outputs of stages, that affect the outcome."""

    @abstractmethod
    def check(self) -> None:
        """Refuse what would stop the work at once, before any stage runs and any folder is made."""

    @abstractmethod
    def run(self, folder: Path, device: str) -> int:
        """Do the work, or continue what is in the folder; return an exit code."""

    @abstractmethod
    def is_complete(self, folder: Path) -> bool:
        """Whether the folder holds what later stages read."""

    @staticmethod
    @abstractmethod
    def fill(values: Mapping[str, Any], key: str, folder: str, earlier: Step) -> dict[str, Any]:
        """Return a later stage's settings with the output of this kind of step filled in at a dotted key."""


class TrainStep(Step):
    """One `unia-med train`."""

    def __init__(
        self, settings: Mapping[str, Any], shared: Mapping[str, Any], overrides: Sequence[str], where: str
    ) -> None:
        values = merged(shared, settings)
        for text in overrides:
            apply_override(values, text)
        self.config = parse_config(values, where)

    def described(self) -> dict[str, Any]:
        """Return the config without what may change on resume."""
        from unia_med.engine.session import FREE_ON_RESUME

        values = plain(self.config)
        for name in FREE_ON_RESUME:
            *parents, last = name.split(".")
            level = values
            for parent in parents:
                level = level[parent]
            level.pop(last)
        return values

    def inputs(self) -> list[Path]:
        """Return the data folder, its tables and labels, and a weights file."""
        data, weights = self.config.data, Path(self.config.network.weights)
        paths = [data.root, data.tags.path, *(source.folder for source in data.labels)]
        return [path for path in paths if path is not None] + ([weights] if weights.is_file() else [])

    def check(self) -> None:
        """Refuse a data folder that is not named or not there."""
        check_root(self.config.data)

    def run(self, folder: Path, device: str) -> int:
        """Train, or continue from the last checkpoint."""
        from unia_med.engine.session import train
        from unia_med.runs import read_start

        resume = RunFiles(folder).last.is_file() and RunFiles(folder).config.is_file()
        if not resume:
            _clear(folder)  # killed before its first checkpoint
        return train(self.config, folder, resume, device, read_start)

    def is_complete(self, folder: Path) -> bool:
        """Return whether the best checkpoint is there."""
        return RunFiles(folder).best.is_file()

    @staticmethod
    def fill(values: Mapping[str, Any], key: str, folder: str, earlier: Step) -> dict[str, Any]:
        """Name the run folder; a classifier brings the settings of its network."""
        filled = put(values, key, folder)
        if key == "method.classifier" and isinstance(earlier, TrainStep):
            # The settings of that network are its stage's; here they would have to be typed again.
            return merged(put({}, "method.cam", plain(earlier.config.method)), filled)
        return filled


class LabelStep(Step):
    """A trained run labels the training volumes: one `CASE_labels.nii.gz` each, values as in the masks, 255 unknown."""

    def __init__(
        self, settings: Mapping[str, Any], shared: Mapping[str, Any], overrides: Sequence[str], where: str
    ) -> None:
        try:
            self.settings = LabelStepConfig.model_validate(dict(settings))
        except ValidationError as error:
            # A misspelt key comes before the required one that is missing for it.
            fault = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
            key = str(fault["loc"][0])
            remedy = suggestion(key, LabelStepConfig.model_fields) if fault["type"] == "extra_forbidden" else None
            raise UserError("unknown key" if remedy else fault["msg"], f"{where}: {key}", remedy) from None
        values = dict(shared)
        for text in overrides:
            apply_override(values, text)
        self.data = parse_config({"data": values.get("data", {})}, where).data

    def described(self) -> dict[str, Any]:
        """Return the stage's settings."""
        return plain(self.settings)

    def inputs(self) -> list[Path]:
        """Return the data folder."""
        return [] if self.data.root is None else [self.data.root]

    def check(self) -> None:
        """Refuse a data folder that is not there; without one it is that of the run."""
        if self.data.root is not None:
            check_root(self.data)

    def run(self, folder: Path, device: str) -> int:
        """Label every training volume."""
        from unia_med.build import build_dataset, resolve_device
        from unia_med.data.slices.dataset import build_slices
        from unia_med.data.splits import split_cases

        config = self._config()
        dataset = build_dataset(config.data)
        cases = split_cases(dataset.cases(), config.data.split, config.seed)["train"]
        labelled = config.data if self.settings.seeds == "labels" else config.data.model_copy(update={"labels": []})
        slices = build_slices(dataset, cases, labelled, cache_dir=RunFiles(folder).cache)
        predictor = self._predictor(config, str(resolve_device(device)))
        for case in tracked(cases, "labelling", len(cases)):
            target = _label_file(folder, case)
            if not target.is_file():
                seeds = slices.labels.get(case.name) if self.settings.seeds == "labels" and slices.labels else None
                self._label(predictor, case, slices.tags[slices.rows(case.name)], seeds, config.data, target)
        if self.settings.score:
            _write_quality(folder, _quality(folder, [case for case in cases if case.mask], dataset, config.data))
        (folder / "cases.txt").write_text("".join(f"{case.name}\n" for case in cases), encoding="utf-8")
        return 0

    def is_complete(self, folder: Path) -> bool:
        """Return whether every case that `cases.txt` lists has its labels."""
        listing = folder / "cases.txt"
        if not listing.is_file():
            return False
        names = listing.read_text(encoding="utf-8", errors="replace").split("\n")
        return all((folder / f"{name}{LABELS_SUFFIX}.nii.gz").is_file() for name in names if name)

    @staticmethod
    def fill(values: Mapping[str, Any], key: str, folder: str, earlier: Step) -> dict[str, Any]:
        """Name the labels as masks that leave pixels unknown."""
        source = {"kind": "masks", "source": "files", "folder": folder, "suffix": LABELS_SUFFIX}
        return put(values, key, [{**source, "marks_every_class": False}])

    def _config(self) -> RunConfig:
        """Return the run's config with the recipe's data folder and the stage's method settings."""
        stored = RunFiles(self.settings.run).config
        values = merged(plain(load_config(stored)), {"method": self.settings.method})
        if self.data.root is not None:
            values = put(values, "data.root", str(self.data.root))
        return parse_config(values, stored)

    def _predictor(self, config: RunConfig, device: str) -> Predictor:
        from unia_med.build import build_method
        from unia_med.engine.checkpoint import load_checkpoint, load_weights
        from unia_med.inference.predictor import Predictor
        from unia_med.runs import Run

        path = Run.open(self.settings.run).checkpoint
        bare = config.model_copy(update={"network": config.network.model_copy(update={"weights": "none"})})
        method = build_method(bare)
        load_weights(method, load_checkpoint(path, keys=("ema",))["ema"], path)
        return Predictor(method, config, device, postprocess=False)

    def _label(
        self,
        predictor: Predictor,
        case: CaseFiles,
        tags: np.ndarray,
        seeds: np.ndarray | None,
        data: DataConfig,
        target: Path,
    ) -> None:
        from unia_med.data.io.channels import ChannelFiles
        from unia_med.data.io.nifti import write_like
        from unia_med.data.io.read import read_volume

        volume = read_volume(case.image) if data.channels == 1 else ChannelFiles.of(data).read(case.image)
        maps = predictor.label_maps(volume, tags, seeds)
        if self.settings.column not in maps:
            where, remedy = f"{self.settings.run}: column", suggestion(self.settings.column, maps)
            raise UserError(f"the method makes no labels called '{self.settings.column}'", where, remedy)
        labels = mask_values(data)[maps[self.settings.column]]
        write_like(labels, replace(volume, array=labels, axes=""), target)


def mask_values(data: DataConfig) -> np.ndarray:
    """uint8 (256,): the value that stands in a mask file for each label; a merged class takes its first member's.

    Args:
        data: Classes, their values and groups.
    """
    table = np.full(256, IGNORE, np.uint8)
    table[0] = 0
    values = data.mask_values
    members = list(data.groups.values()) if data.groups else [[name] for name in data.classes]
    for label, names in enumerate(members, start=1):
        table[label] = values[names[0]]
    return table


def _quality(folder: Path, cases: Sequence[CaseFiles], dataset: Any, data: DataConfig) -> dict[str, Any]:
    """Mean 3D Dice per class over the cases with a mask, and the share of voxels that are labelled at all."""
    from unia_med.data.io.read import read_volume
    from unia_med.data.weak_labels.tags import group_labels
    from unia_med.metrics.overlap import dice

    table, names = mask_values(data), data.target_classes
    rows, covered = [], []
    for case in cases:
        truth = dataset.labels(case)
        truth = group_labels(truth, data.classes, data.groups) if data.groups else truth
        found = read_volume(_label_file(folder, case)).array
        covered.append(float((found != IGNORE).mean()))
        scores = [dice(found == table[label], truth == label) for label in range(1, len(names) + 1)]
        any_class = dice((found != IGNORE) & (found > 0), truth > 0)
        rows.append([np.nan if value is None else value for value in (*scores, any_class)])
    means = np.nanmean(np.array(rows, dtype=float).reshape(-1, len(names) + 1), axis=0) if rows else []
    return {
        "cases": len(rows),
        "dice": dict(zip([*names, "any class"], (round(float(value), 4) for value in means), strict=False)),
        "labelled": round(float(np.mean(covered)), 4) if covered else None,
    }


def _write_quality(folder: Path, quality: Mapping[str, Any]) -> None:
    from unia_med.files import write_text

    write_text(folder / QUALITY_FILE, json.dumps(quality, indent=2) + "\n")
    scores = ", ".join(f"{name} {value:.3f}" for name, value in quality["dice"].items())
    print(f"  labels of {quality['cases']} cases with masks: Dice {scores}; {quality['labelled']} of voxels labelled")


def _label_file(folder: Path, case: CaseFiles) -> Path:
    return folder / f"{case.name}{LABELS_SUFFIX}.nii.gz"


def _clear(folder: Path) -> None:
    import shutil

    if folder.exists():
        shutil.rmtree(folder)
