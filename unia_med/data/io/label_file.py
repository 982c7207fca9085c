"""Labels of a file with the names of their segments, resampled to the grid of an image."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unia_med.data.io.geometry import grid_difference
from unia_med.data.io.regrid import nearest_on_grid, share_inside, voxel_map
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError

_NO_OVERLAP = "Export the labels with the geometry of their image, or name the right image"


BACKGROUND_NAMES = (
    *("background", "bg", "hintergrund", "fond", "arrière-plan", "fondo", "sfondo", "fundo", "achtergrond", "bakgrund"),
    *("bakgrunn", "baggrund", "tausta", "tło", "pozadí", "фон", "arka plan", "背景", "배경"),
)
"""Names of a segment in which a viewer's user marks background."""


def is_background_name(name: str) -> bool:
    """Return whether a segment of this name marks background."""
    return name.strip().casefold() in BACKGROUND_NAMES


@dataclass(frozen=True)
class LabelFile:
    """Labels as stored, before their values are interpreted.

    Attributes:
        array: integers (X, Y, Z); 0 is what every viewer writes where nothing is drawn.
        affine: 4x4, voxel indices to RAS mm.
        path: the file.
        names: segment name by value, where the file knows.
        cropped: the file holds only the box around what is drawn, so that what lies outside is 0 as well.
    """

    array: np.ndarray
    affine: np.ndarray
    path: Path
    names: Mapping[int, str] = field(default_factory=dict)
    cropped: bool = False


def same_grid(file: LabelFile, image: VolumeInfo) -> bool:
    """Return whether labels lie on the voxels of their image already."""
    return grid_difference(image.shape, image.affine, file.array.shape, file.affine) is None


def onto_image(
    labels: np.ndarray, file: LabelFile, image: VolumeInfo, outside: int = 0, nothing: int | None = None
) -> np.ndarray:
    """Return labels on the grid of their image, (X, Y, Z): untouched where they lie on it, else nearest in mm.

    Args:
        labels: what was made of `file.array`, of its shape.
        file: where they come from.
        image: header of the image.
        outside: value where the file says nothing because it does not reach there.
        nothing: of strokes and points, see `nearest_on_grid`.

    Raises:
        UserError: nothing that is drawn lies inside the image, or the file has no geometry to place it by.
    """
    if same_grid(file, image):
        return labels
    check_placeable(VolumeInfo(tuple(file.array.shape), file.affine, file.path), image)
    if share_inside(file.array != 0, file.affine, image.shape, image.affine) == 0:
        raise _apart(file.path, file.array.shape, image)
    return nearest_on_grid(labels, file.affine, image.shape, image.affine, outside, nothing)


def check_placeable(labels: VolumeInfo, image: VolumeInfo) -> None:
    """Refuse labels on another grid than their image's that do not overlap it, or whose header lost its geometry.

    Args:
        labels: header of the labels.
        image: header of the image.

    Raises:
        UserError: they cannot be brought to the image's grid.
    """
    if grid_difference(image.shape, image.affine, labels.shape, labels.affine) is None:
        return
    if is_image(labels.path):  # pixels have no millimetres by which they could be moved
        what = f"shape {labels.shape[:3]}, expected {image.shape[:3]} as {image.path.name}"
        raise UserError(what, where=labels.path, remedy="Image and mask must have the same size in pixels")
    unplaced = np.allclose(np.abs(labels.affine), np.eye(4))
    if unplaced and not np.allclose(np.abs(image.affine), np.eye(4)):
        what = f"shape {labels.shape[:3]} without a geometry (1 mm voxels at the origin), {image.path.name} has one"
        raise UserError(what, where=labels.path, remedy="Export the labels with the header of their image")
    corners = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in labels.shape[:3]))))
    matrix = voxel_map(image.affine, labels.affine)
    there = corners @ matrix[:3, :3].T + matrix[:3, 3]
    if (there.max(0) < -0.5).any() or (there.min(0) > np.asarray(image.shape[:3]) - 0.5).any():
        raise _apart(labels.path, labels.shape, image)


def by_class_values(file: LabelFile, classes: Sequence[str], values: Sequence[int]) -> np.ndarray:
    """Return `file.array` with segments that are named like classes holding the values of those classes.

    Names win over values: viewers number segments in the order in which they were made. Case, spaces, hyphens and
    underscores do not count. A segment of another name keeps a value that is no class's. Where the file names nothing,
    or nothing that is a class, its values count.

    Args:
        file: labels with names.
        classes: names of the T classes.
        values: value of each class.

    Example:
        >>> file = LabelFile(np.array([[[1, 2, 3]]]), np.eye(4), Path("x"), {1: "Skull", 2: "grey matter", 3: "CSF"})
        >>> by_class_values(file, ["csf", "Grey_Matter"], [1, 2]).tolist()
        [[[3, 2, 1]]]
    """
    wanted = {_plain(name): value for name, value in zip(classes, values, strict=True)}
    named = {stored: wanted[_plain(name)] for stored, name in file.names.items() if _plain(name) in wanted}
    if not named:
        return file.array
    # The value that stands for a class may not fit into the bytes of the file.
    array, taken = file.array.astype(np.result_type(file.array, np.int32)), set(values)
    free = iter(v for v in range(1, 1 << 15) if v not in taken)
    for stored in np.unique(file.array[file.array != 0]).tolist():
        unnamed = stored not in file.names and stored not in taken  # such as 255, not annotated
        array[file.array == stored] = stored if unnamed else named[stored] if stored in named else next(free)
    return array


def _apart(path: Path, shape: Sequence[int], image: VolumeInfo) -> UserError:
    what = f"the labels (shape {tuple(shape[:3])}) do not overlap the image {image.path.name} in the scanner's mm"
    return UserError(what, where=path, remedy=_NO_OVERLAP)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()
