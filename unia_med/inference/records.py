"""What is written next to predicted masks: a summary of all cases, the names of labels, and where each mask is from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unia_med import __version__
from unia_med.files import write_json, write_text
from unia_med.inference.predictor import Segmentation

CLASSES, SUMMARY = "classes.json", "summary.csv"

DOUBTFUL = 0.35
"""Mean uncertainty of the voxels of a mask from which a person should look at it."""


@dataclass
class Tally:
    """Counts a segmentation while its frames pass by.

    Attributes:
        voxels: of each label, over all frames.
        uncertainty: of the voxels that are some class, frame by frame.
    """

    voxels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    uncertainty: list[np.ndarray] = field(default_factory=list)

    def watched(self, frames: Iterable[Segmentation]) -> Iterator[Segmentation]:
        """Yield frames as they are, and count them.

        Args:
            frames: of one image.
        """
        for frame in frames:
            self.voxels += np.bincount(frame.labels.ravel(), minlength=256)
            self.uncertainty.append(frame.uncertainty[frame.labels > 0].astype(np.float16))
            yield frame

    def row(self, name: str, classes: Sequence[str], voxel_ml: float | None) -> dict[str, Any]:
        """Return the row of `summary.csv`.

        Args:
            name: of the case.
            classes: of the labels 1, 2, 3, ...
            voxel_ml: volume of a voxel; None for pictures, whose pixels are counted.
        """
        doubt = np.concatenate(self.uncertainty).astype(np.float32) if self.uncertainty else np.zeros(0)
        mean, high = (float(doubt.mean()), float(np.percentile(doubt, 95))) if doubt.size else (None, None)
        unit, factor = ("pixels", 1.0) if voxel_ml is None else ("ml", voxel_ml)
        volumes = {f"{label}_{unit}": round(float(self.voxels[i]) * factor, 3) for i, label in enumerate(classes, 1)}
        review = mean is None or mean > DOUBTFUL
        shown = {"uncertainty_mean": mean, "uncertainty_p95": high}
        rounded = {key: None if value is None else round(value, 4) for key, value in shown.items()}
        return {"case": name, **volumes, **rounded, "review": int(review)}


def write_case_record(path: Path, facts: Mapping[str, Any]) -> None:
    """Write `NAME_seg.json` next to a mask.

    Args:
        path: the mask.
        facts: model, settings, source and figures.
    """
    stem = path.name[: path.name.index("_seg") + 4] if "_seg" in path.name else path.stem
    write_json(path.with_name(f"{stem}.json"), {"unia_med": __version__, **facts})


def write_folder_records(output: Path, classes: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `classes.json`, and `summary.csv` with the rows of earlier calls for cases that are not among these.

    Args:
        output: folder of the masks.
        classes: of the labels 1, 2, 3, ...
        rows: of the cases that were predicted now, at least one.
    """
    write_json(output / CLASSES, {str(value): name for value, name in enumerate(classes, start=1)})
    head = list(dict.fromkeys(key for row in rows for key in row))  # pictures and volumes have other columns
    new = {str(row["case"]) for row in rows}
    kept = [row for row in _earlier(output / SUMMARY, head) if row["case"] not in new]
    text = io.StringIO()
    table = csv.DictWriter(text, head, lineterminator="\n", restval="")
    table.writeheader()
    table.writerows(sorted([*kept, *rows], key=lambda row: str(row["case"])))
    write_text(output / SUMMARY, text.getvalue())


def _earlier(path: Path, head: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        return list(table) if list(table.fieldnames or ()) == list(head) else []
