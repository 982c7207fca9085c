"""How an image compares with those that a run was trained on.

Compared are what goes in (network features, intensities, spacing, size and modality) and what comes out: the volume of
each class, and the uncertainty inside the mask. A score of 1 is the training or validation image that is farthest from
the rest; far above it, the network sees something that it has never seen.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unia_med.data.io.hounsfield import ct_by_header, looks_like_ct
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.files import read_json, write_json

UNLIKE = 1.5
"""Score from which an image is said to be unlike all that the run was trained on."""

_FEWEST = 5  # training images from which distances say something
_LEVELS = np.linspace(0.02, 0.98, 13)
_SPACING_FACTOR = 1.5
_EXTENT_FACTOR = 2.0
_VOLUME_FACTOR = 2.0  # below the smallest, or above the largest: a score of 1
_DOUBT_FACTOR = 4 / 3  # times the largest: a score of 1, and of 1.5 at twice the largest
_MOST_TIMES = 20.0  # of what is not there at all
_MANY = 1 << 22
_AXES = ("along x", "along y", "from slice to slice")
_LOG = logging.getLogger(__name__)


def occupied(labels: np.ndarray) -> list[np.ndarray]:
    """Return which voxels of each slice are of some class, a bit each, as `Seen.cleaned` takes it.

    Args:
        labels: (X, Y, Z), which may be changed afterwards.
    """
    return [np.packbits(part != 0) for part in np.moveaxis(labels, 2, 0)]


class Seen:
    """Gathers what passes through a predictor while it segments one image.

    Attributes:
        found: voxels of any class before cleaning.
        removed: of those, voxels that cleaning turned into background.
        spacing_mm: of the image, last frame.
        extent_mm: of the image along its stored axes.
        volumes_ml: of each class, by name, mean over frames; empty where nobody counted, as of pictures.
        doubt: mean uncertainty inside the mask; None where it is empty, or nobody looked.
        modality: `CT` by the header or, where it does not say, by intensities as Hounsfield units are; else `other`.
        ct_by_header: what a DICOM header says; None where there is none.

    Args:
        modality: of a DICOM header; empty where there is none.
    """

    def __init__(self, modality: str = "") -> None:
        self.ct_by_header = ct_by_header(modality)
        self.found = self.removed = 0
        self.spacing_mm: tuple[float, ...] = ()
        self.extent_mm: tuple[float, ...] = ()
        self.volumes_ml: Mapping[str, float] = {}
        self.doubt: float | None = None
        self.modality = "other"
        self._features: list[np.ndarray] = []
        self._levels: list[np.ndarray] = []

    def image(self, slices: Tensor, stored: Volume) -> None:
        """Note an image.

        Args:
            slices: (Z, C, H, W) in [0, 1] on the network's grid.
            stored: as read from its file.
        """
        shown = slices[..., ::2, ::2] if slices.numel() > _MANY else slices  # a copy of it needs memory
        self._levels.append(np.quantile(shown.float().cpu().numpy(), _LEVELS))
        self.spacing_mm = tuple(float(mm) for mm in stored.spacing_mm)
        self.extent_mm = tuple(mm * size for mm, size in zip(self.spacing_mm, stored.shape[:3], strict=False))
        self.modality = "CT" if self._is_ct(stored.array) else "other"

    def _is_ct(self, array: np.ndarray) -> bool:
        if self.ct_by_header is not None:  # some MR is stored with a sign, far below 0
            return self.ct_by_header
        return looks_like_ct(array)

    def features(self, module: Any, inputs: Any, output: Any) -> None:
        """Note the features of a batch; a forward hook of a backbone.

        Args:
            module: the backbone.
            inputs: not used.
            output: with `tokens` (B, E, h, w).
        """
        tokens = getattr(output, "tokens", None)
        if isinstance(tokens, Tensor) and tokens.ndim == 4:
            self.mean_features(tokens.detach().float().mean((2, 3)))

    def mean_features(self, features: Tensor) -> None:
        """Note features (B, E), averaged over each slice of a batch."""
        self._features.append(features.cpu().numpy())

    def predicted(self, volumes_ml: Mapping[str, float], doubt: float | None) -> None:
        """Note what was predicted.

        Args:
            volumes_ml: see `Seen`.
            doubt: see `Seen`.
        """
        self.volumes_ml, self.doubt = dict(volumes_ml), doubt

    def cleaned(self, before: Sequence[np.ndarray], after: np.ndarray) -> None:
        """Note labels before and after post-processing.

        Args:
            before: what `occupied` gave.
            after: (X, Y, Z).
        """
        for now, packed in zip(np.moveaxis(after, 2, 0), before, strict=True):
            then = np.unpackbits(packed, count=now.size).view(bool)
            self.found += int(np.count_nonzero(then))
            self.removed += int(np.count_nonzero(then & (now.ravel() == 0)))

    @property
    def removed_share(self) -> float:
        """Share of the voxels of classes that post-processing removed, 0 to 1."""
        return self.removed / self.found if self.found else 0.0

    @property
    def vector(self) -> list[float]:
        """What is compared: quantiles of the intensities, then the mean of each feature."""
        levels = np.mean(self._levels, 0) if self._levels else np.zeros(0)
        means = np.concatenate(self._features).mean(0) if self._features else np.zeros(0)
        return [round(float(value), 5) for value in (*levels, *means)]


@dataclass(frozen=True)
class Likeness:
    """What is kept of the images that a run was trained on, in `RUN/training_images.json`.

    Attributes:
        vectors: `Seen.vector` of training images.
        limit: distance of the farthest of them from the others, or of a validation image from all.
        spacing_mm: smallest and largest along each axis.
        modalities: kinds that occurred.
        extent_mm: smallest and largest along each axis.
        volumes_ml: smallest and largest of each class; none where few images are known.
        doubt: largest mean uncertainty inside the mask of an image that was not learned from; None where few are known.
        review: mean uncertainty inside a mask from which a person should look at it; None where nothing is known.
        review_reason: where `review` comes from.
    """

    vectors: list[list[float]] = field(default_factory=list)
    limit: float = 1.0
    spacing_mm: list[list[float]] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    extent_mm: list[list[float]] = field(default_factory=list)
    volumes_ml: dict[str, list[float]] = field(default_factory=dict)
    doubt: float | None = None
    review: float | None = None
    review_reason: str = ""

    @classmethod
    def of(cls, training: Sequence[Seen], validation: Sequence[Seen] = ()) -> Likeness:
        """Return what is known of images.

        Args:
            training: images that the run learned from.
            validation: others of the same kind; they only widen the limit.
        """
        vectors = np.array([seen.vector for seen in training])
        limit = 1.0
        if len(vectors) >= _FEWEST:
            alone = [_Distance(np.delete(vectors, i, 0))(vector) for i, vector in enumerate(vectors)]
            whole = _Distance(vectors)
            limit = max([*alone, *(whole(np.array(seen.vector)) for seen in validation)])
        every = (*training, *validation)
        doubts = [seen.doubt for seen in validation if seen.doubt is not None]
        return cls(
            vectors.tolist(),
            round(float(limit), 5) or 1.0,  # images that are all alike have no distance
            _span([seen.spacing_mm for seen in every]),
            sorted({seen.modality for seen in every}),
            _span([seen.extent_mm for seen in every]),
            _volume_spans([seen.volumes_ml for seen in every]) if len(every) >= _FEWEST else {},
            round(max(doubts), 4) if len(doubts) >= _FEWEST else None,
        )

    def score(self, seen: Seen) -> float | None:
        """Return how far an image is from the training images, 1 being the farthest of those; None if few are known.

        Args:
            seen: what was noted of the image.
        """
        of_image = self._image_score(seen)
        parts = [part for part in (of_image, *self._volume_scores(seen).values(), self._doubt_score(seen)) if part]
        return round(max(parts), 3) if parts else None

    def _image_score(self, seen: Seen) -> float | None:
        """Return the distance of what the network sees, 1 being that of the farthest training image."""
        vector = np.array(seen.vector)
        if len(self.vectors) < _FEWEST or len(vector) != len(self.vectors[0]):
            return None
        return round(self._distance(vector) / self.limit, 3)

    def _volume_scores(self, seen: Seen) -> dict[str, float]:
        """Return how far the volume of each class lies outside of those of the training.

        Of a part of a body that is much smaller than all training images, classes may well be small or missing.
        """
        sizes = zip(seen.extent_mm, *(self.extent_mm or ([], [])), strict=False)
        whole = all(mm * _EXTENT_FACTOR >= low for mm, low, _ in sizes)
        scores = {}
        for name in self.volumes_ml.keys() & seen.volumes_ml.keys():
            (low, high), ml = self.volumes_ml[name], seen.volumes_ml[name]
            below = low / max(ml, low / _MOST_TIMES) if whole and low > 0 else 1.0
            above = ml / high if high > 0 else 1.0
            scores[name] = min(max(below, above, 1.0), _MOST_TIMES) / _VOLUME_FACTOR
        return scores

    def _doubt_score(self, seen: Seen) -> float | None:
        if seen.doubt is None or not self.doubt:
            return None
        return seen.doubt / self.doubt / _DOUBT_FACTOR

    def differences(self, seen: Seen) -> list[str]:
        """Return in what an image is unlike the training images, in words; nothing where it is like them.

        Args:
            seen: what was noted of the image.
        """
        score, found = self._image_score(seen), []
        if score is not None and score > UNLIKE:
            found.append(f"{score:.1f} times as far from the training images as the farthest of them")
        if self.modalities and seen.modality not in self.modalities:
            what = "intensities of a CT" if seen.ct_by_header is None else "CT by its header"
            found.append(f"{what}, trained on none" if seen.modality == "CT" else "no CT, trained on nothing else")
        for axis, mm, low, high in zip(_AXES, seen.spacing_mm, *(self.spacing_mm or ([], [])), strict=False):
            if not low / _SPACING_FACTOR <= mm <= high * _SPACING_FACTOR:
                found.append(f"{mm:.3g} mm {axis}, trained on {_between(low, high)} mm")
        for axis, mm, low, high in zip(_AXES[:2], seen.extent_mm, *(self.extent_mm or ([], [])), strict=False):
            if not low / _EXTENT_FACTOR <= mm <= high * _EXTENT_FACTOR:
                found.append(f"an image of {mm:.3g} mm {axis}, trained on {_between(low, high)} mm")
        for name, times in sorted(self._volume_scores(seen).items()):
            if times > UNLIKE:
                low, high = self.volumes_ml[name]
                found.append(f"{name} of {seen.volumes_ml[name]:.3g} ml, trained on {_between(low, high)} ml")
        if (self._doubt_score(seen) or 0) > UNLIKE:
            found.append(
                f"an uncertainty of {seen.doubt:.2f} inside the mask, at most {self.doubt:.2f} in the training"
            )
        return found

    def write(self, path: Path) -> None:
        """Write all of it as JSON.

        Args:
            path: the file.
        """
        write_json(path, asdict(self))

    @cached_property
    def _distance(self) -> _Distance:
        return _Distance(np.array(self.vectors))


def read_likeness(path: Path) -> Likeness | None:
    """Return what `Likeness.write` wrote; None where there is nothing, as in earlier versions, or it is damaged.

    Args:
        path: the file.
    """
    if not path.is_file():
        return None
    try:
        found = Likeness(**read_json(path))
        _check(found)
        return found
    except (UserError, ValueError, TypeError, AttributeError) as error:
        _LOG.warning("%s cannot be read (%s): images are not compared with those of the training", path, error)
        return None


def _span(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the smallest and the largest of each column; nothing where rows differ in length or there is none."""
    if not rows or len({len(row) for row in rows}) > 1:
        return []
    array = np.array(rows)
    return [array.min(0).round(4).tolist(), array.max(0).round(4).tolist()]


def _volume_spans(volumes: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the smallest and the largest volume of each class that all images know."""
    names = set.intersection(*(set(one) for one in volumes)) if volumes else set()
    return {name: [round(f(one[name] for one in volumes), 4) for f in (min, max)] for name in sorted(names)}


def _between(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _check(known: Likeness) -> None:
    """Raise an error where a field holds something else than it should."""
    single = [[number] for number in (known.limit, known.doubt, known.review) if number is not None]
    spans: list[Sequence] = [known.spacing_mm, known.extent_mm, *known.volumes_ml.values()]
    numbers = [*known.vectors, *known.spacing_mm, *known.extent_mm, *known.volumes_ml.values(), *single]
    arrays = [array for array in map(np.asarray, numbers) if array.size]
    if any(array.dtype.kind not in "if" or array.ndim != 1 or not np.isfinite(array).all() for array in arrays):
        raise ValueError("numbers are expected")
    if len({len(row) for row in known.vectors}) > 1 or any(len(span) not in (0, 2) for span in spans):
        raise ValueError("lists of other lengths are expected")
    if not known.limit > 0:
        raise ValueError("a distance above 0 is expected")
    if not isinstance(known.modalities, list):
        raise TypeError("a list of modalities is expected")


class _Distance:
    """Mahalanobis distance to the mean of vectors, each number divided by its standard deviation.

    There are fewer images than numbers, so the correlations shrink towards none, by the share of Chen et al. (IEEE TSP
    2010, OAS).

    Args:
        vectors: (N, F).
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self._mean = vectors.mean(0)
        deviation = vectors.std(0)
        self._scale = np.maximum(deviation, 1e-3 + 0.1 * np.median(deviation))
        scaled = (vectors - self._mean) / self._scale
        count, size = scaled.shape
        covariance = scaled.T @ scaled / count
        trace, square = float(np.trace(covariance)), float((covariance**2).sum())
        mean = trace / size
        top, bottom = (1 - 2 / size) * square + trace**2, (count + 1 - 2 / size) * (square - trace**2 / size)
        share = min(1.0, top / bottom) if bottom > 0 else 1.0
        shrunk = (1 - share) * covariance + share * max(mean, 1e-6) * np.eye(size)
        self._inverse = np.linalg.inv(shrunk)

    def __call__(self, vector: np.ndarray) -> float:
        difference = (vector - self._mean) / self._scale
        return float(np.sqrt(max(0.0, difference @ self._inverse @ difference) / len(vector)))


def watch_features(method: torch.nn.Module, seen: Seen) -> Any:
    """Return the handle of a hook that notes the features of a method's backbone, or None where it has none.

    Args:
        method: a trained method.
        seen: takes the notes.
    """
    backbone = backbone_of(method)
    return None if backbone is None else backbone.register_forward_hook(seen.features)


def backbone_of(method: torch.nn.Module) -> torch.nn.Module | None:
    """Return the backbone of a method, or None where it has none."""
    return next((m for name, m in method.named_modules() if name.rpartition(".")[2] == "backbone"), None)
