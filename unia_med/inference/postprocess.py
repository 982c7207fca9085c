"""Clean-up of a label volume: slice gaps, stray parts, holes. Pure numpy and scipy, each step has to be asked for.

The order matters. A gap of one slice is closed first, because it cuts a structure in two, and keeping the largest
part would then throw half of it away. All steps look at the labels alone, on the grid on which they were predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from unia_med.labels import BACKGROUND
from unia_med.localise.pieces import drop_largest_piece

# A hole below this share of the class's own area in the slice is noise. A larger one in a class that surrounds
# another class (a shell round a core) may be that other class, missed, and filling it would be a new error.
SMALL_HOLE = 0.1
_SLICES = 16  # whose holes are looked for at once, which takes many copies


def postprocess(
    labels: np.ndarray,
    largest_component: bool | Literal["foreground"] | Sequence[int] = False,
    fill_holes: bool = False,
    slice_gaps: bool = False,
    by_length: bool = False,
) -> np.ndarray:
    """Return cleaned copy of a label volume.

    Args:
        labels: integer volume (X, Y, Z), 0 is background; slices lie along Z.
        largest_component: keep the largest 3D part of each class, of the classes with the given labels, or of all of
            them taken as one (``"foreground"``).
        fill_holes: fill the holes of each class, slice by slice.
        slice_gaps: give a class to a slice that lacks it while both neighbours have it.
        by_length: the largest part is the one whose diameters have the largest sum over slices, see `pieces`.

    Returns:
        A volume of the same shape and type.

    >>> stray = np.array([[[1], [1], [0], [1]]], np.uint8)
    >>> postprocess(stray, largest_component=True)[0, :, 0]
    array([1, 1, 0, 0], dtype=uint8)
    """
    cleaned = np.array(labels)
    clean(cleaned, largest_component, fill_holes, slice_gaps, by_length)
    return cleaned


def clean(
    labels: np.ndarray,
    largest_component: bool | Literal["foreground"] | Sequence[int] = False,
    fill_holes: bool = False,
    slice_gaps: bool = False,
    by_length: bool = False,
) -> None:
    """Do what `postprocess` does in the array itself: large volumes leave no room for copies.

    Args:
        labels: see `postprocess`.
        largest_component: see `postprocess`.
        fill_holes: see `postprocess`.
        slice_gaps: see `postprocess`.
        by_length: see `postprocess`.
    """
    part = labels[_box(labels)]  # a view: the rest of the volume stays background
    if not part.size:
        return
    if slice_gaps:
        part[...] = fill_slice_gaps(part)
    if largest_component == "foreground":
        _without_small_pieces(part, None, True, by_length)
    elif largest_component:
        _without_small_pieces(part, None if largest_component is True else largest_component, False, by_length)
    if fill_holes:
        part[...] = fill_slice_holes(part)


def keep_largest_components(
    labels: np.ndarray, values: Sequence[int] | None = None, together: bool = False, by_length: bool = False
) -> np.ndarray:
    """Copy with only the largest 3D part of each class; voxels that share a corner are connected, as in MONAI.

    Args:
        labels: integer volume (X, Y, Z).
        values: the classes that are cleaned; None for all.
        together: keep the largest part of all classes taken as one instead.
        by_length: see `postprocess`.
    """
    return _without_small_pieces(np.array(labels), values, together, by_length)


def _without_small_pieces(
    labels: np.ndarray, values: Sequence[int] | None, together: bool, by_length: bool
) -> np.ndarray:
    """Do what `keep_largest_components` does in the array itself."""
    touching = ndimage.generate_binary_structure(labels.ndim, labels.ndim)
    chosen = [value for value in _classes(labels) if values is None or value in values]
    for mask in [labels != BACKGROUND] if together else (labels == value for value in chosen):  # one at a time
        drop_largest_piece(mask, touching, by_length)
        labels[mask] = BACKGROUND
    return labels


def _box(labels: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box that holds all classes; an empty one where there is none."""
    box = []
    for axis in range(labels.ndim):
        others = tuple(other for other in range(labels.ndim) if other != axis)
        places = np.flatnonzero(labels.any(axis=others))
        box.append(slice(places[0], places[-1] + 1) if len(places) else slice(0, 0))
    return tuple(box)


def fill_slice_holes(labels: np.ndarray) -> np.ndarray:
    """Copy with background that one class surrounds within a slice turned into that class.

    A class that surrounds another one anywhere in the volume only has holes up to a tenth of its area in the slice
    filled, see ``SMALL_HOLE``.

    Args:
        labels: integer volume (X, Y, Z).
    """
    filled = np.array(labels)
    for value in _classes(labels):
        inside = _enclosed(labels == value)
        held = (inside[:, :, z] & (labels[:, :, z] != BACKGROUND) for z in range(labels.shape[2]))
        surrounds_another = any(map(np.any, held))
        for z in np.flatnonzero(np.any(inside, axis=(0, 1))):
            holes = _holes(labels[:, :, z], inside[:, :, z])
            if surrounds_another:
                holes = _small_parts(holes, SMALL_HOLE * np.count_nonzero(labels[:, :, z] == value))
            filled[:, :, z][holes] = value
    return filled


def fill_slice_gaps(labels: np.ndarray) -> np.ndarray:
    """Copy in which a class that is missing in a single slice between two slices that have it is put back.

    The shape is the mean of the neighbours' signed distances (shape-based interpolation, Raya and Udupa 1990): equal
    neighbours give their own shape, a small and a large disc give the disc between, and neighbours far apart give
    nothing. Only background is overwritten, and where two missing classes meet the deeper one wins.

    Args:
        labels: integer volume (X, Y, Z).
    """
    filled = np.array(labels)
    for z in range(1, labels.shape[2] - 1):
        below, here, above = (labels[:, :, z + step] for step in (-1, 0, 1))
        missing = [v for v in _classes(below) if np.any(above == v) and not np.any(here == v)]
        if not missing:
            continue
        depths = np.stack([_signed_distance(below == v) + _signed_distance(above == v) for v in missing])
        best = np.asarray(missing, labels.dtype)[depths.argmax(axis=0)]
        empty = (here == BACKGROUND) & (depths.max(axis=0) > 0)
        filled[:, :, z][empty] = best[empty]
    return filled


def _classes(labels: np.ndarray) -> list[int]:
    return [int(value) for value in np.unique(labels) if value != BACKGROUND]


def _enclosed(mask: np.ndarray) -> np.ndarray:
    """Voxels outside ``mask`` from which no in-slice path leads to the slice's border."""
    within_slice = ndimage.generate_binary_structure(2, 1)[:, :, None]
    inside = np.zeros_like(mask)
    for first in range(0, mask.shape[2], _SLICES):
        some = mask[:, :, first : first + _SLICES]
        room = np.pad(some, ((1, 1), (1, 1), (0, 0)))  # so that a class at the border of the box encloses nothing there
        filled = ndimage.binary_fill_holes(room, structure=within_slice)[1:-1, 1:-1]
        inside[:, :, first : first + _SLICES] = filled & ~some
    return inside


def _holes(labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Enclosed parts of a slice that hold background only; a part that touches another class is not a hole."""
    parts, count = ndimage.label(inside)
    if count == 0:
        return inside
    mixed = np.unique(parts[inside & (labels != BACKGROUND)])
    return inside & ~np.isin(parts, mixed)


def _small_parts(mask: np.ndarray, largest: float) -> np.ndarray:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    return mask & (sizes[parts] <= largest)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels to the edge, positive inside."""
    room = np.pad(mask, 1)  # without any outside the distance to it would be undefined
    return (ndimage.distance_transform_edt(room) - ndimage.distance_transform_edt(~room))[1:-1, 1:-1]
