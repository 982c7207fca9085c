"""From a trained model and a folder of images to the cases that should be annotated next, prefilled for a viewer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.build import build_dataset
from unia_med.config.data import DataConfig
from unia_med.config.load import parse_config, plain
from unia_med.config.schema import RunConfig
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.orientation import orient, orient_array, orient_back
from unia_med.data.io.volume import Volume
from unia_med.data.sample import CaseFiles
from unia_med.data.splits import split_cases
from unia_med.errors import UserError
from unia_med.labels import BACKGROUND, IGNORE
from unia_med.names import number_of
from unia_med.selection.choose import choose_cases, choose_slices, distances
from unia_med.selection.doubt import Look, look

if TYPE_CHECKING:
    from unia_med.inference.model import Model

LOG = logging.getLogger(__name__)

Track = Callable[[Sequence[CaseFiles]], Iterable[CaseFiles]]


@dataclass(frozen=True)
class Choice:
    """A case to annotate.

    Attributes:
        case: its files.
        slices: to annotate, counted from 0 along `data.grid.slice_axis`.
        doubt: mean uncertainty of these slices in and near the structures, 0 certain to 1.
        distance: to the nearest labelled or earlier chosen case; infinite where there is none.
        labels: uint8 (X, Y, Z) as stored: the values of the masks in these slices, 255 in all others.
        source: image on the same grid, for the header.
    """

    case: CaseFiles
    slices: list[int]
    doubt: float
    distance: float
    labels: np.ndarray
    source: Volume


@dataclass(frozen=True)
class Pool:
    """Where cases are chosen from.

    Attributes:
        data: settings with which these cases are read, and trained on.
        cases: candidates.
        labelled: cases of the run that have weak labels, where they can still be read.
    """

    data: DataConfig
    cases: list[CaseFiles]
    labelled: list[CaseFiles]


def find_pool(config: RunConfig, folder: Path, labelled: Sequence[str]) -> Pool:
    """Return the candidates in a folder: training cases of the run's own data set, or all images of another folder.

    A folder inside the data set that holds none of its cases, such as nnU-Net's `imagesTs`, is another folder. Cases
    that validate or test a run are not chosen from: their labels would change what its scores mean.

    Args:
        config: of the run.
        folder: of images.
        labelled: names of the run's cases that have labels already.

    Raises:
        UserError: no folder, no image in it, or nothing that is not labelled already.
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, remedy="Name the folder of the images to choose from")
    root = config.data.root
    parts = _own_cases(config) if root is not None and root.is_dir() else {}
    own = parts.get("train", [])
    known = [case for case in own if case.name in set(labelled)]
    inside = [case for cases in parts.values() for case in cases if _lies_in(case.image, folder)]
    if inside or (root is not None and folder.resolve() == root.resolve()):
        there, drawn = ({case.name for case in cases} for cases in (inside, known))
        pool = Pool(config.data, [case for case in own if case.name in there - drawn], known)
    else:
        data = _as_volumes(config, folder)
        pool = Pool(data, build_dataset(data).cases(), known)
    if not pool.cases:
        what = f"holds no training case without labels ({len(known)} have some)"
        remedy = (
            "Name a folder of images that nobody has annotated; those that validate or test the run are never chosen"
        )
        raise UserError(what, where=folder, remedy=remedy)
    return pool


def choose(model: Model, pool: Pool, count: int, slices: int, track: Track = lambda cases: cases) -> list[Choice]:
    """Return the cases to annotate next, the most useful first.

    Args:
        model: predicts all cases of the pool.
        pool: of `find_pool`.
        count: cases to choose.
        slices: of each.
        track: wraps the cases, to show progress.
    """
    cases = [*pool.cases, *pool.labelled]
    looks = [_look(model, case, pool.data) for case in track(cases)]
    chosen_slices = [choose_slices(one.doubt, slices) for one in looks]
    doubts = [float(one.doubt[z].mean()) for one, z in zip(looks, chosen_slices, strict=True)]
    labelled = range(len(pool.cases), len(cases))
    patients = [case.patient for case in cases]
    found = choose_cases(doubts, distances(looks), labelled, patients, count)
    if len(found) < count:
        LOG.info("%s asked for, %d found", number_of(count, "case"), len(found))
    return [_prefilled(model, cases[i], chosen_slices[i], doubts[i], d, pool.data) for i, d in found]


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _own_cases(config: RunConfig) -> dict[str, list[CaseFiles]]:
    """Cases of the run by part; one that learned without a data set has none."""
    try:
        parts: dict[str, list[CaseFiles]] = split_cases(
            build_dataset(config.data).cases(), config.data.split, config.seed
        )
    except UserError as error:
        LOG.warning("the cases that the run learned from cannot be read, so nothing is compared with them: %s", error)
        return {}
    return parts


def _as_volumes(config: RunConfig, folder: Path) -> DataConfig:
    """Return the run's settings for another folder of images, whose files need no layout."""
    values = plain(config)
    data = {name: values["data"][name] for name in ("classes", "groups", "channels", "grid", "workers", "cache")}
    data |= {"class_values": list(config.data.mask_values.values()), "name": "volumes", "root": str(folder.resolve())}
    endings = values["data"]["volumes"]["channel_endings"]
    data |= {"tags": {"source": "labels"}, "volumes": {"channel_endings": endings}}
    return parse_config({**values, "data": data, "prior": {}}, folder).data


def _predicted(model: Model, case: CaseFiles, data: DataConfig) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Image, labels and uncertainty of a case."""
    volume = ChannelFiles.of(data).read(case.image)
    (found,) = model.predictor.predict_frames([volume.with_channels() if data.channels > 1 else volume])
    return volume, found.labels, found.uncertainty


def _look(model: Model, case: CaseFiles, data: DataConfig) -> Look:
    volume, labels, uncertainty = _predicted(model, case, data)
    axis = data.grid.slice_axis
    turned = orient(volume, axis)
    labels, uncertainty = (orient_array(array, volume.affine, axis) for array in (labels, uncertainty))
    return look(np.asarray(turned.array), labels, uncertainty, turned.spacing_mm[:2], len(model.classes))


def _prefilled(
    model: Model, case: CaseFiles, slices: list[int], doubt: float, distance: float, data: DataConfig
) -> Choice:
    volume, labels, _ = _predicted(model, case, data)
    table = np.full(256, BACKGROUND, np.uint8)
    table[1 : len(model.classes) + 1] = _values(model.classes, data)
    turned = orient_array(table[labels], volume.affine, data.grid.slice_axis)
    shown = np.full(turned.shape, IGNORE, np.uint8)
    shown[:, :, slices] = turned[:, :, slices]
    stored = orient_back(shown, volume.affine, data.grid.slice_axis)
    return Choice(case, slices, doubt, distance, np.ascontiguousarray(stored), volume)


def label_values(data: DataConfig) -> dict[str, int]:
    """Return the value of each class in prefilled volumes: that of the masks, or 1, 2, ... where one of these is 255.

    Args:
        data: of the images that are annotated.
    """
    values = data.mask_values
    return dict(zip(values, range(1, IGNORE), strict=False)) if IGNORE in values.values() else values


def _values(classes: Sequence[str], data: DataConfig) -> list[int]:
    """Return the value in the labels of each predicted class; of a merged group, that of its first member."""
    members = data.groups or {name: [name] for name in data.classes}
    values = label_values(data)
    return [values[members[name][0]] for name in classes]
