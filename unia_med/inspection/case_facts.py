"""Statistics of one case for inspection: every file is read once, and only numbers are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from scipy import ndimage

from unia_med.config.weak_labels import LabelSource
from unia_med.data.checks import DataFault, faults_of
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.orientation import orient, slice_count
from unia_med.data.io.read import read_header
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import Volume
from unia_med.data.masks import sliced_labels
from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.meaning import Background, count_background
from unia_med.data.weak_labels.read import read_boxes, read_labels
from unia_med.data.weak_labels.tags import tags_from_mask
from unia_med.errors import UserError, memory_checked
from unia_med.labels import IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig
    from unia_med.data.dataset import CaseDataset

_SAMPLED_VOXELS = 100_000  # enough for percentiles, and a fifth of the time of all of them
_SHOWN_PERCENTILES = (1, 50, 99)

FAR_SHARE = 0.1
"""Share of a slice's shorter side, in mm, beyond which a pixel is far from a label: 20 mm of 200."""


@dataclass
class LabelFacts:
    """What a file of weak labels holds.

    Attributes:
        pixels: labelled pixels of background and of each of the T classes, (T + 1,); of boxes, those inside them.
        slices: slices with any label.
        background: how much of what was drawn is background; None for boxes.
        far: pixels of annotated slices that lie farther than `far_mm` from any label, and all.
        far_mm: `FAR_SHARE` of a slice's shorter side; of pictures in pixels.
        pieces: connected strokes or points per class, slice by slice, (T,).
    """

    pixels: np.ndarray
    slices: int
    background: Background | None = None
    far: tuple[int, int] = (0, 0)
    far_mm: float = 0.0
    pieces: np.ndarray | None = None


@dataclass
class CaseFacts:
    """Numbers of one case; what could not be read is None.

    Attributes:
        files: which case.
        shape: (X, Y, Z) as stored.
        spacing_mm: along the stored axes; None of a picture.
        orientation: of the stored axes, e.g. "LPS"; empty of a picture, which has none, nor millimetres.
        slices: number of slices along the configured axis.
        intensity: 1st, 50th and 99th percentile.
        digest: hash of the voxels.
        mask_tags: int8 (Z, T) of the mask.
        labels: per position in `data.labels`.
        faults: everything wrong with the case's files.
    """

    files: CaseFiles
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str = ""
    slices: int = 0
    intensity: tuple[float, ...] | None = None
    digest: str | None = None
    mask_tags: np.ndarray | None = None
    labels: dict[int, LabelFacts] = field(default_factory=dict)
    faults: list[DataFault] = field(default_factory=list)


def gather(
    dataset: CaseDataset, case: CaseFiles, config: DataConfig, label_files: Mapping[int, Mapping[str, Path]]
) -> CaseFacts:
    """Return the facts of one case; whatever cannot be read becomes a fault, and the rest is gathered all the same.

    Args:
        dataset: The data set of the case.
        case: Which.
        config: The data part of a config.
        label_files: Per position in `data.labels`, the label file of each case that has one.
    """
    facts = CaseFacts(case)
    try:
        with memory_checked(case.image):
            _add_image(ChannelFiles.of(config).read(case.image), facts, config)
    except UserError as error:
        facts.faults.extend(faults_of(error, case.image))
    if case.mask is not None:
        try:
            with memory_checked(case.mask):
                labels = sliced_labels(dataset.labels(case), case, config)
                facts.mask_tags = tags_from_mask(labels, range(1, len(config.classes) + 1))
        except UserError as error:
            facts.faults.extend(faults_of(error, case.mask))
    for position, files in label_files.items():
        if case.name in files:
            _add_labels(facts, dataset, config, position, files[case.name])
    return facts


def _add_image(volume: Volume, facts: CaseFacts, config: DataConfig) -> None:
    facts.shape = volume.shape[:3]
    if not is_image(facts.files.image):
        facts.spacing_mm = volume.spacing_mm
        facts.orientation = "".join(nib.aff2axcodes(volume.affine))
    facts.slices = slice_count(volume.shape, volume.affine, config.grid.slice_axis)
    flat = volume.array.reshape(-1, order="A")
    sample = flat[:: max(1, flat.size // _SAMPLED_VOXELS)]
    facts.intensity = tuple(float(value) for value in np.percentile(sample, _SHOWN_PERCENTILES))
    if flat.min() == flat.max():
        remedy = "Export the scan again, or leave it out"
        found = f"the value {flat[0]:g} in every voxel"
        facts.faults.append(DataFault(facts.files.image, found, "an image", remedy))
    facts.digest = hashlib.blake2b(np.ascontiguousarray(volume.array).data, digest_size=16).hexdigest()


def _add_labels(facts: CaseFacts, dataset: CaseDataset, config: DataConfig, position: int, path: Path) -> None:
    source: LabelSource = config.labels[position]
    labels: np.ndarray | None = None
    try:
        if source.kind == "boxes":
            boxes = read_boxes(path, facts.files, dataset, source)
            inside = [int(box.sum()) for box in boxes]
            labelled = np.asarray(boxes.any(0))
            pixels = np.array([boxes[0].size - int(labelled.sum()), *inside])
        else:
            labels = read_labels(path, facts.files, source, dataset)
            pixels = np.bincount(labels.ravel(), minlength=IGNORE + 1)[: len(config.classes) + 1]
            labelled = np.asarray(labels != IGNORE)
        labelled = sliced_labels(labelled, facts.files, config)
    except UserError as error:
        facts.faults.extend(faults_of(error, path))
        return
    spacing = _pixel_spacing(facts.files, config)
    far_mm = FAR_SHARE * min(size * mm for size, mm in zip(labelled.shape[:2], spacing, strict=True))
    found = LabelFacts(
        pixels, int(labelled.any((0, 1)).sum()), far=far_pixels(labelled, spacing, far_mm), far_mm=far_mm
    )
    if labels is not None:
        turned = sliced_labels(labels, facts.files, config)
        found.background = count_background(turned)
        found.pieces = np.array([count_pieces(turned == label) for label in range(1, len(config.classes) + 1)])
    facts.labels[position] = found


def _pixel_spacing(case: CaseFiles, config: DataConfig) -> tuple[float, float]:
    """Return the size in mm of a pixel along both sides of a slice; of pictures 1."""
    header = read_header(case.image)
    # An array without memory: it is there for its shape.
    stored = Volume(np.broadcast_to(np.uint8(0), header.shape[:3]), header.affine)
    first, second, _ = orient(stored, config.grid.slice_axis).spacing_mm
    return float(first), float(second)


def far_pixels(labelled: np.ndarray, spacing: tuple[float, float], far_mm: float) -> tuple[int, int]:
    """Return how many pixels of annotated slices are far from any label, and how many pixels these slices have.

    Args:
        labelled: bool (X, Y, Z).
        spacing: of a pixel along X and Y, in mm.
        far_mm: what is far.
    """
    shown = labelled[:, :, labelled.any((0, 1))]
    distances = (ndimage.distance_transform_edt(~plane, sampling=spacing) for plane in np.moveaxis(shown, 2, 0))
    return sum(int((distance > far_mm).sum()) for distance in distances), shown.size


def count_pieces(drawn: np.ndarray) -> int:
    """Return the number of connected pieces of a mask (X, Y, Z), counted slice by slice."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[:, :, 1] = True
    return int(ndimage.label(drawn, in_plane)[1])
