"""The items of a data set: the files of a case, a training sample, an evaluation case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from unia_med.data.io.volume import Volume
from unia_med.names import safe_name

if TYPE_CHECKING:  # torch is only needed by the loaders, and `evaluate` should start without it
    from torch import Tensor


Part = Literal["train", "val", "test"]
"""Part of a split."""


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case: one frame of one patient.

    Args:
        name: Name used in tables and output files, e.g. "patient001_frame01"; any text, with / where results shall
            lie in sub-folders; made safe by `safe_name`.
        patient: Patient the case belongs to; splits never divide a patient.
        image: Image volume.
        mask: Dense mask, or None for a case that has none (a test set).
        frame: Frame number as written in the file name.
        phase: "ED" (end-diastole), "ES" (end-systole) or None where phases are unknown.
        group: Diagnosis group, or None.
        part: "train", "val" or "test" where the data set itself says so, for `data.split.kind: given`.
        labels: Weak label files by kind ("scribbles", "points", ...) that belong to the image.
    """

    name: str
    patient: str
    image: Path
    mask: Path | None = None
    frame: int = 0
    phase: Literal["ED", "ES"] | None = None
    group: str | None = None
    part: Part | None = None
    labels: Mapping[str, Path] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Make the name safe, so that results named by it lie inside the folder that was asked for."""
        object.__setattr__(self, "name", safe_name(self.name))


class Sample(TypedDict, total=False):
    """One training slice. It has no field for a dense mask, so that none can leak into training.

    Keys:
        image: float32 (C, H, W) in [0, 1].
        tags: int8 (T,); 1 present, 0 absent, -1 unknown.
        index: Position of the slice in its data set.
        labels: uint8 (H, W) weak labels, IGNORE where nothing is said; only when given.
        scores: float32 (K, H, W) in [0, 1], prior or pseudo probabilities; only when set.
        exact: bool (); the scores are right by construction; only where some slices of the set are synthetic.
    """

    image: Tensor
    tags: Tensor
    index: int
    labels: Tensor
    scores: Tensor
    exact: Tensor


@dataclass(frozen=True)
class EvaluationCase:
    """An image with its dense mask; for validation and evaluation only.

    Args:
        files: Where it came from.
        volume: The image on its native grid.
        labels: uint8 (X, Y, Z), 0 background and 1..T in the order of the configured classes.
    """

    files: CaseFiles
    volume: Volume
    labels: np.ndarray
