"""Decides on a config for what lies in a folder: labels, classes, method, grid, and how files are named."""

from __future__ import annotations

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.data.io.dataset_json import DatasetJson, read_dataset_json
from unia_med.data.io.label_file import LabelFile
from unia_med.data.io.label_names import split_labels
from unia_med.data.io.suffixes import is_image, label_stem, volume_stem
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.names import number_of
from unia_med.project.coordinates import read_coordinates
from unia_med.project.found import Found, look, words_of
from unia_med.project.grid import axis_note, grid_of
from unia_med.project.markups import as_label, markup_volumes
from unia_med.project.meaning import Meaning, understand
from unia_med.project.merge import (
    NO_CLASS,
    are_classes,
    are_cut_off,
    merged_annotators,
    merged_classes,
    part_names,
    without_empty_slices,
)
from unia_med.project.names import cases_by_name, names_in
from unia_med.project.pairs import Pairs, owners, pair
from unia_med.project.programs import unread_annotations
from unia_med.project.shapes import shape_volumes
from unia_med.project.tags import TagTable, read_tag_table

MERGED = ".merged"
"""Folder, in name only, of label files that `write_project` writes."""

FEW = 5
"""Images with true masks below which none is kept for validation."""


@dataclass
class Plan:
    """The content of a config.

    Attributes:
        root: folder of the data.
        pairs: images and labels.
        weak: labels to learn from: kind, meaning, and file by image; None where tags are.
        masks: meaning and file by image of dense masks next to weak labels, for validation.
        tags: the table of tags that is learned from.
        drawn: content of the label files, by path.
        grid: settings of `data.grid`.
        channels: C.
        notes: what a reader should know.
    """

    root: Path
    pairs: Pairs
    weak: tuple[Meaning, dict[Path, Path]] | None
    masks: tuple[Meaning, dict[Path, Path]] | None
    tags: TagTable | None
    drawn: dict[Path, LabelFile]
    grid: dict[str, Any]
    channels: int
    pixels: bool
    patient: str | None
    notes: list[str] = field(default_factory=list)

    @property
    def method(self) -> str:
        """Kind of labels that the method learns from, as in the names of the templates."""
        if self.weak is None:
            return "tags" if self.tags else "scribbles"
        return "scribbles" if self.weak[0].kind == "blocks" else self.weak[0].kind

    @property
    def validates(self) -> bool:
        """Whether some images are kept for validation: enough of them, and true masks to score by."""
        masks = self.masks or self.weak
        return masks is not None and masks[0].validates and len(masks[1]) >= FEW

    @property
    def classes(self) -> dict[int, str]:
        """Name by value of the classes that a network will learn."""
        if self.weak is not None:
            return self.weak[0].classes
        return dict(enumerate(self.tags.classes, start=1)) if self.tags else {1: "CLASS1"}


def make_plan(root: Path) -> Plan:
    """Return the plan for a folder.

    Args:
        root: the folder.

    Raises:
        UserError: it holds no image.
    """
    root = root.resolve()
    found = look(root)
    pairs = pair(found, root)
    nnunet = read_dataset_json(root)
    tables = [table for table in found.tables if table.suffix.lower() == ".tsv"]
    names = dict(nnunet.names) if nnunet else names_in([*found.texts, *tables])
    cases = [case_name(image, root, pairs) for image in pairs.images]
    by_name = dict(zip(cases, pairs.images, strict=True))
    shaped = None if pairs.labels else _shaped(found, by_name, root)
    notes = _unused(found, pairs)
    pixels = _in_pixels(pairs, notes)
    sets = _label_sets(found, pairs, root, names, nnunet, notes)
    weak = next((entry for entry in sets if entry[0].kind != "masks"), None)
    weak = weak or shaped or _marked(found, pairs, root, notes) or _listed(found, by_name, root, bool(sets), notes)
    table = next((tags for path in found.tables if (tags := read_tag_table(path, by_name))), None)
    if weak is None and table is not None and table.strangers:
        notes.append(f"{table.path.name} has {number_of(len(table.strangers), 'row')} of images that are not here, "
                     f"such as {table.strangers[0]}: left out")  # fmt: skip
    masks = next((entry for entry in sets if entry[0].kind == "masks"), None)
    if weak is None and table is None:
        weak, masks = masks, None
    for meaning, files in (entry for entry in sets if entry not in (weak, masks)):
        first = next(iter(files.values()))
        notes.append(
            f"one set is learned from: {number_of(len(files), 'more label file')} ({meaning.kind}, such as {first}) "
            "left out"
        )
    headers = [found.images[image] for image in pairs.images]
    channels = len(pairs.channel_endings) or (headers[0].shape[3] if len(headers[0].shape) == 4 else 1)
    if weak is None and table is None:
        notes.append("no labels and no table of tags were found: draw some, or name them below")
    drawn = [found.labels[path] for path in list(weak[1].values())[:5]] if weak else []
    grid = grid_of(headers, pixels)
    return Plan(root, pairs, weak, masks, table if weak is None else None, found.labels, grid, channels, pixels,
                _patient(cases), notes + axis_note(drawn))  # fmt: skip


def _unused(found: Found, pairs: Pairs) -> list[str]:
    """Return a note per reason for which files are left out, with the first of them."""
    reasons = {**found.unread, **dict.fromkeys(pairs.unpaired, "labels without an image, left out")}
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for path, reason in reasons.items():
        by_reason[reason].append(path)
    notes = unread_annotations(found.others)
    return notes + [f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {reason}"
            for reason, paths in by_reason.items()]  # fmt: skip


def images_to_predict(plan: Plan) -> str:
    """Return what `predict --input` takes for the images of a plan: their folder, with a split where labels lie there.

    Labels whose names do not say so would be taken for images; results of DICOM series get the names of the cases, by
    which `evaluate` finds their labels.
    """
    folder = Path(os.path.commonpath([image.parent for image in plan.pairs.images]))
    inside = [path for path in plan.drawn if path.is_relative_to(folder) and path.parent.name != MERGED]
    taken, _ = split_labels([*plan.pairs.images, *inside], folder)
    mixed = not set(taken).isdisjoint(inside) or any(image.is_dir() for image in plan.pairs.images)
    part = "val" if plan.validates else "train"
    return f"{shlex.quote(str(plan.root))} --split {part}" if mixed else shlex.quote(str(folder))


def case_name(image: Path, root: Path, pairs: Pairs) -> str:
    """Return the name of a case as the data set will have it."""
    stem = image.name if image.is_dir() else volume_stem(image)
    if pairs.channel_endings:
        stem = stem.removesuffix(pairs.channel_endings[0])
    folder = image.relative_to(root).parent.as_posix()
    return stem if folder == "." else f"{folder}/{stem}"


def pattern_of(label: Path, image: Path, root: Path, pairs: Pairs) -> str:
    """Return a label's path with the image's folder and name replaced, as in `data.volumes.masks`."""
    folder = image.relative_to(root).parent.as_posix()
    name = case_name(image, root, pairs).rpartition("/")[2]
    text = (label.relative_to(root).parent / label_stem(label)).as_posix()
    if name and name in label_stem(label):
        head, _, stem = text.rpartition("/")
        text = f"{head}/{stem.replace(name, '{name}')}" if head else stem.replace(name, "{name}")
    if folder != "." and text.startswith(f"{folder}/"):
        return "{folder}" + text[len(folder) :]
    return text if "/" in text else "{folder}/" + text


def _marked(found: Found, pairs: Pairs, root: Path, notes: list[str]) -> tuple[Meaning, dict[Path, Path]] | None:
    """Return the points or boxes of 3D Slicer's markups; `write_project` writes their volumes."""
    owned = owners([as_label(path) for path in found.markups], pairs, root)
    files = {path: image for path in found.markups if (image := owned[as_label(path)])}
    notes += [f"{path}: markups without an image, left out" for path in found.markups if path not in files][:5]
    volumes = markup_volumes(files, found.images, root / MERGED) if files else None
    if volumes is None:
        return None
    marked, note = volumes
    notes += [note] if note else []
    found.labels.update({file.path: file for file in marked.files.values()})
    return marked.meaning, {image: file.path for image, file in marked.files.items()}


def _shaped(found: Found, cases: Mapping[str, Path], root: Path) -> tuple[Meaning, dict[Path, Path]] | None:
    """Return the masks or boxes of annotation programs; `write_project` writes their volumes."""
    shapes = shape_volumes(found.others, found.images, cases_by_name(cases), root / MERGED)
    if shapes is None:
        return None
    drawn, used = shapes
    found.others = [path for path in found.others if path not in used]
    found.labels.update({file.path: file for file in drawn.files.values()})
    return drawn.meaning, {image: file.path for image, file in drawn.files.items()}


def _listed(
    found: Found, cases: Mapping[str, Path], root: Path, others: bool, notes: list[str]
) -> tuple[Meaning, dict[Path, Path]] | None:
    """Return the points or boxes of the first table that lists some; `write_project` writes their volumes.

    Where there are other labels, a table that cannot be placed is noted in place of refused.
    """
    names = cases_by_name(cases)
    for table in found.tables:
        try:
            listed = read_coordinates(table, found.images, names, root / MERGED, needs_class=others)
        except UserError as error:
            if not others:
                raise
            notes.append(f"{error.where}: {error.what}; this table is left out")
            continue
        if listed is not None:
            found.labels.update({file.path: file for file in listed.files.values()})
            return listed.meaning, {image: file.path for image, file in listed.files.items()}
    return None


def _label_sets(
    found: Found, pairs: Pairs, root: Path, names: Mapping[int, str], nnunet: DatasetJson | None, notes: list[str]
) -> list[tuple[Meaning, dict[Path, Path]]]:
    """Return the sets of labels, separated by the words in their names; the largest first."""
    by_role: dict[tuple[str, ...], dict[Path, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for image, labels in pairs.labels.items():
        for label in labels:
            by_role[tuple(sorted(NO_CLASS.intersection(words_of(label, root))))][image].append(label)
    roles = [_one_each(role, found, root, names, notes) for role in by_role.values()]
    sets = []
    for role in roles:
        files = [found.labels[path] for path in role.values()]
        open_to_question = any(path.parent.name == MERGED and (found.labels[path].array == IGNORE).any()
                               for path in role.values())  # fmt: skip
        ignored = nnunet.ignored if nnunet else IGNORE if open_to_question else None
        meaning = understand(files, root, names or _bids_name(role.values()), ignored, dense=nnunet is not None)
        if meaning.validates and nnunet is None and are_cut_off(files):
            for image, path in role.items():
                role[image] = _merged_path(image, root)
                found.labels[role[image]] = without_empty_slices(found.labels[path], role[image])
            meaning = understand([found.labels[path] for path in role.values()], root, names, IGNORE, dense=True)
            notes.append("masks end at full size in most slices that show a class, so that the slices without one are "
                         "read as *not annotated* (255); where nothing is there, set data.volumes.masks in place of "
                         "data.volumes.labels")  # fmt: skip
        sets.append((meaning, role))
    # Of as many files, those that name their classes.
    return sorted(sets, key=lambda entry: (-len(entry[1]), all(map(_is_number_name, entry[0].classes.values()))))


def _is_number_name(name: str) -> bool:
    """Return whether a class has the name that it gets where nothing names it."""
    return re.fullmatch(r"class_\d+", name) is not None


def _bids_name(labels: Iterable[Path]) -> dict[int, str]:
    """Return the name of the class 1 of masks that BIDS calls label-NAME; none where they do not agree."""
    found = {match[1] if (match := re.search(r"_label-([A-Za-z0-9]+)", path.name)) else "" for path in labels}
    name = found.pop() if len(found) == 1 else ""
    return {1: name} if name else {}


def _in_pixels(pairs: Pairs, notes: list[str]) -> bool:
    """Return whether images are taken as stored pixels, since pictures, which have no millimetres, are learned from.

    Pictures among scans that have no label, unlike the scans, are no images to learn from: screenshots, as a rule.
    """
    pictures = [image for image in pairs.images if is_image(image)]
    scans = len(pairs.images) - len(pictures)
    if not pictures or not scans:
        return bool(pictures)
    if pairs.labels and not any(pairs.labels.get(picture) for picture in pictures):
        pairs.images = [image for image in pairs.images if not is_image(image)]
        shown = f"{number_of(len(pictures), 'picture')} without labels among {number_of(scans, 'scan')}"
        notes.append(f"{shown}, such as {pictures[0]}: left out")
        return False
    notes.append(
        f"{len(pictures)} pictures, which have no millimetres, and {scans} scans: all are read as stored pixels"
    )
    return True


def _one_each(
    role: Mapping[Path, Sequence[Path]], found: Found, root: Path, names: Mapping[int, str], notes: list[str]
) -> dict[Path, Path]:
    """Return one label file of each image; several of an image become one, which `write_project` writes."""
    several = {image: labels for image, labels in role.items() if len(labels) > 1}
    single = {image: _as_numbers(image, labels[0], found, root) for image, labels in role.items() if len(labels) == 1}
    if not several:
        return single
    # A file per class is one everywhere, also where only one class was drawn.
    by_class = are_classes(several, found.labels)
    classes = sorted({name for image, labels in role.items() for name in part_names(image, labels).values()})
    kind = understand([found.labels[path] for labels in several.values() for path in labels], root, names).kind
    disagreed = 0
    for image, labels in (role if by_class else several).items():
        header = found.images[image]
        if by_class:
            array, named = merged_classes(image, labels, found.labels, header, classes)
        else:
            array, differing = merged_annotators(labels, found.labels, header, kind)
            named, disagreed = dict(found.labels[labels[0]].names), disagreed + differing
        path = _merged_path(image, root)
        found.labels[path] = LabelFile(array, np.asarray(header.affine, np.float64), path, named)
        single[image] = path
    empty = [name for name in classes if by_class and not _is_drawn(name, role, found)]
    what = f"classes ({', '.join(classes)})" if by_class else "annotators"
    what += f", of which nothing shows {', '.join(empty)}" if empty else ""
    unsure = f"; {number_of(disagreed, 'voxel')} on which they disagree: not annotated" if disagreed else ""
    owning = number_of(len(several), "image")
    notes.append(f"several label files, of {what}, belong to {owning}: they are merged into one{unsure}")
    return single


def _is_drawn(name: str, role: Mapping[Path, Sequence[Path]], found: Found) -> bool:
    """Return whether any file of a class shows something."""
    return any(
        found.labels[path].array.any()
        for image, labels in role.items()
        for path, part in part_names(image, labels).items()
        if part == name
    )


def _merged_path(image: Path, root: Path) -> Path:
    """Return where the label volume of an image will lie that `write_project` writes."""
    return root / MERGED / f"{image.relative_to(root).as_posix().replace('/', '_').split('.')[0]}.nii.gz"


def _as_numbers(image: Path, label: Path, found: Found, root: Path) -> Path:
    """Return a label file that a training can read: of a mask in colours, the volume of their numbers."""
    if label not in found.coloured:
        return label
    path, file = _merged_path(image, root), found.labels[label]
    found.labels[path] = LabelFile(file.array.astype(np.uint8), file.affine, path, file.names)
    return path


def _patient(cases: Sequence[str]) -> str | None:
    """Return an expression for the patient where several cases share one, as sub-01_ses-1 and sub-01_ses-2 do."""
    for expression in (r"(sub-[A-Za-z0-9]+)", r"((?:patient|subject|pat|subj|case|p)[_-]?\d+)[_-]"):
        found = [re.search(expression, case, re.IGNORECASE) for case in cases]
        if all(found) and len({match[1] for match in found if match}) < len(cases):
            return f"(?i){expression}"
    return None
