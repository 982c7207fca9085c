"""Many images, predicted one after another: the one loop behind `unia-med predict` and `unia_med.predict`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unia_med import distributed
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError, memory_fault
from unia_med.inference.images import check_channels
from unia_med.inference.model import Model, Result
from unia_med.inference.records import Tally, check_folder_records, judged, write_case_record, write_folder_records
from unia_med.inference.results import Names, result_files, write_results
from unia_med.stopwatch import part


@dataclass
class Case:
    """One image of many, and its result or error.

    Attributes:
        name: of its results.
        path: of the image; None for one in memory.
        classes: names of the labels 1, 2, 3, ...
        files: where results are, or would have been, written, by kind; empty where nothing is written.
        error: why it could not be predicted, or None.
        unforeseen: the exception behind `error`, where it was unexpected.
        skipped: its results were there already.
        result: what was predicted, where it is not written.
        warnings: what a reader of the mask has to know, a sentence each.
    """

    name: str
    path: Path | None
    classes: tuple[str, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    error: UserError | None = None
    unforeseen: Exception | None = None
    skipped: bool = False
    result: Result | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def mask(self) -> Any:
        """Labels: of the result, or as a `Volume` of the file that was written.

        Raises:
            UserError: the image could not be predicted.
        """
        return self.result.mask if self.result else self._written("labels")

    @cached_property
    def uncertainty(self) -> Any:
        """Uncertainty: of the result, or as a `Volume` of the file that was written.

        Raises:
            UserError: the image could not be predicted, or its uncertainty was not asked for.
        """
        return self.result.uncertainty if self.result else self._written("uncertainty")

    def save(self, folder: Path | str) -> Mapping[str, Path]:
        """Write the results of a case that was predicted without `output`; see `Result.save`.

        Args:
            folder: is made when missing.
        """
        if self.error:
            raise self.error
        return self.result.save(folder, self.name) if self.result else self.files

    def _written(self, kind: str) -> Volume:
        if self.error:
            raise self.error
        if kind not in self.files:
            raise UserError(f"no {kind} was written", where=self.name, remedy=f"Call predict(..., {kind}=True)")
        return read_volume(self.files[kind])


class Predictions(Iterator[Case]):
    """Cases of a model on many images, each predicted when it is asked for; a bad one carries its error.

    Under torchrun each process gets its share.

    Args:
        model: its weights are loaded at the first image that can be read.
        images: by the name of their results; an iterator is read as it goes.
        output: folder of the results; None keeps them in memory, in `Case.result`.
        uncertainty: write it, too.
        skip_existing: leave out images whose results are there.
        spacing_mm: of arrays.
        names: how results are called, see `result_files`.
        rtstruct: write contours next to the SEG objects of DICOM series.
        shard: predict this part of the images alone, see `Piece.read`.

    Attributes:
        images: as given, those of all parts and processes; empty for an iterator.
    """

    def __init__(
        self,
        model: Model,
        images: Mapping[str, Any] | Iterator[tuple[str, Any]],
        output: Path | None = None,
        uncertainty: bool = False,
        skip_existing: bool = False,
        spacing_mm: Sequence[float] | None = None,
        names: Names = "seg",
        rtstruct: bool = False,
        shard: str | None = None,
    ) -> None:
        if output is not None:
            check_folder_records(output)
        self.images = images if isinstance(images, Mapping) else {}
        self._model, self._output, self._spacing_mm, self._names = model, output, spacing_mm, names
        self._rows: list[dict[str, Any]] = []
        self._uncertainty, self._skip_existing, self._rtstruct = uncertainty, skip_existing, rtstruct
        # Shared out before any is left out: processes that start apart would see different results already there.
        items = images.items() if isinstance(images, Mapping) else images
        self._piece = distributed.Piece.read(shard).of_this_process()
        self._cases = (self._case(name, image) for name, image in self._piece.of(items))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels 1, 2, 3, ..."""
        return self._model.classes

    def __iter__(self) -> Predictions:
        return self

    def __next__(self) -> Case:
        try:
            return next(self._cases)
        except StopIteration:
            if self._output:
                write_folder_records(self._output, self._model.classes, self._rows, self._piece)
            raise

    def __len__(self) -> int:
        """How many images fall to this process."""
        return len(range(self._piece.index, len(self.images), self._piece.count))

    def _case(self, name: str, image: Any) -> Case:
        path = _path(image)
        files = result_files(self._output, name, self._uncertainty, path, self._names) if self._output else {}
        case = Case(name, path, self._model.classes, files)
        if files and self._skip_existing and all(file.is_file() for file in files.values()):
            case.skipped = True
            return case
        try:
            with part("other"):
                self._predict(case, image)
        except UserError as error:
            case.error = error if error.where else UserError(error.what, path or name, error.remedy)
        except Exception as error:  # one image must not cost the others their results
            case.error = memory_fault(error, path or name)
            if case.error is None:
                case.error, case.unforeseen = _said(error, image, path or name), error
        return case

    def _predict(self, case: Case, image: Any) -> None:
        self._check(image)
        spacing = self._spacing_mm if isinstance(image, np.ndarray) else None
        if not case.files:
            case.result = self._model(image, spacing)
            case.result.name = case.name
            return
        with part("read"):
            given = self._model.read(image, spacing)
        tally = Tally()
        with self._model.watching(given) as seen:
            frames = tally.watched(self._model.frames(given))
            with part("write"):
                missing = write_results(given.source, frames, case.files, case.classes, self._rtstruct)
        flat = is_image(case.files["labels"])
        voxel_ml = None if flat else abs(float(np.linalg.det(given.source.affine[:3, :3]))) / 1000
        if seen is not None and voxel_ml is not None:
            seen.predicted(tally.volumes_ml(case.classes, voxel_ml), (tally.uncertainty() or (None,))[0])
        known = judged(seen, getattr(self._model.trained, "likeness", None))
        case.warnings = known.warnings
        row = tally.row(case.name, case.classes, voxel_ml, known)
        self._rows.append(row)
        with part("write"):
            write_case_record(case.files["labels"], self._facts(case, image, row, missing))

    def _facts(self, case: Case, image: Any, row: Mapping[str, Any], missing: Sequence[str]) -> dict[str, Any]:
        """Return what is written next to a mask."""
        trained = self._model.trained
        # Of DICOM nothing is named that may tell who the patient is.
        files = [] if _is_series(image) or case.path is None else trained.channel_files.files(case.path)
        return {
            "model": trained.name,
            "runs": [str(folder.resolve()) for folder in trained.folders],
            "weights": dict(trained.weights),
            "classes": {str(value): name for value, name in enumerate(case.classes, start=1)},
            "settings": {name: _said_of(value) for name, value in vars(self._model.options).items()},
            "sources": [f"DICOM series {n}" for n in image.series_numbers]
            if _is_series(image)
            else [path.name for path in files],
            "summary": row,
            "warnings": [*_notes(image), *missing, *case.warnings],
        }

    def _check(self, image: Any) -> None:
        """Refuse what is wrong by its header alone, before the weights are loaded."""
        if isinstance(image, UserError):  # a study without a series that can be used
            raise image
        files = self._model.trained.channel_files
        if isinstance(image, Path):
            in_pixels = self._model.trained.in_pixels
            files.header(image) if files.channels > 1 or in_pixels else read_header(image)
        elif _is_series(image):
            from unia_med.data.io.dicom.seg import import_highdicom

            check_channels(image, files.channels, image.path)
            import_highdicom(image.path)


def _said_of(option: Any) -> str:
    return "as the model's config says" if option is None else str(option)


def _said(error: Exception, image: Any, where: Path | str) -> UserError:
    # Messages about DICOM may quote the patient's data.
    said = "" if _is_series(image) else f": {error}"
    return UserError(f"{type(error).__name__}{said}", where, "Run this image alone with --debug")


def _sources(series: Any) -> list[str]:
    return [f"DICOM series {number}" for number in series.series_numbers]


def _notes(image: Any) -> tuple[str, ...]:
    return image.stack.notes if _is_series(image) else ()


def _path(image: Any) -> Path | None:
    path = image if isinstance(image, (str, os.PathLike)) else getattr(image, "path", None)
    return None if path is None else Path(path)


def _is_series(image: Any) -> bool:
    from unia_med.data.io.dicom.series import DicomSeries

    return isinstance(image, DicomSeries)
