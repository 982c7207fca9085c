"""What writers of DICOM label objects share: all objects of a series appear, or none, and a fault costs no mask."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from unia_med.data.io.dicom.repair import culprit
from unia_med.data.io.dicom.scan import quiet
from unia_med.data.io.dicom.series import DicomSeries
from unia_med.errors import UserError

_LOG = logging.getLogger(__name__)


def object_names(series: DicomSeries, kind: str) -> list[str]:
    """File names of a series' label objects, one per time frame.

    Args:
        series: the source.
        kind: `seg` or `rtstruct`.
    """
    if series.frames == 1:
        return [f"{series.name}_{kind}.dcm"]
    return [f"{series.name}_frame{index + 1:02d}_{kind}.dcm" for index in range(series.frames)]


_LARGEST = 2**31 - 10_000  # of an integer string, with room for what is added


def number_of_objects(series: DicomSeries, added: int) -> int:
    """Return the number of the new series: that of the source, and a thousand or more.

    Args:
        series: the source.
        added: to its number; to 0 where it has none, or one that is no DICOM number.
    """
    number = series.stack.grid[0][0].series_number or 0
    return added + (number if abs(number) < _LARGEST else 0)


class ObjectWriter(AbstractContextManager["ObjectWriter"]):
    """Write the objects of one source series, in a `with` block; they form one new series.

    The files appear when the block ends, or none does when it ends with an error.

    Args:
        series: what was segmented.
        classes: names of the labels 1, 2, 3, ...

    Attributes:
        kind: ending of the files, and `title` the name of the objects in messages.
        failed: why no object is written, or None.
    """

    kind: str
    title: str

    def __init__(self, series: DicomSeries, classes: Sequence[str]) -> None:
        self._series, self._classes = series, tuple(classes)
        self._staged = ExitStack()
        self.failed: str | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._staged.__exit__(kind, error, trace)

    @property
    def names(self) -> list[str]:
        """File names of the objects, one per time frame."""
        return object_names(self._series, self.kind)

    def write(self, index: int, labels: np.ndarray, path: Path) -> None:
        """Write one frame, read it back and compare.

        Where the source's attributes do not make a valid object, a note names the attribute, and no object of the
        series appears; that costs no other result.

        Args:
            index: time frame, 0 for a 3D series.
            labels: uint8 (X, Y, Z) as predicted of `series.frame(index)`.
            path: destination.
        """
        if self.failed is not None:
            return
        self.failed = self._series.no_segmentation or None
        if self.failed is None:
            try:
                with quiet():
                    self._write(index, labels, path)
            except (UserError, MemoryError, NameError, AssertionError):
                raise
            except Exception as error:  # highdicom and pydicom raise whatever they like, and may quote values
                name = culprit(error)
                self.failed = f"the attribute {name} of the images" if name else type(error).__name__
        if self.failed is not None:
            self._staged.__exit__(RuntimeError, RuntimeError(), None)
            _LOG.warning("%s: no DICOM %s is written, because of %s", self._series.path, self.title, self.failed)

    @abstractmethod
    def _write(self, index: int, labels: np.ndarray, path: Path) -> None:
        """Write one frame and read it back."""
