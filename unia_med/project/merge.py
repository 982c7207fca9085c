"""Merges several label files of one image: a file per class, or a file per annotator."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unia_med.config.weak_labels import LabelKind
from unia_med.data.io.geometry import spacing_of
from unia_med.data.io.label_file import LabelFile, onto_image
from unia_med.data.io.label_names import LABEL_WORDS, tokens
from unia_med.data.io.suffixes import label_stem, volume_stem
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.project.meaning import drawn_axis

_ANNOTATOR = re.compile(
    r"(rater|reader|annotator|anno|observer|expert|user|radiologist|r|a|o)?_?\d*|[a-c]", re.IGNORECASE
)
_MOSTLY = 0.8
_LARGE = 3.0  # slices that a piece is wide
NO_CLASS = LABEL_WORDS - {"lesion", "lesions"}
"""Words that are no names of classes."""


def part_names(image: Path, labels: Sequence[Path]) -> dict[Path, str]:
    """Return what distinguishes the label files of an image: their names without the image's, and words for labels.

    Args:
        image: the image.
        labels: its label files.

    Example:
        >>> part_names(Path("p1.nii"), [Path("p1_liver_mask.nii"), Path("p1-spleen.nii")])
        {PosixPath('p1_liver_mask.nii'): 'liver', PosixPath('p1-spleen.nii'): 'spleen'}
    """
    known = {*tokens(image.name if image.is_dir() else volume_stem(image)), *NO_CLASS}
    return {path: "_".join(word for word in _words(path) if word.casefold() not in known) for path in labels}


def are_classes(sets: Mapping[Path, Sequence[Path]], files: Mapping[Path, LabelFile]) -> bool:
    """Return whether, by their names, the files of each image hold a class each; else they are annotators'.

    Args:
        sets: label files by image, several of each.
        files: their content.
    """
    names = [name for image, labels in sets.items() for name in part_names(image, labels).values()]
    single = all(len(np.unique(files[path].array[files[path].array != 0])) <= 1 for ps in sets.values() for path in ps)
    return single and all(names) and not all(_ANNOTATOR.fullmatch(name) for name in names)


def merged_classes(
    image: Path, labels: Sequence[Path], files: Mapping[Path, LabelFile], header: VolumeInfo, classes: Sequence[str]
) -> tuple[np.ndarray, dict[int, str]]:
    """Return one volume of files that hold a class each, and the names of its values.

    Args:
        image: whose labels they are.
        labels: the files.
        files: their content.
        header: of the image, on whose grid the result lies.
        classes: names of all classes of the set, in the order of their values.

    Raises:
        UserError: two files claim the same voxels.
    """
    merged = np.zeros(header.shape[:3], np.uint8)
    owner: dict[int, Path] = {}
    for path, name in sorted(part_names(image, labels).items(), key=lambda item: classes.index(item[1])):
        value = classes.index(name) + 1
        drawn = _on_grid(files[path], header) != 0
        taken = Counter(merged[drawn & (merged != 0)].tolist()).most_common(1)
        if taken:
            what = f"{taken[0][1]} voxels are {name} here and {classes[taken[0][0] - 1]} in {owner[taken[0][0]].name}"
            remedy = "Correct one of the two: a voxel has one class. Or keep only one label file next to the image"
            raise UserError(what, where=path, remedy=remedy)
        merged[drawn], owner[value] = value, path
    return merged, {value: classes[value - 1] for value in owner}


def merged_annotators(
    labels: Sequence[Path], files: Mapping[Path, LabelFile], header: VolumeInfo, kind: LabelKind
) -> tuple[np.ndarray, int]:
    """Return one volume of several annotators' files, and how many voxels they disagree on.

    Masks: where not all agree, nothing is known (255). Of strokes and points, where 0 is "not drawn", all count.

    Args:
        labels: the files.
        files: their content.
        header: of the image, on whose grid the result lies.
        kind: what was drawn.

    Raises:
        UserError: strokes of different classes cross.
    """
    stack = np.stack([_on_grid(files[path], header) for path in labels])
    if kind in ("masks", "boxes"):
        differ = (stack != stack[0]).any(0)
        return np.where(differ, IGNORE, stack[0]).astype(np.uint8), int(differ.sum())
    merged = stack.max(0)
    crossing = int(((stack != 0) & (stack != merged)).any(0).sum())
    if crossing:
        what = f"{crossing} voxels have another class in {', '.join(path.name for path in labels[1:])}"
        raise UserError(what, where=labels[0], remedy="Correct one of the two, or keep only one label file per image")
    return merged.astype(np.uint8), 0


def are_cut_off(files: Sequence[LabelFile]) -> bool:
    """Return whether masks were drawn in some slices only: large pieces have neighbours of which both are empty.

    Args:
        files: masks, 0 being background.
    """
    shares = [share for share in map(_lone_share, files) if share is not None]
    return bool(shares) and float(np.mean(shares)) > _MOSTLY


def without_empty_slices(file: LabelFile, path: Path) -> LabelFile:
    """Return masks in which slices that show no class are not annotated (255).

    Args:
        file: masks, 0 being background.
        path: where the result will lie.
    """
    array = np.array(file.array, np.uint8)
    planes = np.moveaxis(array, drawn_axis(array != 0, file.affine), 2)
    planes[:, :, ~planes.any((0, 1))] = IGNORE
    return LabelFile(array, file.affine, path, file.names)


def _lone_share(file: LabelFile) -> float | None:
    """Return the share of slices with a large piece whose neighbours are empty; None where there is no such slice."""
    drawn = np.asarray(file.array) != 0
    axis = drawn_axis(drawn, file.affine)
    spacing = spacing_of(file.affine)
    pixel_mm2, gap_mm = float(np.prod(spacing)) / spacing[axis], spacing[axis]
    areas = np.moveaxis(drawn, axis, 2).sum((0, 1)) * pixel_mm2
    if len(areas) < 3:
        return None
    large = 2 * np.sqrt(areas / np.pi) > _LARGE * gap_mm  # what is so wide does not end within a slice
    empty = np.r_[True, areas == 0, True]
    lone = empty[:-2] & empty[2:]
    return float(lone[large].mean()) if large.any() else None


def _words(path: Path) -> list[str]:
    return [part for part in re.split(r"[\W_]+", label_stem(path)) if part]


def _on_grid(file: LabelFile, header: VolumeInfo) -> np.ndarray:
    return np.asarray(onto_image(file.array, file, header))
