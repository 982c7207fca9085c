"""Writes a choice: label volumes for a viewer, a table, and the config of the training that learns from them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unia_med.config.data import DataConfig
from unia_med.config.load import dump_config, parse_config, plain
from unia_med.config.schema import RunConfig
from unia_med.data.io.image import write_mask
from unia_med.data.io.nifti import write_like
from unia_med.data.io.suffixes import is_image
from unia_med.errors import UserError
from unia_med.files import require_writable, write_json, write_text
from unia_med.labels import IGNORE
from unia_med.names import spreadsheet_text
from unia_med.selection.annotate import Choice, Pool, label_values

ENDING = "_masks"
"""Of the label volumes: that of masks, which `predict` and data sets never take for images."""

LABELLED_SHARE = 0.5
"""Share of slices with labels in the batches of the next training, where its run leaves it to chance."""


@dataclass(frozen=True)
class Written:
    """What a choice left on the disk.

    Attributes:
        folder: of all of it.
        labels: the label volume of each chosen case.
        table: `next.csv`.
        config: of the next training.
    """

    folder: Path
    labels: list[Path]
    table: Path
    config: Path


def require_new(folder: Path) -> None:
    """Refuse a folder that holds something: volumes there may have been corrected by hand.

    Args:
        folder: where a choice is to be written.

    Raises:
        UserError: it is not empty, or cannot be written.
    """
    require_writable(folder, folder=True)
    if folder.is_dir() and any(folder.iterdir()):
        what = "is not empty, and label volumes that were corrected there would be overwritten"
        raise UserError(what, where=folder, remedy="Name another folder with --output")


def write_choice(choices: Sequence[Choice], pool: Pool, config: RunConfig, start: str, folder: Path) -> Written:
    """Write label volumes, `classes.json`, `next.csv` and `next.yaml`.

    Args:
        choices: in order.
        pool: they were chosen from.
        config: of the run that chose.
        start: the run, as `training.start_from` names it.
        folder: new or empty.
    """
    require_new(folder)
    files = [folder / "labels" / f"{choice.case.name}{ENDING}{_suffix(choice)}" for choice in choices]
    for choice, path in zip(choices, files, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_image(path):  # a picture's viewer opens no volume
            write_mask(choice.labels[:, :, 0], path)
        else:
            write_like(choice.labels, choice.source, path)
    names = {str(value): name for name, value in label_values(pool.data).items()}
    write_json(folder / "classes.json", {**names, str(IGNORE): "not annotated"})
    write_text(folder / "next.csv", _table(choices, files, folder))
    dump_config(next_config(choices, pool, config, start, folder / "labels"), folder / "next.yaml")
    return Written(folder, files, folder / "next.csv", folder / "next.yaml")


def _suffix(choice: Choice) -> str:
    """Return the suffix of a prefilled file: a picture gets a picture, in the colours of VOC's palette."""
    return ".png" if is_image(choice.case.image) else ".nii.gz"


def next_config(choices: Sequence[Choice], pool: Pool, config: RunConfig, start: str, labels: Path) -> RunConfig:
    """Return the config of the training that learns from corrected volumes, which win over all other labels.

    Args:
        choices: their patients are in the training part.
        pool: they were chosen from.
        config: of the run that chose.
        start: see `write_choice`.
        labels: folder of the volumes.
    """
    values = plain(config)
    source = {
        "kind": "masks",
        "source": "files",
        "folder": str(labels.resolve()),
        "suffix": ENDING,
        "values": label_values(pool.data),
        "background_value": 0,
        "ignore_value": IGNORE,
    }
    data = plain(pool.data)
    earlier = data["labels"] if pool.data is config.data else []
    data |= {"root": str(Path(data["root"]).resolve()), "labels": [source, *earlier]}
    if pool.data is not config.data:
        data["split"] = _split(choices, pool.data, pool, config)
    training = {**values["training"], "start_from": start}
    training["labelled_share"] = training["labelled_share"] or LABELLED_SHARE
    inference = {**values["inference"], "temperature": None}  # that of the run was fitted to other weights
    return parse_config({**values, "data": data, "training": training, "inference": inference}, labels)


def _split(choices: Sequence[Choice], data: DataConfig, pool: Pool, config: RunConfig) -> dict[str, Any]:
    """Train on what is annotated, and on the other images where the method labels them itself."""
    learns_from_all = bool(config.prior.names) or config.prior.rounds > 1
    cases = pool.cases if learns_from_all else [choice.case for choice in choices]
    return {"kind": "lists", "train": sorted({case.patient for case in cases}), "val": [], "test": []}


def _table(choices: Sequence[Choice], files: Sequence[Path], folder: Path) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["rank", "case", "slices", "doubt", "distance", "image", "labels"])
    for rank, (choice, path) in enumerate(zip(choices, files, strict=True), start=1):
        slices = " ".join(map(str, choice.slices))
        distance = f"{choice.distance:.3f}" if math.isfinite(choice.distance) else ""
        name, place = spreadsheet_text(choice.case.name), path.relative_to(folder).as_posix()
        image = spreadsheet_text(str(choice.case.image))
        table.writerow([rank, name, slices, f"{choice.doubt:.4f}", distance, image, spreadsheet_text(place)])
    return text.getvalue()
