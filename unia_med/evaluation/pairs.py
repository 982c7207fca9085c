"""Finds the masks of cases and the predictions that belong to them, and reads both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unia_med.data.io.geometry import spacing_of
from unia_med.data.io.image import read_mask
from unia_med.data.io.label_names import in_label_folders, without_label_word
from unia_med.data.io.nifti_names import names_in
from unia_med.data.io.read import read_volume
from unia_med.data.io.read_labels import read_label_file, whole_numbers
from unia_med.data.io.suffixes import LABEL_SUFFIXES, is_image, is_segmentation, label_stem, label_suffix
from unia_med.data.io.tables import composed
from unia_med.data.io.volume import VolumeInfo
from unia_med.data.io.walk import UNREAD, LeftOut, find_volumes
from unia_med.errors import UserError
from unia_med.metrics.table import LengthUnit
from unia_med.names import safe_name

PREDICTION_ENDINGS = ("_seg", "_pred", "")
"""Endings of a prediction's name, in order of preference; the empty one is a file named like its case."""

LABEL_ENDING = "_gt"

NO_LABELS = ("_scribble", "_scribbles", "_points", "_boxes", "_blocks", "_uncertainty", "_seg", "_pred", "_4d")
"""Endings of files next to labels that are no labels."""

_FORMATS = ", ".join(LABEL_SUFFIXES)
_DICOM = ".dcm"


@dataclass(frozen=True)
class Labels:
    """Voxels of a label file or a prediction, with what is known of their size.

    Attributes:
        array: (X, Y, Z), (X, Y, Z, T) of a cine, or (H, W) of a picture.
        affine: 4x4 to millimetres; None of a picture.
        path: The file.
        names: Segment name by value, where the file knows.
    """

    array: np.ndarray
    affine: np.ndarray | None
    path: Path | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def unit(self) -> LengthUnit:
        """Unit of `spacing`."""
        return "px" if self.affine is None else "mm"

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a voxel along the axes of space."""
        return (1.0, 1.0) if self.affine is None else spacing_of(self.affine)


def find_labels(folder: Path, quiet: bool = False) -> dict[str, Path]:
    """Return label files by case, in order of their names, searched in sub-folders too.

    Where any file is called `X_gt`, the `X_gt` are the labels (of cases X) and all other files are not, as in ACDC's
    folders, where images lie next to them. Otherwise every volume and every PNG or TIFF is a label, but for results and
    weak labels; where all are called `X_seg`, they are the labels. A case is called by its file's name, or, where names
    occur twice, by its path below the folder. Where some lie in a folder that is called as labels are, as `labelsTr` of
    nnU-Net is, the others are not labels.

    Args:
        folder: Folder of labels, or one label file.
        quiet: Do not say what was found and left out.
    """
    left = LeftOut()
    found = _mask_files(folder, "labels", left)
    marked = [path for path in found if label_stem(path).endswith(LABEL_ENDING)]
    chosen = marked or [path for path in found if not label_stem(path).endswith(NO_LABELS)]
    chosen = chosen or [path for path in found if label_stem(path).endswith("_seg")]
    if not chosen:
        remedy = "Give the folder of the true masks: X_gt or X of case X"
        raise UserError(f"holds no label, only results or weak labels ({len(found)})", where=folder, remedy=remedy)
    why = f"not ending in {LABEL_ENDING} as others do" if marked else "named like a result or weak label"
    left.add_all(set(found) - set(chosen), why)
    if not marked and folder.is_dir():
        outside = set(chosen) - set(chosen := in_label_folders(chosen, folder))
        left.add_all(outside, "outside of the folder of labels")
    if not quiet:
        left.say(len(chosen), "label", folder)
    by_stem = defaultdict(list)
    for path in chosen:
        by_stem[_case_of(path)].append(path)
    if all(len(paths) == 1 for paths in by_stem.values()):
        return {case: paths[0] for case, paths in by_stem.items()}
    labels: dict[str, Path] = {}
    for path in chosen:
        case = path.parent.relative_to(folder).joinpath(_case_of(path)).as_posix()
        if case in labels:
            raise UserError(f"two labels of case {case}: {labels[case]} and this", path, "Remove or rename one")
        labels[case] = path
    return labels


def _case_of(label: Path) -> str:
    stem = label_stem(label)
    return stem.removesuffix(LABEL_ENDING) if stem.endswith(LABEL_ENDING) else stem.removesuffix("_seg")


def find_predictions(folder: Path) -> dict[str, list[Path]]:
    """Return prediction files by case, of the preferred ending; more than one path: the name is not unique.

    Args:
        folder: Folder of predictions, or one file.
    """
    left = LeftOut()
    files = _mask_files(folder, "predictions", left)
    maps = {path for path in files if label_stem(path).endswith(("_uncertainty", LABEL_ENDING))}
    left.add_all(maps, f"named like a label or map (_uncertainty, {LABEL_ENDING})")
    left.say(len(files) - len(maps), "prediction", folder)
    found: dict[str, dict[str, list[Path]]] = {}
    for path in files:
        if path in maps:
            continue
        stem = label_stem(path)
        ending = next(ending for ending in PREDICTION_ENDINGS if stem.endswith(ending))
        name = stem.removesuffix(ending)
        inside = Path(name) if folder.is_file() else path.parent.relative_to(folder) / name
        # In a sub-folder a file goes by its path, for cases that are called "site1/scan", and by its name alone.
        for case in {composed(name), composed(inside.as_posix())}:
            found.setdefault(case, {}).setdefault(ending, []).append(path)
    return {case: next(paths[e] for e in PREDICTION_ENDINGS if e in paths) for case, paths in found.items()}


def predictions_of(cases: Sequence[str], predictions: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """Return the predictions of each case, by its name or that of its results, which is safe as a path.

    Of a case "site/scan" without any it is that of "scan" alone, of labels "scan_mask" that of "scan".

    Args:
        cases: Names of all cases; a last part that several of them share stands for none.
        predictions: As `find_predictions` gives them.
    """
    last = Counter(case.rpartition("/")[2] for case in cases)
    safe = Counter(map(safe_name, cases))
    bare = Counter(map(without_label_word, cases))
    found = {}
    for case in cases:
        short = case.rpartition("/")[2]
        own = predictions.get(composed(case), [])
        if not own and safe[safe_name(case)] == 1:
            own = predictions.get(composed(safe_name(case)), [])
        if not own and bare[image := without_label_word(case)] == 1:
            own = predictions.get(composed(image), [])
        found[case] = own or (predictions.get(composed(short), []) if last[short] == 1 else [])
    return found


def the_one(case: str, found: Sequence[Path]) -> Path:
    """Return the prediction of a case.

    Args:
        case: Name of the case.
        found: Its predictions.

    Raises:
        UserError: There is none, or more than one.
    """
    if not found:
        raise UserError(f"there is no prediction (a file {case}_seg, {case} or {case}_pred)")
    if len(found) > 1:
        raise UserError(f"there are {len(found)} predictions: {', '.join(map(str, found))}", remedy="Keep one")
    return found[0]


def read_labels(path: Path, image: VolumeInfo | None = None) -> Labels:
    """Return the voxels of a label file or a prediction as they are stored.

    Args:
        path: A volume, a PNG or TIFF, a viewer's segmentation, or a DICOM SEG or RTSTRUCT.
        image: Header of the image or of what lies on its grid; needed for an RTSTRUCT, whose contours have none.
    """
    if is_image(path):
        return Labels(read_mask(path).array[:, :, 0], None, path)
    if has_names(path):
        file = read_label_file(path, image)
        return Labels(file.array, np.asarray(file.affine, np.float64), path, file.names)
    volume = read_volume(path)
    return Labels(whole_numbers(volume.array), np.asarray(volume.affine, np.float64), path, names_in(path))


def has_names(path: Path) -> bool:
    """Return whether a file's format names its segments."""
    return is_segmentation(path) or path.suffix.lower() == _DICOM


def _tell_twins(found: Sequence[Path], left: LeftOut) -> None:
    """Say of DICOM objects that `predict` wrote next to volumes what they are, in place of "not read"."""
    volumes = {path.with_name(label_stem(path)) for path in found}
    passed = left.by_reason.pop(UNREAD, [])
    twins = [path for path in passed if label_suffix(path) == _DICOM and path.with_name(label_stem(path)) in volumes]
    left.add_all(twins, "the same masks as DICOM")
    left.add_all(set(passed) - set(twins), UNREAD)


def _mask_files(folder: Path, what: str, left: LeftOut) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, remedy=f"Check --{what}")
    found = find_volumes(folder, left, lambda path: label_suffix(path) not in (None, _DICOM))
    # DICOM objects lie next to the volumes of the same masks, or are alone.
    if not found and (found := find_volumes(folder, None, lambda path: label_suffix(path) == _DICOM)):
        left.by_reason.clear()
    _tell_twins(found, left)
    if not found:
        told = f": {left.line(0, 'mask')}" if left.by_reason else ""
        raise UserError(f"holds no mask ({_FORMATS}){told}", where=folder, remedy=f"Check --{what}")
    return found
