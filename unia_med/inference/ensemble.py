"""Several trained models as one: the mean of their class probabilities on the image's own grid, one uncertainty."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from unia_med.data.io.orientation import orient_array, orient_back
from unia_med.errors import UserError
from unia_med.inference.likeness import occupied
from unia_med.inference.postprocess import clean
from unia_med.inference.predictor import Segmentation
from unia_med.inference.stack import smooth_stack
from unia_med.inference.uncertainty import normalised_entropy

if TYPE_CHECKING:
    from unia_med.config.data import SliceAxis
    from unia_med.data.io.frames import FrameSource
    from unia_med.data.io.volume import Volume
    from unia_med.inference.likeness import Likeness, Seen
    from unia_med.inference.model import Trained

LOG = logging.getLogger(__name__)


class Averageable(Protocol):
    """What segments and says its probabilities, too: `Predictor`, or the network of a bundle."""

    classes: Sequence[str]
    cleaning: Mapping[str, Any]
    slice_axis: SliceAxis
    slice_smoothing: float

    def open(self, path: Path) -> FrameSource:
        """Return an image file ready to be read frame by frame."""

    def probabilities(self, frame: Volume) -> np.ndarray:
        """float32 (K, X, Y, Z) on the volume's own grid, at the model's temperature."""


class Ensemble:
    """Several models whose probabilities are averaged, opened but not loaded.

    Args:
        members: at least two; the first one's order of the classes is that of the labels.
        cleaning: steps of post-processing, as `PostprocessConfig.steps` gives them, that were chosen for the average;
            None takes those that all members have in common.
        name: in place of the names of the members.

    Raises:
        UserError: members that predict other classes, or read other images.
    """

    kind = "ensemble"

    def __init__(
        self, members: Sequence[Trained], cleaning: Mapping[str, Any] | None = None, name: str | None = None
    ) -> None:
        self.members, self.cleaning = tuple(members), cleaning
        self.name = name or " + ".join(member.name for member in members)
        first = self.members[0]
        for member in self.members[1:]:
            _check_alike(first, member)
        self.classes, self.channel_files, self.in_pixels = first.classes, first.channel_files, first.in_pixels

    @cached_property
    def spacing_mm(self) -> float | None:
        """Pixel size in plane to which all members bring images; None where they differ or keep the stored one."""
        found = {member.spacing_mm for member in self.members}
        return found.pop() if len(found) == 1 else None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where its members lie."""
        return tuple(folder for member in self.members for folder in member.folders)

    @property
    def likeness(self) -> Likeness | None:
        """What the training images of the first member were like: its network is the one that is watched."""
        return self.members[0].likeness

    @property
    def ct(self) -> bool | None:
        """Whether all members learned from CT; None where that is not known, or differs."""
        found = {member.ct for member in self.members}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def weights(self) -> dict[str, str]:
        """Hash of the weights of each member, by its name; the same name twice gets a number."""
        found: dict[str, str] = {}
        for member in self.members:
            for name, digest in member.weights.items():
                found[name if name not in found else f"{name} ({len(found) + 1})"] = digest
        return found

    def predictor(
        self,
        device: Any = "cpu",
        *,
        tta: bool | None = None,
        postprocess: bool = True,
        uncertainty: str | None = None,
        runtime: str = "torch",
    ) -> EnsemblePredictor:
        """Return what segments, with the weights of all members loaded.

        Args:
            device: where to compute.
            tta: average each member over several views; None: those whose config does so by default.
            postprocess: clean the masks.
            uncertainty: None or `entropy`.
            runtime: of each member.

        Raises:
            UserError: the networks' own uncertainty is asked for, or a member that cannot be loaded or averaged.
        """
        if uncertainty == "network":
            what = "the networks' own uncertainty maps are not averaged; an ensemble has the entropy of its mean"
            raise UserError(what, where="--uncertainty network", remedy="Use --uncertainty entropy, or one model")
        loaded = [_averageable(member, device, tta, runtime) for member in self.members]
        return EnsemblePredictor(loaded, self.cleaning, postprocess)


class EnsemblePredictor:
    """Segments volumes with the mean of several models; memory grows with the size of a frame.

    Args:
        members: loaded models of the same classes, in any order of the classes.
        cleaning: see `Ensemble`.
        postprocess: clean the masks.
    """

    def __init__(
        self, members: Sequence[Averageable], cleaning: Mapping[str, Any] | None = None, postprocess: bool = True
    ) -> None:
        self.members, self.classes = tuple(members), tuple(members[0].classes)
        self.slice_axis: SliceAxis = members[0].slice_axis
        self.cleaning = (
            dict(cleaning)
            if cleaning is not None
            else common_cleaning([(one.cleaning, one.classes) for one in members])
        )
        self.postprocess = postprocess
        self._refiner = _common_refiner(self.members)
        self._slice_smoothing = _taken_over(self.members)
        self._seen: Seen | None = None
        self._orders = [[0, *(1 + list(one.classes).index(name) for name in self.classes)] for one in members]

    def open(self, path: Path) -> FrameSource:
        """Return an image file ready to be read frame by frame.

        Args:
            path: of the image.
        """
        return self.members[0].open(path)

    @contextmanager
    def watching(self, modality: str = "") -> Iterator[Seen | None]:
        """Give what notes the image that is predicted meanwhile, as its first member sees it.

        Args:
            modality: of its DICOM header; empty where there is none.
        """
        watch = getattr(self.members[0], "watching", None)
        with nullcontext() if watch is None else watch(modality) as seen:
            self._seen = seen
            try:
                yield seen
            finally:
                self._seen = None

    def probabilities(self, frame: Volume) -> np.ndarray:
        """Mean probabilities, float32 (K, X, Y, Z), on the volume's own grid.

        Args:
            frame: as read from its file.
        """
        total: np.ndarray | None = None
        for member, order in zip(self.members, self._orders, strict=True):
            found = member.probabilities(frame)[order]
            total = found if total is None else np.add(total, found, out=total)
        assert total is not None  # an ensemble has members
        return self._smoothed(np.divide(total, np.float32(len(self.members)), out=total), frame)

    def _smoothed(self, mean: np.ndarray, frame: Volume) -> np.ndarray:
        """(K, X, Y, Z) smoothed along the slices, which need not be the last axis as stored."""
        if not self._slice_smoothing:
            return mean
        turned = orient_array(np.moveaxis(mean, 0, 3), frame.affine, self.slice_axis)
        planes = torch.from_numpy(np.ascontiguousarray(turned)).permute(2, 3, 0, 1)
        last = smooth_stack(planes, self._slice_smoothing).permute(2, 3, 0, 1).numpy()
        return np.ascontiguousarray(np.moveaxis(orient_back(last, frame.affine, self.slice_axis), 3, 0))

    def predict_frames(self, frames: Iterable[Volume]) -> Iterator[Segmentation]:
        """Labels and uncertainty of 3D volumes, one after another.

        Args:
            frames: as read from their file.
        """
        for frame in frames:
            mean = self.probabilities(frame)
            labels = mean.argmax(0).astype(np.uint8) if self._refiner is None else self._refiner.refined(mean, frame)
            # Slice by slice, since the entropy needs several arrays of its size.
            parts = [normalised_entropy(torch.from_numpy(part)[None])[0].numpy() for part in np.moveaxis(mean, 3, 0)]
            yield Segmentation(self._cleaned(labels, frame), np.stack(parts, -1))

    def _cleaned(self, labels: np.ndarray, frame: Volume) -> np.ndarray:
        if not self.postprocess:
            return labels
        before = occupied(labels)
        turned = orient_array(labels, frame.affine, self.slice_axis)
        clean(turned, **self.cleaning)
        cleaned = orient_back(turned, frame.affine, self.slice_axis)
        if self._seen is not None:
            self._seen.cleaned(before, cleaned)
        return cleaned


def _taken_over(members: Sequence[Averageable]) -> float:
    """Return the smoothing along the stack that all members have in common, which is done once, on their mean.

    So it comes after the members' temperatures, as in a bundle of their average. Where they differ, each keeps its own.
    """
    found = {one.slice_smoothing for one in members}
    if len(found) > 1:
        return 0.0
    for one in members:
        one.slice_smoothing = 0.0
    return found.pop()


def _common_refiner(members: Sequence[Any]) -> Any:
    """Return the first model, whose dense CRF follows the image, where all have the same one; else None."""
    settings = [getattr(getattr(one, "settings", None), "crf", None) for one in members]
    wanted = [crf for crf in settings if crf is not None and crf.iterations]
    if len(wanted) == len(members) and all(crf == wanted[0] for crf in wanted):
        return members[0]
    if wanted:
        LOG.info("the dense CRF (inference.crf), which the models do not have in common, is left out")
    return None


def common_cleaning(steps: Sequence[tuple[Mapping[str, Any], Sequence[str]]]) -> dict[str, Any]:
    """Return the steps of post-processing that all models have, with labels in the order of the first one's classes.

    Args:
        steps: of each model, with its classes.
    """
    by_name = [_with_names(own, classes) for own, classes in steps]
    first = by_name[0]
    common = {step: value for step, value in first.items() if all(other.get(step) == value for other in by_name)}
    left = sorted({step for own in by_name for step, value in own.items() if value and step not in common})
    if left:
        LOG.info("post-processing that the models do not have in common is left out: %s", ", ".join(left))
    classes = list(steps[0][1])
    largest = common.get("largest_component", False)
    if isinstance(largest, frozenset):
        largest = sorted(1 + classes.index(name) for name in largest)
    neutral = {"largest_component": False, "fill_holes": False, "slice_gaps": False, "by_length": False}
    return {**neutral, **common, "largest_component": largest}


def _with_names(steps: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return steps in which classes are names and not labels: labels follow the order of a model's own classes."""
    largest = steps.get("largest_component", False)
    named = frozenset(classes[label - 1] for label in largest) if isinstance(largest, (list, tuple)) else largest
    return {**steps, "largest_component": named}


def _averageable(member: Trained, device: Any, tta: bool | None, runtime: str) -> Averageable:
    # It cleans no probabilities.
    found: Any = member.predictor(device, tta=tta, postprocess=True, uncertainty=None, runtime=runtime)
    averageable: Averageable = found
    return averageable


def _check_alike(first: Trained, other: Trained) -> None:
    """Refuse to average models that do not predict the same classes of the same images."""
    if set(first.classes) != set(other.classes):
        what = f"it predicts {', '.join(other.classes)}, but {first.name} predicts {', '.join(first.classes)}"
        raise UserError(what, where=other.name, remedy="Average models whose classes have the same names")
    if first.channel_files != other.channel_files or first.in_pixels != other.in_pixels:
        what = f"it reads other images than {first.name}: {_images(other)}, and not {_images(first)}"
        raise UserError(what, where=other.name, remedy="Average models that read the same images")


def _images(model: Trained) -> str:
    kind = "pictures" if model.in_pixels else "volumes"
    files = model.channel_files
    endings = f" in files ending in {', '.join(files.endings)}" if files.endings else ""
    return f"{kind} of {files.channels} channel{'' if files.channels == 1 else 's'}{endings}"
