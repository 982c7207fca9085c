"""Volumes for the slice viewer: cropped, eight bits a voxel, compressed, and never larger than a page can carry."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
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

PAGE_BYTES = 7_000_000
"""Of all volumes of a page together, as text; the page stays below 10 MB."""

MARGIN_MM = 25.0
_AS_STORED = ("L", "P", "S")
"""Directions of axes that the viewer shows as they are."""
MOST_SLICES = 64
MOST_FRAMES = 12
MOST_PIXELS = 256  # per side
LEAST_SLICES = 4


TRUTH, PREDICTION = "ground truth", "prediction"
"""Titles of the two label volumes that every case has."""


@dataclass(frozen=True)
class Layers:
    """What can be looked at in one frame, all of one shape (X, Y, Z).

    Attributes:
        title: of the frame.
        image: intensities.
        labels: label volumes by title, uint8; `IGNORE` is 255.
        maps: values in [0, 1] by title.
        spacing_mm: along X, Y, Z.
        codes: direction in which each axis grows, as in `('L', 'P', 'S')`.
        affine: from voxels to RAS millimetres; None of a picture.
    """

    title: str
    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    maps: Mapping[str, np.ndarray]
    spacing_mm: tuple[float, ...]
    codes: tuple[str, ...]
    affine: np.ndarray | None = None

    def labelled(self, title: str) -> Volume | None:
        """Return one of the label volumes with its place in space; None of a picture."""
        return None if self.affine is None else Volume(self.labels[title], self.affine)


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
    labels = {TRUTH: true_labels(config, found.labels), PREDICTION: predicted.labels, **columns}
    maps = {"uncertainty (entropy)": predicted.entropy, "uncertainty (own map)": predicted.network}
    title = f"{case.name}, {case.phase}" if case.phase else case.name
    if is_image(case.image):
        return _picture(title, found.volume, labels, maps)
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


def _picture(title: str, volume: Volume, labels: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]) -> Layers:
    """Return the layers of a picture, whose rows go down and which the viewer therefore neither mirrors nor turns."""
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
    chosen = [frames[index] for index in _spread(len(frames), MOST_FRAMES)]
    marked = [frame.labels[name] for frame in frames for name in ("ground truth", "prediction")]
    box = neighbourhood(marked, first.spacing_mm, MARGIN_MM)
    step = max(1, *(-(-len(range(*box[axis].indices(first.image.shape[axis]))) // MOST_PIXELS) for axis in (0, 1)))
    plane = tuple(slice(part.start, part.stop, step) for part in box[:2])
    depth = first.image.shape[2]
    shown = _spread(depth, most_slices)
    notes = []
    if len(shown) < depth:
        notes.append(f"{len(shown)} of {depth} slices are here, evenly spread")
    if len(chosen) < len(frames):
        notes.append(f"{len(chosen)} of {len(frames)} frames are here, evenly spread")
    if step > 1:
        notes.append(f"one pixel of {step} along each side is here")
    packed = [_pack_frame(frame, plane, shown) for frame in chosen]
    height, width = packed[0].pop("size")
    for frame in packed[1:]:
        frame.pop("size")
    return {
        "title": patient,
        "width": width,
        "height": height,
        "aspect": first.spacing_mm[1] / first.spacing_mm[0],
        "slices": [index + 1 for index in shown],
        "depth": depth,
        "labels": list(first.labels),
        "maps": list(first.maps),
        "note": "; ".join(notes),
        "frames": packed,
    }


def _pack_frame(frame: Layers, plane: tuple[slice, ...], shown: Sequence[int]) -> dict[str, Any]:
    def picture(volume: np.ndarray) -> np.ndarray:
        """(Z, H, W) as it is looked at: the second axis down, the patient's right on the left, posterior below."""
        array = volume[plane][:, :, list(shown)].transpose(2, 1, 0)
        array = array[:, :, ::-1] if frame.codes[0] in "RAS" else array
        return array[:, ::-1] if frame.codes[1] in "RAS" else array

    layers = [picture(_as_bytes(frame.image))]
    layers += [picture(volume.astype(np.uint8)) for volume in frame.labels.values()]
    layers += [picture((volume * 255).round().astype(np.uint8)) for volume in frame.maps.values()]
    raw = np.ascontiguousarray(np.stack(layers)).tobytes()
    return {
        "title": frame.title,
        "size": layers[0].shape[1:],
        "data": base64.b64encode(zlib.compress(raw, 9)).decode("ascii"),
    }


def _as_bytes(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, (0.5, 99.5))
    return (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).round().astype(np.uint8)


def _spread(count: int, most: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
