"""Volumes for the slice viewer: cropped, eight bits a voxel, compressed, and never larger than a page can carry."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from unia_med.config.schema import RunConfig
from unia_med.data.dataset import CaseDataset
from unia_med.data.io.orientation import orient, orient_array
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import Volume
from unia_med.data.sample import CaseFiles
from unia_med.data.slices.dataset import load_tags
from unia_med.engine.calibration import true_labels
from unia_med.inference.predictor import Predictor
from unia_med.metrics.calibration import neighbourhood
from unia_med.report.cases import own_map
from unia_med.report.words import label_title

PAGE_BYTES = 7_000_000
"""Of all volumes of a page together, as text; the page stays below 10 MB."""

MARGIN_MM = 25.0
_AS_STORED = ("L", "P", "S")
"""Directions of axes that the viewer shows as they are."""
MOST_SLICES = 64
MOST_FRAMES = 12
MOST_PIXELS = 256  # per side
LEAST_SLICES = 4


TRUTH, PREDICTION = "true mask", "prediction"
"""Titles of the two label volumes that every scored case has; a predicted one has the second alone."""
ENTROPY = "uncertainty (entropy)"
_WINDOW = (0.5, 99.5)  # percentiles of the intensities that the bytes hold
_TOP = 99.9  # percentile of a map that is the top of its colours; a single voxel does not set them
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "H": "F", "F": "H"}
_SLANT = 0.3  # cosine from which a direction is named too, about 73 degrees from its axis


@dataclass(frozen=True)
class Layers:
    """The layers of one frame, all of one shape (X, Y, Z).

    Attributes:
        title: of the frame.
        image: intensities.
        labels: label volumes by title, uint8; `IGNORE` is 255.
        maps: values in [0, 1] by title.
        spacing_mm: along X, Y, Z.
        codes: direction in which each axis grows, as in `('L', 'P', 'S')`.
        affine: from voxels to RAS millimetres; None of a picture.
        unit: of the spacing, `mm` or `px`.
        kept: shown even where a page has no room for every frame.
    """

    title: str
    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    maps: Mapping[str, np.ndarray]
    spacing_mm: tuple[float, ...]
    codes: tuple[str, ...]
    affine: np.ndarray | None = None
    unit: str = "mm"
    kept: bool = False


def read_layers(predictor: Predictor, config: RunConfig, dataset: CaseDataset, case: CaseFiles) -> Layers:
    """Image, masks, label columns and uncertainty of a case, with slices along the last axis.

    Args:
        predictor: of the run.
        config: of the run.
        dataset: reads the case.
        case: has a mask.
    """
    found = dataset.evaluation_case(case)
    predicted = predictor.predict_in_detail(found.volume)
    tags_from_masks = config.data.tags.model_copy(update={"source": "masks", "path": None})
    tags = load_tags(dataset, [case], config.data.model_copy(update={"tags": tags_from_masks}))
    columns = predictor.label_maps(found.volume, tags[case.name])
    columns.pop("prediction", None)  # the viewer has the cleaned one already
    labels = {TRUTH: true_labels(config, found.labels), PREDICTION: predicted.labels}
    labels |= {label_title(name): column for name, column in columns.items()}
    maps = {ENTROPY: predicted.entropy}
    if own := own_map(predictor, config):
        maps[f"uncertainty ({own})"] = predicted.network
    title = f"{case.name}, {case.phase}" if case.phase else case.name
    if is_image(case.image):
        return picture_layers(title, found.volume, labels, maps)
    volume, axis = found.volume.channel(0), config.data.grid.slice_axis  # the first stands for all
    image = orient(volume, axis)

    def turned(array: np.ndarray) -> np.ndarray:
        return orient_array(array, volume.affine, axis)

    return Layers(
        title,
        image.array,
        {name: turned(array) for name, array in labels.items()},
        {name: turned(array) for name, array in maps.items()},
        image.spacing_mm,
        nibabel.aff2axcodes(image.affine),
        image.affine,
    )


def picture_layers(
    title: str, volume: Volume, labels: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]
) -> Layers:
    """Return the layers of a picture, whose rows go down and which the viewer therefore neither mirrors nor turns.

    Args:
        title: of the picture.
        volume: (H, W, 1), or (H, W, 1, C) of colours.
        labels: (H, W, 1) by title.
        maps: (H, W, 1) in [0, 1] by title.
    """
    grey = volume.array.mean(3) if "C" in volume.axes else volume.array

    def across(array: np.ndarray) -> np.ndarray:
        return array.swapaxes(0, 1)

    return Layers(
        title,
        across(grey),
        {name: across(array) for name, array in labels.items()},
        {name: across(array) for name, array in maps.items()},
        volume.spacing_mm,
        _AS_STORED,
        unit="px",
    )


def pack(patient: str, frames: Sequence[Layers], limit_bytes: int) -> dict[str, Any]:
    """Return a patient for the viewer as plain values, at most so large; thinned out where it would be larger.

    Args:
        patient: title.
        frames: in order of time, of one shape.
        limit_bytes: of the text that holds the voxels.
    """
    slices = MOST_SLICES
    while True:
        packed = _pack(patient, frames, slices)
        size = sum(len(frame["data"]) for frame in packed["frames"])
        if size <= limit_bytes or slices <= LEAST_SLICES:
            return packed
        slices = max(LEAST_SLICES, min(slices, len(packed["slices"])) // 2)


def _pack(patient: str, frames: Sequence[Layers], most_slices: int) -> dict[str, Any]:
    first = frames[0]
    marked_frames = [index for index, frame in enumerate(frames) if frame.kept]
    chosen = [frames[index] for index in sorted({*_spread(len(frames), MOST_FRAMES), *marked_frames})]
    marked = [frame.labels[name] for frame in frames for name in (TRUTH, PREDICTION) if name in frame.labels]
    box = neighbourhood(marked, first.spacing_mm, MARGIN_MM)
    step = max(1, *(-(-len(range(*box[axis].indices(first.image.shape[axis]))) // MOST_PIXELS) for axis in (0, 1)))
    plane = tuple(slice(part.start, part.stop, step) for part in box[:2])
    depth = first.image.shape[2]
    shown = _spread(depth, most_slices)
    ranges = {name: _range([frame.maps[name][box] for frame in chosen]) for name in first.maps}
    window = _window([frame.image for frame in chosen])
    packed = [_pack_frame(frame, plane, shown, window, ranges) for frame in chosen]
    height, width = packed[0].pop("size")
    for frame in packed[1:]:
        frame.pop("size")
    return {
        "title": patient,
        "width": width,
        "height": height,
        "aspect": first.spacing_mm[1] / first.spacing_mm[0],
        "pixel": step * first.spacing_mm[0],
        "unit": first.unit,
        "sides": _sides(first),
        "window": window,
        "slices": [index + 1 for index in shown],
        "depth": depth,
        "labels": list(first.labels),
        "maps": list(first.maps),
        "ranges": list(ranges.values()),
        "marked": [index for index, frame in enumerate(chosen) if frame.kept],
        "note": "; ".join(_thinned(len(shown), depth, len(chosen), len(frames), step)),
        "frames": packed,
    }


def _thinned(slices: int, depth: int, chosen: int, frames: int, step: int) -> Iterator[str]:
    if slices < depth:
        yield f"{slices} of {depth} slices are here, evenly spread"
    if chosen < frames:
        yield f"{chosen} of {frames} frames are here, evenly spread"
    if step > 1:
        yield f"one pixel of {step} along each side is here"


def _pack_frame(
    frame: Layers,
    plane: tuple[slice, ...],
    shown: Sequence[int],
    window: tuple[float, float],
    ranges: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    def picture(volume: np.ndarray) -> np.ndarray:
        """(Z, H, W) as it is looked at: the second axis down, the patient's right on the left, posterior below."""
        array = volume[plane][:, :, list(shown)].transpose(2, 1, 0)
        across, down = _mirrored(frame)
        array = array[:, :, ::-1] if across else array
        return array[:, ::-1] if down else array

    layers = [picture(_as_bytes(frame.image, window))]
    layers += [picture(volume.astype(np.uint8)) for volume in frame.labels.values()]
    layers += [picture(_as_bytes(volume, ranges[name])) for name, volume in frame.maps.items()]
    raw = np.ascontiguousarray(np.stack(layers)).tobytes()
    return {
        "title": frame.title,
        "size": layers[0].shape[1:],
        "data": base64.b64encode(zlib.compress(raw, 9)).decode("ascii"),
    }


def _mirrored(frame: Layers) -> tuple[bool, bool]:
    """Whether the first and the second axis are shown against the direction in which they grow."""
    return frame.codes[0] in "RAS", frame.codes[1] in "RAS"


def _sides(frame: Layers) -> dict[str, str]:
    """Return the patient's direction at each side of the picture, such as `{"right": "LA", ...}`; {} of a picture.

    Letters are R, L, A, P, H (head) and F (foot), the nearest first, as DICOM viewers write them.
    """
    if frame.affine is None:
        return {}
    sides = {}
    for axis, (mirrored, low, high) in enumerate(
        zip(_mirrored(frame), ("left", "top"), ("right", "bottom"), strict=True)
    ):
        grows = direction_letters(np.asarray(frame.affine, float)[:3, axis])
        against = "".join(_OPPOSITE[letter] for letter in grows)
        sides[low], sides[high] = (grows, against) if mirrored else (against, grows)
    return sides


def direction_letters(vector: np.ndarray) -> str:
    """Return where a direction points in the patient: letters of the axes it is near to, the nearest first.

    Args:
        vector: in RAS millimetres, not zero.

    Example:
        >>> direction_letters(np.array([-1.0, 0.6, 0.1]))
        'LA'
    """
    unit = vector / np.linalg.norm(vector)
    letters = [pair[0] if part > 0 else pair[1] for pair, part in zip(("RL", "AP", "HF"), unit, strict=True)]
    order = np.argsort(-np.abs(unit), kind="stable")
    return "".join(letters[axis] for axis in order if abs(unit[axis]) > _SLANT)


def _window(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Lowest and highest intensity that is kept, of all frames together, so that they can be compared."""
    found = np.array([np.percentile(image, _WINDOW) for image in images])
    return float(found[:, 0].min()), float(found[:, 1].max())


def _range(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Lowest value of a map, and the one at the top of its colours."""
    return float(min(one.min() for one in maps)), float(max(np.percentile(one, _TOP) for one in maps))


def _as_bytes(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    return (np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255).round().astype(np.uint8)


def _spread(count: int, most: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
