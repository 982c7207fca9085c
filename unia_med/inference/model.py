"""A trained model, called on an image: one object for runs, shipped models and bundles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from unia_med.data.io.dicom.kind import expected_stack
from unia_med.data.io.frames import iterate_frames
from unia_med.data.io.hounsfield import compared, ct_by_header
from unia_med.data.io.volume import Volume
from unia_med.files import at_home
from unia_med.inference.images import GivenImage, read_given
from unia_med.inference.results import joined, result_files, split_frames, write_results
from unia_med.stopwatch import part

if TYPE_CHECKING:
    from unia_med.data.io.channels import ChannelFiles
    from unia_med.data.io.frames import FrameSource
    from unia_med.inference.likeness import Likeness, Seen
    from unia_med.inference.predictor import Segmentation


class Segments(Protocol):
    """What segments images: `Predictor`, or a bundle's own network."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the labels 1, 2, 3, ..."""

    def open(self, path: Path) -> FrameSource:
        """Return an image file ready to be read frame by frame."""

    def predict_frames(self, frames: Iterable[Volume]) -> Iterator[Segmentation]:
        """Labels and uncertainty of 3D volumes, one after another."""


class Trained(Protocol):
    """Where a model comes from, opened but not loaded: a run, or a bundle."""

    @property
    def kind(self) -> str:
        """`run`, `shipped model`, `bundle` or `ensemble`."""

    @property
    def name(self) -> str:
        """Of its folder, or the name under which it is shipped."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where it lies; several of an ensemble."""

    @property
    def likeness(self) -> Likeness | None:
        """What the images were like that it was trained on; None where unknown."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels 1, 2, 3, ..."""

    @property
    def channel_files(self) -> ChannelFiles:
        """How many channels images have, and how files store them."""

    @property
    def in_pixels(self) -> bool:
        """Whether it learned from pictures, without millimetres."""

    @property
    def ct(self) -> bool | None:
        """Whether it learned from CT; None where that is not known."""

    @property
    def spacing_mm(self) -> float | None:
        """Pixel size in plane to which images are brought; None where they stay as they are."""

    @property
    def weights(self) -> Mapping[str, str]:
        """Hash of the weights by the name of the model; several of an ensemble."""

    def predictor(
        self, device: Any, *, tta: bool | None, postprocess: bool, uncertainty: str | None, runtime: str
    ) -> Segments:
        """Return what segments, with its weights loaded."""


@dataclass(frozen=True)
class Options:
    """How a model predicts, in the words of `unia-med predict`.

    Attributes:
        device: where to compute, as torch names it.
        tta: average over several views of each slice; None: where the run's config does so by default.
        postprocess: clean the masks.
        uncertainty: `entropy`, `network`, or None for what the run's config says.
        runtime: `torch`, `onnx` or `openvino`.
    """

    device: Any = "cpu"
    tta: bool | None = None
    postprocess: bool = True
    uncertainty: str | None = None
    runtime: str = "torch"


class Model:
    """A trained model with the way it is to predict; `unia_med.load` makes it.

    Args:
        trained: where it comes from.
        options: how it predicts.

    Example:
        >>> model = unia_med.load("runs/acdc")  # doctest: +SKIP
        >>> model("scan.nii.gz").save("masks")  # doctest: +SKIP
    """

    def __init__(self, trained: Trained, options: Options) -> None:
        self.trained, self.options = trained, options

    @cached_property
    def predictor(self) -> Segments:
        """What segments; the weights are loaded when it is first asked for."""
        with part("load"):
            return self.trained.predictor(
                self.options.device,
                tta=self.options.tta,
                postprocess=self.options.postprocess,
                uncertainty=self.options.uncertainty,
                runtime=self.options.runtime,
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels 1, 2, 3, ..., in masks."""
        return self.trained.classes

    @property
    def spacing_mm(self) -> float | None:
        """Pixel size in plane to which images are brought; None where they stay as they are."""
        return self.trained.spacing_mm

    def with_options(self, **changes: Any) -> Model:
        """Return a model that predicts in another way; itself where nothing changes.

        Args:
            changes: fields of `Options`.
        """
        options = replace(self.options, **changes)
        return self if options == self.options else Model(self.trained, options)

    def read(self, image: Any, spacing_mm: Sequence[float] | None = None, series: str | None = None) -> GivenImage:
        """Return an image of any kind, checked, its voxels not yet decoded where its format allows.

        Args:
            image: see `__call__`.
            spacing_mm: see `__call__`.
            series: see `__call__`.
        """
        return read_given(
            image,
            lambda path: self.predictor.open(path),
            self.trained.channel_files,
            spacing_mm=spacing_mm,
            in_pixels=self.trained.in_pixels,
            series=series,
            kind=expected_stack(self.classes),
        )

    def frames(self, given: GivenImage) -> Iterator[Segmentation]:
        """Predict an image frame by frame.

        Args:
            given: what `read` returned.
        """
        path, modality = getattr(given.source, "path", None), _modality(given)
        # Where the training images are known, their comparison looks at values; a header says more than they do.
        known = ct_by_header(modality) is not None
        ct = self.trained.ct if known or self.trained.likeness is None else None
        frames = compared(iterate_frames(given.source), ct, path, modality)
        return self.predictor.predict_frames(frames)

    def watching(self, given: GivenImage) -> AbstractContextManager[Seen | None]:
        """Give what notes the image that is predicted meanwhile; nothing where a bundle's own code predicts.

        Args:
            given: what `read` returned.
        """
        watch = getattr(self.predictor, "watching", None)
        return nullcontext() if watch is None else watch(_modality(given))

    def __call__(self, image: Any, spacing_mm: Sequence[float] | None = None, *, series: str | None = None) -> Result:
        """Segment an image; the voxels are those that `unia-med predict` writes.

        Args:
            image: a path (NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, or the folder of a DICOM series), a nibabel image,
                a SimpleITK image, a `Volume`, or a numpy array: (x, y, slice), a slice (x, y), or a cine
                (x, y, slice, time); where the network reads several channels, they are the last axis.
            spacing_mm: distances of voxels along the axes of an array, in mm. Every other kind brings its own.
            series: number or UID of a DICOM series, where the folder holds several.

        Raises:
            UserError: no image, or one that cannot be segmented; the message shows the right call.
        """
        given = self.read(image, spacing_mm, series)
        return Result(given, joined(given.source, self.frames(given)), self.classes)

    def __repr__(self) -> str:
        """Return kind, name, classes and spacing."""
        spacing = "stored pixels" if self.spacing_mm is None else f"{self.spacing_mm:g} mm in plane"
        return f"Model({self.trained.kind} {self.trained.name}, classes {', '.join(self.classes)}, {spacing})"


def _modality(given: GivenImage) -> str:
    """Return what the header of a DICOM series says; empty of every other image."""
    stack = getattr(given.source, "stack", None)
    return "" if stack is None else str(stack.modality)


class Result:
    """What was predicted of an image.

    Args:
        given: the image.
        found: labels and uncertainty in its source's shape.
        classes: names of the labels 1, 2, 3, ...

    Attributes:
        classes: names of the labels 1, 2, 3, ...; 0 is background.
        name: of the image, by which results are saved.
    """

    def __init__(self, given: GivenImage, found: Segmentation, classes: Sequence[str]) -> None:
        self._given, self._found = given, found
        self.classes, self.name = tuple(classes), given.name

    @cached_property
    def mask(self) -> Any:
        """uint8 labels, of the kind that was given: an array for an array, a `Volume` for a path."""
        return self._given.give_back(self._found.labels)

    @cached_property
    def uncertainty(self) -> Any:
        """float32 in [0, 1], 0 being certain, of the kind that was given."""
        return self._given.give_back(self._found.uncertainty)

    def save(self, folder: Path | str, name: str | None = None, *, uncertainty: bool = True) -> Mapping[str, Path]:
        """Write the files that `unia-med predict --uncertainty` writes, and return their paths by kind.

        Args:
            folder: is made when missing.
            name: in place of that of the image; one that was in memory only is called `image`.
            uncertainty: write it, too.
        """
        path = getattr(self._given.source, "path", None)
        files = result_files(at_home(folder), name or self.name, uncertainty, path)
        write_results(self._given.source, split_frames(self._found), files, self.classes)
        return files

    def __repr__(self) -> str:
        """Return shape, spacing and the voxels of each class."""
        shape = " x ".join(map(str, self._found.labels.shape))
        spacing = " x ".join(f"{mm:.4g}" for mm in Volume(self._found.labels, self._given.source.affine).spacing_mm)
        counts = np.bincount(self._found.labels.ravel(), minlength=len(self.classes) + 1)[1:]
        found = ", ".join(f"{name} {count}" for name, count in zip(self.classes, counts, strict=False))
        return f"Result({shape} voxels of {spacing} mm, voxels by class: {found})"
