"""Loads the weak labels of a run: read or made, completed, merged, on the network's grid."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.config.weak_labels import DEFAULT_BETA, LabelSource
from unia_med.data.checks import DataFault, faults_of, raise_faults
from unia_med.data.grid.cache import Decode
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.orientation import orient, orient_array
from unia_med.data.io.read import read_header
from unia_med.data.io.volume import Volume
from unia_med.data.masks import sliced_labels
from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.boxes import boxes_on_grid, fill_boxes
from unia_med.data.weak_labels.by_intensity import Completed, boxes_by_intensity, complete_by_intensity
from unia_med.data.weak_labels.complete import fill_background, fill_beyond_points
from unia_med.data.weak_labels.make import box_masks, make_labels, outside_boxes
from unia_med.data.weak_labels.meaning import Background, count_background, unsaid_background
from unia_med.data.weak_labels.place import GridMap, grid_map
from unia_med.data.weak_labels.read import find_files, read_boxes, read_labels
from unia_med.data.weak_labels.shape import LabelShape
from unia_med.data.weak_labels.tags import group_labels, unknown_tags
from unia_med.errors import UserError, nearest
from unia_med.labels import BACKGROUND, IGNORE, TAG_ABSENT, TAG_PRESENT, TAG_UNKNOWN
from unia_med.localise.random_walker import walker_probabilities
from unia_med.names import number_of
from unia_med.progress import tracked
from unia_med.registry import SHAPES, resolve, with_installed

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig
    from unia_med.data.dataset import CaseDataset

_LOG = logging.getLogger(__name__)
_SHOWN = 5  # names of cases in a message


@dataclass(frozen=True)
class Drawing:
    """Labels of one case from one source, before they are completed.

    Args:
        labels: uint8 (X, Y, Z) as stored, with slices along the third axis; IGNORE where nothing is said.
        boxes: bool (T, X, Y, Z), filled boxes per class; None for other kinds.
        grid: Leads to the network's grid.
    """

    labels: np.ndarray
    boxes: np.ndarray | None
    grid: GridMap

    def tags(self, classes: int, marks_every_class: bool | None) -> np.ndarray:
        """Return int8 tags (Z, T): a class that is drawn is present; others are absent where that is promised.

        Args:
            classes: T.
            marks_every_class: Nothing is left out in an annotated slice; None: nothing of the classes that are drawn in
                some slice.
        """
        if self.boxes is not None:
            drawn = self.boxes.any((1, 2)).T
        else:
            drawn = np.stack([(self.labels == label).any((0, 1)) for label in range(1, classes + 1)], 1)
        annotated = (self.labels != IGNORE).any((0, 1)) if self.boxes is None else np.ones(len(drawn), bool)
        looked_for = drawn.any(0) if marks_every_class is None else np.full(classes, marks_every_class)
        rest = np.where(annotated[:, None] & looked_for, TAG_ABSENT, TAG_UNKNOWN)
        return np.where(drawn, TAG_PRESENT, rest).astype(np.int8)


def load_weak_labels(
    dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig, seed: int
) -> dict[str, np.ndarray] | None:
    """Return uint8 labels (Z, H, W) on the network's grid per case that has some, IGNORE where nothing is said.

    0 is background, 1..T the classes or, where they are merged, the groups. Of several sources, a later one fills
    only what earlier ones left open. None when the config names no source.

    Args:
        dataset: The data set; its masks are read for sources that are made from masks only.
        cases: The training cases.
        config: Uses `labels`, `classes`, `groups` and `grid`.
        seed: Of the run; draws patients, and labels that are made from masks.

    Raises:
        UserError: Files or patients that do not exist, or files that cannot be used; all of them at once.
    """
    if not config.labels:
        return None
    merged: dict[str, np.ndarray] = {}
    for source in config.labels:
        count, silent = 0, []
        for case, drawing in _drawings(dataset, cases, config, source, seed):
            labels, count = _on_grid(case, drawing, config, source), count + 1
            # Boxes that are not filled determine the background alone: what lies outside of them.
            said = labels != IGNORE if source.kind == "boxes" else (labels != BACKGROUND) & (labels != IGNORE)
            silent += [] if said.any() else [case.name]
            before = merged.get(case.name)
            merged[case.name] = labels if before is None else np.where(before == IGNORE, labels, before)
        if silent and (source.source == "files" or source.kind == "masks"):
            _tell_silent(silent, count, source)
        how = "" if source.fill == "none" else f", completed by {source.fill}"
        _LOG.info("%s of %d of %d volumes%s", source.kind, count, len(cases), how)
    if config.groups:
        merged = {case: group_labels(labels, config.classes, config.groups) for case, labels in merged.items()}
    return merged


def _tell_silent(silent: Sequence[str], count: int, source: LabelSource) -> None:
    """Name the cases whose labels hold no class; where that is all of them, nothing could be learned."""
    if len(silent) == count and source.source == "files":
        what = f"none of the {source.kind} of {count} volumes has a pixel of a class, so they teach nothing"
        raise UserError(what, where="data.labels", remedy="Name the right files, or set values of this entry")
    shown = ", ".join(silent[:_SHOWN]) + (", ..." if len(silent) > _SHOWN else "")
    what = "the %s of %d of %d volumes hold no pixel of a class (%s): right where there is none, else check the files"
    _LOG.warning(what, source.kind, len(silent), count, shown)


def load_label_tags(
    dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig, seed: int
) -> dict[str, np.ndarray]:
    """Return int8 tags (Z, T) of all cases as the weak labels give them, unknown elsewhere; groups are not merged.

    Args:
        dataset: As for `load_weak_labels`.
        cases: As for `load_weak_labels`.
        config: As for `load_weak_labels`.
        seed: As for `load_weak_labels`.
    """
    counts = dataset.slice_counts(cases)
    tags = {case.name: unknown_tags(counts[case.name], len(config.classes)) for case in cases}
    for source in config.labels:
        for case, drawing in _drawings(dataset, cases, config, source, seed):
            known = tags[case.name]
            made = source.source == "masks" and source.marks_every_class is None  # masks show every class
            said = drawing.tags(len(config.classes), True if made else source.marks_every_class)
            tags[case.name] = np.where(known == TAG_UNKNOWN, said, known)
    return tags


def choose_patients(wanted: int | Sequence[str] | None, patients: Sequence[str], seed: int) -> set[str]:
    """Return the patients whose labels a source provides.

    Args:
        wanted: None takes all; a number draws that many, a larger number the same and more; or names.
        patients: Those that have such labels.
        seed: Other seeds draw other patients. Which others there are does not change the order of two patients.
    """
    known = sorted(set(patients))
    if wanted is None:
        return set(known)
    if isinstance(wanted, int):
        if wanted > len(known):
            remedy = "Give a smaller number, or null for all"
            raise UserError(
                f"{number_of(wanted, 'patient')} asked for, {len(known)} with such labels", "data.labels", remedy
            )
        order = sorted(known, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        return set(order[:wanted])
    for name in wanted:
        if name not in known:
            close = nearest(name, known)
            remedy = f"Did you mean {close!r}?" if close else f"There are {len(known)}, such as {known[:3]}"
            raise UserError(f"patient {name!r} is no training patient with such labels", "data.labels", remedy)
    return set(wanted)


def _drawings(
    dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig, source: LabelSource, seed: int
) -> Iterator[tuple[CaseFiles, Drawing]]:
    """Yield the labels of each case that a source has; raise the faults of all cases at the end."""
    files = find_files(source, cases, config) if source.source == "files" else {}
    able = [case for case in cases if (case.name in files if files else case.mask is not None)]
    patients = choose_patients(source.patients, [case.patient for case in able], seed)
    chosen = [case for case in able if case.patient in patients]
    faults: list[DataFault] = []
    counts: list[Background] = []
    for case in tracked(chosen, f"reading {source.kind}", len(chosen)):
        try:
            drawing = _draw(dataset, case, files.get(case.name), config, source, seed)
        except UserError as error:
            faults.extend(faults_of(error, files.get(case.name, case.image)))
            continue
        counts.append(count_background(drawing.labels) if source.source == "files" else Background())
        yield case, drawing
    unsaid = unsaid_background(source, counts, list(files.values()), config.labels.index(source))
    faults.extend([unsaid] if unsaid else [])
    raise_faults(faults, "data.labels")


def _draw(
    dataset: CaseDataset, case: CaseFiles, file: Path | None, config: DataConfig, source: LabelSource, seed: int
) -> Drawing:
    header = read_header(case.image)
    axis = config.grid.slice_axis
    boxes = None
    if file is None:
        mask = sliced_labels(dataset.labels(case), case, config)
        labels = make_labels(source.kind, mask, case.name, seed, source.make)
        boxes = box_masks(mask, len(config.classes)) if source.kind == "boxes" else None
    elif source.kind == "boxes":
        stored = read_boxes(file, case, dataset, source)
        boxes = np.stack([orient_array(part, header.affine, axis) for part in stored])
        labels = outside_boxes(boxes)
    else:
        labels = orient_array(read_labels(file, case, source, dataset), header.affine, axis)
    # An array without memory: it is there for its shape.
    turned = orient(Volume(np.broadcast_to(np.uint8(0), header.shape[:3]), header.affine), axis)
    return Drawing(labels, boxes, grid_map(turned.shape, turned.affine, config.grid))


def intensity_samples(
    dataset: CaseDataset, cases: Sequence[CaseFiles], config: DataConfig, source: LabelSource, seed: int, count: int
) -> list[tuple[str, Completed]]:
    """Return what `fill: intensity` makes of the first cases that have labels, with their names.

    Args:
        dataset: As for `load_weak_labels`.
        cases: As for `load_weak_labels`.
        config: As for `load_weak_labels`.
        source: An entry of `data.labels` with that `fill`.
        seed: As for `load_weak_labels`.
        count: How many at most.
    """
    drawings = itertools.islice(_drawings(dataset, cases, config, source, seed), count)
    return [(case.name, _by_intensity(case, drawing, config, source)) for case, drawing in drawings]


def _on_grid(case: CaseFiles, drawing: Drawing, config: DataConfig, source: LabelSource) -> np.ndarray:
    """Labels (Z, H, W) of one source, completed as it says."""
    if source.fill == "intensity":
        found = _by_intensity(case, drawing, config, source)
        _tell_alike(case.name, found, config.classes)
        return found.labels
    labels = _with_background(drawing, source)
    if source.fill in ("none", "rule"):
        return labels
    images = _image_slices(case, config)
    shape = _shape(source)
    if source.fill == "ellipse":
        assert drawing.boxes is not None  # the config lets ellipses be asked for boxes alone
        boxes = boxes_on_grid(drawing.boxes, drawing.grid)
        if shape is None:
            return np.stack([fill_boxes(config.grid.size, of_slice) for of_slice in boxes])
        return np.stack([shape.from_boxes(i, b, config.classes) for i, b in zip(images, boxes, strict=True)])
    return np.stack([_walked(i, plane, config, source, shape) for i, plane in zip(images, labels, strict=True)])


def _with_background(drawing: Drawing, source: LabelSource) -> np.ndarray:
    """Labels (Z, H, W) as drawn and, where they shall be completed, with the background that follows from a rule."""
    labels = drawing.grid.place(drawing.labels)
    marks = source.marks_every_class is not False
    if source.fill != "none" and source.kind == "scribbles":
        return np.stack([fill_background(plane, marks_every_class=marks) for plane in labels])
    if source.fill != "none" and source.kind == "points":
        return np.stack([fill_beyond_points(plane, marks) for plane in labels])
    return labels


def _by_intensity(case: CaseFiles, drawing: Drawing, config: DataConfig, source: LabelSource) -> Completed:
    step = drawing.grid.slice_step
    if drawing.boxes is None:
        labels = _with_background(drawing, source)
        return complete_by_intensity(_image_slices(case, config), labels, len(config.classes), step)
    order = brightness_order(source, config.classes)
    boxes = np.stack([drawing.grid.place(box.astype(np.uint8)) == 1 for box in drawing.boxes])
    return boxes_by_intensity(_image_slices(case, config), boxes, order, step)


def brightness_order(source: LabelSource, classes: Sequence[str]) -> list[int]:
    """Return the labels from the darkest to the brightest as a source of boxes says; one class needs no saying.

    Args:
        source: with `complete.brightness`.
        classes: names of the labels 1, 2, ...
    """
    order = source.complete.brightness or (list(classes) if len(classes) == 1 else [])
    if sorted(order) != sorted(classes):
        what = f"brightness is {order}" if order else "fill: intensity does not know how the classes in the boxes look"
        remedy = f"Set complete: {{brightness: [{', '.join(classes)}]}} in this entry, the darkest class first"
        raise UserError(what, where="data.labels", remedy=remedy)
    return [1 + list(classes).index(name) for name in order]


def _tell_alike(case: str, found: Completed, classes: Sequence[str]) -> None:
    for one, other in found.alike:
        what = "%s: intensities do not separate %s and %s, so most of their pixels stay without a label"
        _LOG.warning(what, case, classes[one - 1], classes[other - 1])


def _shape(source: LabelSource) -> LabelShape | None:
    name = source.complete.shape
    if name is None:
        return None
    shape: LabelShape = resolve(with_installed(SHAPES, "unia_med.shapes"), name, "shape")()
    return shape


def _walked(
    image: np.ndarray, labels: np.ndarray, config: DataConfig, source: LabelSource, shape: LabelShape | None
) -> np.ndarray:
    if (labels == IGNORE).all():
        return labels
    beta = source.complete.beta or DEFAULT_BETA[source.kind]
    probabilities = walker_probabilities(image, labels, len(config.classes) + 1, beta)
    if shape is not None:
        return shape.from_walk(probabilities, labels, config.classes)
    return probabilities.argmax(0).astype(np.uint8)


def _image_slices(case: CaseFiles, config: DataConfig) -> np.ndarray:
    """float32 (Z, C, H, W): the slices as the network sees them."""
    decoded = Decode(config.grid, ChannelFiles.of(config))(case)
    raise_faults([decoded["fault"]] if decoded["fault"] else [], "data")
    return decoded["slices"].float().numpy()
