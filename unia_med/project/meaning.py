"""Recognises the kind of labels (scribbles, points, boxes, masks) and the meaning of each value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from unia_med.config.weak_labels import LabelKind
from unia_med.data.io.geometry import spacing_of
from unia_med.data.io.label_file import BACKGROUND_NAMES, LabelFile
from unia_med.data.io.label_names import WORDS
from unia_med.names import number_of
from unia_med.project.found import words_of

_POINT_PX = 6  # longest side of what is still a point
_THIN_PX = 7  # width of a stroke of a broad brush
_SHOWN = 12  # files that are looked at closely


@dataclass
class Meaning:
    """The meaning of a set of label files.

    Attributes:
        kind: what was drawn.
        classes: name by value.
        nothing: value of undrawn voxels; None where every voxel is annotated.
        background: value of annotated background; None where there is none.
        share: of each value among the pixels of slices that show a class.
        files: in how many files each value is.
        why: of each value, in words.
        as_bits: boxes are bits of a voxel, so that they may overlap; else it has the value of one class.
    """

    kind: LabelKind
    classes: dict[int, str]
    nothing: int | None
    background: int | None
    share: dict[int, float]
    files: dict[int, int]
    why: dict[int, str] = field(default_factory=dict)
    as_bits: bool = False

    @property
    def validates(self) -> bool:
        """Whether these are masks that say of every pixel what it is, so that results can be scored by them."""
        return self.kind == "masks" and self.nothing is None


def understand(
    files: Sequence[LabelFile], root: Path, names: Mapping[int, str], ignored: int | None = None, dense: bool = False
) -> Meaning:
    """Return the meaning of label files of one set.

    Args:
        files: of several cases.
        root: folder of the data.
        names: of values, from a viewer's files.
        ignored: value that a data set declares as not annotated.
        dense: they are known to be full masks, as in nnU-Net's folders.
    """
    named = {value: name for file in files for value, name in file.names.items()} | dict(names)
    counts: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for file in files:
        values, pixels = np.unique(_annotated(file.array), return_counts=True)
        counts.update({int(value): int(number) for value, number in zip(values, pixels, strict=True)})
        seen.update(int(value) for value in values)
    total = max(1, sum(counts.values()))
    share = {value: number / total for value, number in sorted(counts.items())}
    most = ignored if ignored is not None else max(share, key=lambda value: share[value], default=0)
    kind = "masks" if dense else _kind(files, root, most)
    by_name = next((v for v, name in named.items() if v and name.strip().casefold() in BACKGROUND_NAMES), None)
    around = _around_all(files, most) if by_name is None and kind in ("scribbles", "points") and most == 0 else None
    by_name = around if by_name is None and not named else by_name
    nothing, background = _empty_values(kind, most, share, by_name, ignored)
    classes = {value: _class_name(value, named) for value in share if value not in (nothing, background, 0)}
    meaning = Meaning(kind, _unlike(classes), nothing, background, share, dict(seen))
    meaning.why = {value: _why(value, meaning) for value in share}
    if ignored is not None and ignored not in share:
        meaning.why[ignored] = "declared as the label to ignore: read as *not annotated*"
    if around in classes:
        meaning.why[around] += (
            f", which lies around all others: if it means background, set background_value: {around} and "
        )
        meaning.why[around] += "remove the class"
    return meaning


def _annotated(array: np.ndarray) -> np.ndarray:
    """Return the slices along the stored axis that hold more than one value; all where none does."""
    flat = array.reshape(-1, array.shape[2])
    several = flat.max(0) != flat.min(0)
    return array[:, :, several] if several.any() else array


def _empty_values(
    kind: LabelKind, most: int, share: Mapping[int, float], by_name: int | None, ignored: int | None
) -> tuple[int | None, int | None]:
    """Return the value of "nothing drawn" and that of annotated background."""
    if kind == "masks" and ignored is None:
        return None, 0
    if kind == "boxes":
        return None, 0
    if by_name is not None:
        return most, by_name
    if most != 0:  # as in ACDC: 0 was drawn, another value says that nothing was
        return most, 0 if 0 in share else None
    return 0, None


def _kind(files: Sequence[LabelFile], root: Path, most: int) -> LabelKind:
    spoken = {word for file in files for word in words_of(file.path, root)}
    for kind in ("scribbles", "points", "boxes", "masks"):
        if spoken & set(WORDS[kind]):
            return kind
    return _kind_by_shape(files, most)


def _kind_by_shape(files: Sequence[LabelFile], most: int) -> LabelKind:
    """Return what was drawn by the shape of its pieces, slice by slice, along the axis with the fewest slices drawn."""
    shapes = [shape for file in files[:_SHOWN] for shape in _pieces(file, most)]
    if not shapes:
        return "masks"
    sides, filled, widths, lengths = (np.array(column, float) for column in zip(*shapes, strict=True))
    if np.mean(sides <= _POINT_PX) > 0.9:
        return "points"
    if np.mean(filled > 0.98) > 0.8 and np.median(widths) > 3:
        return "boxes"
    thin = (widths <= _THIN_PX) & (lengths > 2 * widths)
    return "scribbles" if np.mean(thin) > 0.6 or np.mean((widths <= _THIN_PX) & (filled < 0.4)) > 0.5 else "masks"


def _pieces(file: LabelFile, most: int) -> list[tuple[float, float, float, float]]:
    """Return, per piece of a class in a slice: longest side, share of its bounding box, width and length, in pixels."""
    array = np.moveaxis(file.array, drawn_axis(file.array != most, file.affine), 2)
    found = []
    for z in np.flatnonzero((array != most).any((0, 1)))[:40]:
        plane = array[:, :, z]
        for value in np.unique(plane[plane != most]):
            pieces, _ = ndimage.label(plane == value, np.ones((3, 3)))
            for number, box in enumerate(ndimage.find_objects(pieces), start=1):
                piece = np.pad(pieces[box] == number, 1)
                width = 2 * float(ndimage.distance_transform_edt(piece).max()) - 1
                side = float(max(piece.shape) - 2)
                area, bounds = float(piece.sum()), piece[1:-1, 1:-1]
                # A box may lie inside another one: its frame counts with what it holds.
                whole = bounds[[0, 0, -1, -1], [0, -1, 0, -1]].all() and (plane[box] != most).mean() > 0.98
                found.append((side, 1.0 if whole else min(0.97, area / bounds.size), width, area / width))
    return found


def drawn_axis(drawn: np.ndarray, affine: np.ndarray) -> int:
    """Return the stored axis across which labels were drawn slice by slice.

    That of the thickest slices; where voxels are cubes, the third, unless another one has more gaps.

    Args:
        drawn: bool (X, Y, Z).
        affine: 4x4, voxel indices to mm.
    """
    spacing = spacing_of(affine)
    if drawn.shape[2] == 1 or max(spacing) > 1.3 * min(spacing):
        return 2 if drawn.shape[2] == 1 else int(np.argmax(spacing))
    used = [drawn.any(tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    filled = [_share_between_ends(np.asarray(planes)) for planes in used]
    best = int(np.argmin(filled))
    return best if filled[best] < 0.7 * filled[2] else 2


def _around_all(files: Sequence[LabelFile], most: int) -> int | None:
    """Return the value that lies around all others in nearly every slice, as a background loop or points do."""
    from unia_med.data.weak_labels.complete import convex_hull

    votes: Counter[int] = Counter()
    slices = 0
    for file in files[:_SHOWN]:
        array = np.moveaxis(file.array, drawn_axis(file.array != most, file.affine), 2)
        for z in np.flatnonzero((array != most).any((0, 1)))[:20]:
            plane = array[:, :, z]
            values = [int(value) for value in np.unique(plane[plane != most])]
            if len(values) < 2:
                continue
            slices += 1
            for value in values:
                others = (plane != most) & (plane != value)
                hull = convex_hull(plane == value)
                votes[value] += int(hull[others].mean() > 0.95 and not convex_hull(others)[plane == value].any())
    value, count = max(votes.items(), key=lambda vote: vote[1], default=(0, 0))
    return value if slices and count > 0.8 * slices else None


def _class_name(value: int, names: Mapping[int, str]) -> str:
    return names.get(value, f"class_{value}").strip() or f"class_{value}"


def _unlike(classes: dict[int, str]) -> dict[int, str]:
    """Return names of which no two are alike."""
    counted = Counter(classes.values())
    return {value: name if counted[name] == 1 else f"{name}_{value}" for value, name in classes.items()}


def _why(value: int, meaning: Meaning) -> str:
    percent = f"{100 * meaning.share[value]:.1f} % of the pixels of annotated slices"
    if value == meaning.nothing:
        reason = "touches" if value == 0 else "is"
        return f"{reason} {percent}: read as *not annotated*"
    if value == meaning.background:
        if meaning.kind in ("masks", "boxes"):
            return f"{percent}: read as background"
        around = "" if value == 0 else " (it is called so, or lies around all others)"
        return f"{percent}: read as annotated background{around}; set background_value to change that"
    if value in meaning.classes:
        return f"{percent}, in {number_of(meaning.files[value], 'file')}: class {meaning.classes[value]!r}"
    return f"{percent}: read as background"


def _share_between_ends(used: np.ndarray) -> float:
    """Return the share of true values between the first and the last one; 1 where there is none."""
    places = np.flatnonzero(used)
    return float(used[places[0] : places[-1] + 1].mean()) if len(places) else 1.0
