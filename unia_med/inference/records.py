"""Records next to predicted masks: a summary of all cases, the names of labels, and the origin of each mask."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unia_med import __version__
from unia_med.data.io.suffixes import volume_stem
from unia_med.distributed import WHOLE, Piece
from unia_med.errors import UserError
from unia_med.files import read_json, read_rows, write_json, write_text
from unia_med.inference.likeness import Likeness, Seen
from unia_med.inference.predictor import Segmentation
from unia_med.names import spreadsheet_text, without_apostrophe

CLASSES, SUMMARY, SHARDS = "classes.json", "summary.csv", "shards"

_DICOM_SOURCE = re.compile(r"DICOM series (\d+)")
_INFINITE = 0x7C00
"""Bits of infinity in half precision; above zero, larger numbers have larger bits up to here."""

DOUBTFUL = 0.35
"""Mean uncertainty of the voxels of a mask from which a person should look at it, for runs that kept no number."""

MUCH_REMOVED = 0.1
"""Share of a mask removed by post-processing from which it is said."""


@dataclass(frozen=True)
class Judged:
    """What is known of an image beyond its mask.

    Attributes:
        removed: share of the mask that post-processing removed; None where nobody looked, as of a bundle.
        score: how unlike the training images it is, see `Likeness.score`.
        threshold: mean uncertainty from which a person should look at the mask.
        warnings: a sentence each; any of them calls for a review.
    """

    removed: float | None = None
    score: float | None = None
    threshold: float = DOUBTFUL
    warnings: tuple[str, ...] = ()


def judged(seen: Seen | None, likeness: Likeness | None) -> Judged:
    """Return what is known of an image.

    Args:
        seen: what was noted while it was predicted, or None.
        likeness: what the training images were like, or None.
    """
    known = likeness.review if likeness is not None and likeness.review is not None else DOUBTFUL
    if seen is None:
        return Judged(threshold=known)
    warnings = []
    if likeness is not None and (differences := likeness.differences(seen)):
        warnings.append(f"unlike the images of the training: {'; '.join(differences)}")
    if seen.removed_share > MUCH_REMOVED:
        percent = f"{100 * seen.removed_share:.0f} %"
        warnings.append(f"post-processing removed {percent} of the mask; compare with --no-postprocess")
    score = None if likeness is None else likeness.score(seen)
    return Judged(seen.removed_share, score, known, tuple(warnings))


@dataclass
class Tally:
    """Counts a segmentation while its frames pass by.

    Attributes:
        voxels: of each label, over all frames.
        frames: how many have passed.
        doubts: how many voxels of some class have which uncertainty, by the bits of its half precision.
    """

    voxels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    doubts: np.ndarray = field(default_factory=lambda: np.zeros(1 << 16, np.int64))
    frames: int = 0

    def watched(self, frames: Iterable[Segmentation]) -> Iterator[Segmentation]:
        """Yield frames as they are, and count them.

        Args:
            frames: of one image.
        """
        for frame in frames:
            self.frames += 1
            for number in range(frame.labels.shape[2]):  # numpy counts in 64 bits: slice by slice for memory
                labels, doubt = frame.labels[:, :, number], frame.uncertainty[:, :, number]
                self.voxels += np.bincount(labels.ravel(), minlength=256)
                half = np.abs(doubt[labels > 0]).astype(np.float16)
                self.doubts += np.bincount(half.view(np.uint16), minlength=1 << 16)
            yield frame

    def volumes_ml(self, classes: Sequence[str], voxel_ml: float) -> dict[str, float]:
        """Return the volume of each class, mean over frames.

        Args:
            classes: of the labels 1, 2, 3, ...
            voxel_ml: volume of a voxel.
        """
        return {name: float(self.voxels[i]) * voxel_ml / max(1, self.frames) for i, name in enumerate(classes, 1)}

    def uncertainty(self) -> tuple[float, float] | None:
        """Return mean and 95th percentile over the voxels that are some class; None where none is, or none is known."""
        known = self.doubts[: _INFINITE + 1]  # what follows is NaN: a model that gives no uncertainty
        total = int(known.sum())
        if not total:
            return None
        values = np.arange(_INFINITE + 1, dtype=np.uint16).view(np.float16).astype(np.float64)
        used = known > 0
        upto, values = np.cumsum(known[used]), values[used]
        place = 0.95 * (total - 1)
        low, high = (values[np.searchsorted(upto, at, side="right")] for at in (math.floor(place), math.ceil(place)))
        return float(values @ known[used]) / total, float(low + (place - math.floor(place)) * (high - low))

    def row(
        self, name: str, classes: Sequence[str], voxel_ml: float | None, known: Judged = Judged()
    ) -> dict[str, Any]:
        """Return the row of `summary.csv`; volumes of a cine are the mean over its frames.

        Args:
            name: of the case.
            classes: of the labels 1, 2, 3, ...
            voxel_ml: volume of a voxel; None for pictures, whose pixels are counted.
            known: of the image, beyond its mask.
        """
        mean, high = self.uncertainty() or (None, None)
        # Of a cine the mean over its frames: a sum of volumes at many times is no volume.
        unit, factor = ("pixels", 1.0) if voxel_ml is None else ("ml", voxel_ml / max(1, self.frames))
        volumes = {f"{label}_{unit}": round(float(self.voxels[i]) * factor, 3) for i, label in enumerate(classes, 1)}
        review = mean is None or mean > known.threshold or bool(known.warnings)
        shown = {
            "uncertainty_mean": mean,
            "uncertainty_p95": high,
            "removed_share": known.removed,
            "unlike_training": known.score,
        }
        rounded = {key: None if value is None else round(value, 4) for key, value in shown.items()}
        return {"case": name, **volumes, **rounded, "review": int(review)}


def write_case_record(path: Path, facts: Mapping[str, Any]) -> None:
    """Write `NAME_seg.json` next to a mask.

    Args:
        path: the mask.
        facts: model, settings, source and figures.
    """
    stem = path.name[: path.name.rindex("_seg") + 4] if "_seg" in path.name else volume_stem(path)
    write_json(path.with_name(f"{stem}.json"), {"unia_med": __version__, **facts})


def read_case_record(folder: Path, name: str) -> dict[str, Any]:
    """Return what `NAME_seg.json` says of a mask; nothing where there is no such file.

    Args:
        folder: of the mask.
        name: of its case.

    Raises:
        UserError: it is damaged.
    """
    path = folder / f"{name}_seg.json"
    record = read_json(path) if path.is_file() else {}
    lists = ("sources", "warnings")
    if not isinstance(record, dict) or not all(isinstance(record.get(key, []), list) for key in lists):
        raise UserError("is no record of a mask", path, "Remove it, or predict again")
    return record


def source_series(folder: Path, name: str) -> list[int]:
    """Return the numbers of the DICOM series that a mask was made of, by its record; none where nothing says so.

    Args:
        folder: of the mask.
        name: of its case.
    """
    found = (_DICOM_SOURCE.fullmatch(str(source)) for source in read_case_record(folder, name).get("sources", ()))
    return [int(match[1]) for match in found if match]


def check_folder_records(output: Path) -> None:
    """Make sure, before any work is done, that the rows of earlier calls can be read.

    Args:
        output: folder of the masks; may be missing.

    Raises:
        UserError: its `summary.csv` is damaged, or none of this package.
    """
    _rows(output / SUMMARY)


def write_folder_records(
    output: Path, classes: Sequence[str], rows: Sequence[Mapping[str, Any]], piece: Piece = WHOLE
) -> None:
    """Write `classes.json`, and `summary.csv` with the rows of earlier calls for cases that are not among these.

    One of several parts writes its own table, `shards/2_of_8.csv`, so that none overwrites another's rows; whoever
    finds the tables of all parts joins them. A part that is run again joins them again.

    Args:
        output: folder of the masks.
        classes: of the labels 1, 2, 3, ...
        rows: of the cases that were predicted now.
        piece: which of several parts these are.
    """
    if not rows and piece == WHOLE:
        return
    write_json(output / CLASSES, {str(value): name for value, name in enumerate(classes, start=1)})
    if piece == WHOLE:
        _write_table(output / SUMMARY, rows)
        return
    tables = [output / SHARDS / f"{number + 1}_of_{piece.count}.csv" for number in range(piece.count)]
    _write_table(tables[piece.index], rows)
    joined = [{**row, "case": without_apostrophe(row["case"])} for table in tables for row in _rows(table)]
    if joined and all(table.is_file() for table in tables):
        _write_table(output / SUMMARY, joined)


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, and those of the file for other cases with the same columns."""
    head = list(dict.fromkeys(key for row in rows for key in row))  # pictures and volumes have other columns
    rows = [{**row, "case": spreadsheet_text(str(row["case"]))} for row in rows]
    new = {row["case"] for row in rows}
    earlier = _rows(path)
    head = head or list(earlier[0] if earlier else ["case"])
    kept = [row for row in earlier if list(row) == head and row["case"] not in new]
    text = io.StringIO()
    table = csv.DictWriter(text, head, lineterminator="\n", restval="")
    table.writerow({name: spreadsheet_text(name) for name in head})
    table.writerows(sorted([*kept, *rows], key=lambda row: str(row["case"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def _rows(path: Path) -> list[dict[str, str]]:
    return read_rows(path, "case", "Move it away, or restore it from a copy") if path.is_file() else []
