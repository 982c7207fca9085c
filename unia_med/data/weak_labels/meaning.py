"""What 0 means in labels that were drawn: annotated background, or nothing drawn, as viewers write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from unia_med.config.weak_labels import LabelSource
from unia_med.data.checks import DataFault
from unia_med.labels import BACKGROUND, IGNORE

DRAWN_KINDS = ("scribbles", "points", "blocks")
"""Kinds of which most pixels are not annotated; boxes and masks say something everywhere."""

NEARLY_ALL = 0.8
"""Share of the pixels of annotated slices from which background is too much to have been drawn."""

TOUCHING = 0.9
"""Share of the pixels next to a class from which background touches all that is drawn."""

_CROSS = ndimage.generate_binary_structure(2, 1)[:, :, None]


@dataclass(frozen=True)
class Background:
    """How much of what was drawn is background, counted in slices that show a class.

    Attributes:
        pixels: of these slices.
        background: of those, read as background.
        rim: pixels next to a class in its slice.
        rim_background: of those, read as background.
    """

    pixels: int = 0
    background: int = 0
    rim: int = 0
    rim_background: int = 0

    def __add__(self, other: Background) -> Background:
        return Background(
            self.pixels + other.pixels,
            self.background + other.background,
            self.rim + other.rim,
            self.rim_background + other.rim_background,
        )

    @property
    def share(self) -> float:
        """Share of background among the pixels, 0 to 1."""
        return self.background / self.pixels if self.pixels else 0.0

    @property
    def is_everything(self) -> bool:
        """Whether background is nearly all pixels and touches every class: a viewer's 0, not an annotation."""
        return self.share >= NEARLY_ALL and self.rim_background >= TOUCHING * self.rim > 0


def count_background(labels: np.ndarray) -> Background:
    """Return the counts of one case.

    Args:
        labels: uint8 (X, Y, Z), 0 background, 1..T classes, IGNORE where nothing is said.
    """
    classes = (labels != BACKGROUND) & (labels != IGNORE)
    shown = labels[:, :, classes.any((0, 1))]
    if not shown.size:
        return Background()
    classes, background = (shown != BACKGROUND) & (shown != IGNORE), shown == BACKGROUND
    rim = ndimage.binary_dilation(classes, _CROSS) & ~classes
    counts = (shown.size, background.sum(), rim.sum(), (rim & background).sum())
    return Background(*(int(count) for count in counts))


def is_said(source: LabelSource) -> bool:
    """Return whether a config states what 0 means."""
    return bool({"background_value", "ignore_value"} & source.model_fields_set)


def unsaid_background(
    source: LabelSource, counts: Sequence[Background], files: Sequence[Path], position: int = 0
) -> DataFault | None:
    """Return the fault of a label set whose 0 cannot have been drawn, while nothing says what it means; else None.

    Args:
        source: the entry of `data.labels`.
        counts: of every case.
        files: the label files, for the message.
        position: of the entry in `data.labels`.
    """
    if source.kind not in DRAWN_KINDS or source.source != "files" or is_said(source):
        return None
    total = sum(counts, Background())
    if not total.is_everything:
        return None
    where = f"data.labels[{position}] ({source.kind}, such as {files[0]})" if files else f"data.labels[{position}]"
    value = 0 if source.background_value is None else source.background_value
    found = f"{value} in {100 * total.share:.1f} % of the pixels of annotated slices, touching all that is drawn"
    expected = "drawn background; ITK-SNAP and 3D Slicer write 0 where nothing is drawn"
    remedy = (
        "Say what it means in this entry: background_value: null if it is not annotated (or background_value: N if "
        f"background was drawn with the value N); background_value: {value} if all that is not drawn is background; "
        "kind: masks if these are full masks"
    )
    return DataFault(where, found, expected, remedy)
