"""Which mask files belong to one patient, in which order, and what an `Info.cfg` says about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unia_med.cardiac.indices import CardiacIndices, PhaseChoice, measure
from unia_med.cardiac.plausible import refuse_impossible, unusual
from unia_med.data.io.nifti_file import time_step_s
from unia_med.data.io.read import read_volume
from unia_med.data.io.read_labels import whole_numbers
from unia_med.data.io.suffixes import VOLUME_SUFFIXES, volume_stem
from unia_med.data.io.volume import Volume
from unia_med.data.io.walk import UNREAD, LeftOut, find_volumes, walk
from unia_med.errors import UserError

MASK_ENDINGS = ("_seg", "_pred", "_gt")
"""Endings of masks, in order of preference; where no file has one, every volume is taken for a mask."""

NO_MASKS = ("_uncertainty", "_scribble", "_scribbles", "_points", "_blocks", "_boxes")
"""Endings of files next to masks that are no masks."""

PHASES = ("ED", "ES")

NOTHING_STATED: Mapping[str, int] = {}

_FRAME = re.compile(r"(?P<patient>.+)_frame(?P<frame>\d+)$")


@dataclass(frozen=True)
class MaskCase:
    """The masks of one patient.

    Attributes:
        name: the patient, or the name of a single file.
        files: by frame number, rising; a 4D file stands alone under 1.
    """

    name: str
    files: Mapping[int, Path]


@dataclass(frozen=True)
class MeasuredCase:
    """The measurements of one case.

    Attributes:
        name: of the case.
        numbers: of its frames, from 1, as in file names.
        time_step_s: of a 4D file; None where it is not known.
        indices: the findings.
        warnings: what is unusual of them, see `plausible.unusual`.
    """

    name: str
    numbers: tuple[int, ...]
    time_step_s: float | None
    indices: CardiacIndices
    warnings: tuple[str, ...] = ()


def parse_classes(text: str) -> dict[str, int]:
    """Label values of `RV,MYO,LV` (1, 2, 3 in this order) or of `LV=1,MYO=2,RV=3`.

    Args:
        text: names that are LV, MYO or RV are measured, in any case; others are known labels and left alone.

    Example:
        >>> parse_classes("lv=500,myo=205,rv=600")
        {'LV': 500, 'MYO': 205, 'RV': 600}
    """
    values: dict[str, int] = {}
    for position, part in enumerate(text.split(","), start=1):
        name, _, number = (piece.strip() for piece in part.partition("="))
        name, value = _known(name), number or str(position)
        if not name or not value.isdigit() or int(value) == 0 or name in values or int(value) in values.values():
            what = f"{part.strip()!r} in {text!r}, expected names or NAME=VALUE, each once, values above 0"
            raise UserError(what, where="--classes", remedy="For example --classes RV,MYO,LV or LV=1,MYO=2,RV=3")
        values[name] = int(value)
    if "LV" not in values:
        raise UserError(f"no LV among {', '.join(values)}", where="--classes", remedy="Name the left ventricle LV")
    return values


def heart_classes(values: Mapping[str, int], where: Path) -> dict[str, int]:
    """Return the label of each class under the names that are measured.

    Args:
        values: label by name; LV, MYO and RV are recognised in any case.
        where: the file that names them.

    Raises:
        UserError: there is no LV among them.
    """
    found = {_known(name): value for name, value in values.items()}
    if "LV" not in found:
        remedy = "Only masks of LV, MYO and RV are measured; if these are, name their labels by --classes"
        raise UserError(f"the masks hold {', '.join(values)}, and no LV", where, remedy)
    return found


def _known(name: str) -> str:
    return name.upper() if name.upper() in ("LV", "MYO", "RV") else name


def find_cases(masks: Path) -> list[MaskCase]:
    """Return the patients of a folder of masks, searched with its sub-folders, by name.

    `X_frameNN` are frames of patient X; any other file is a case of its own. Names that occur in several sub-folders
    get their folder before them, as `predict` and `evaluate` have it.

    Args:
        masks: folder, or one file.

    Raises:
        UserError: there is no mask, or one frame twice.
    """
    named = {path: _patient_and_frame(path) for path in _mask_files(masks)}
    twice = {name for (name, _), count in Counter(named.values()).items() if count > 1}
    frames: dict[str, dict[int, Path]] = {}
    for path, (name, number) in named.items():
        case = (path.parent.relative_to(masks) / name).as_posix() if name in twice else name
        files = frames.setdefault(case, {})
        if number in files:
            raise UserError(f"two masks of {case}: {files[number]} and this", path, "Remove or rename one")
        files[number] = path
    return [MaskCase(name, dict(sorted(files.items()))) for name, files in sorted(frames.items())]


def _patient_and_frame(path: Path) -> tuple[str, int]:
    stem = volume_stem(path)
    stem = next((stem.removesuffix(ending) for ending in MASK_ENDINGS if stem.endswith(ending)), stem)
    match = _FRAME.fullmatch(stem)
    return (match["patient"], int(match["frame"])) if match else (stem, 1)


def measure_case(
    case: MaskCase,
    values: Mapping[str, int],
    info: Mapping[str, Path] | None = None,
    stated: Mapping[str, int] = NOTHING_STATED,
) -> MeasuredCase:
    """Return indices of one case.

    Args:
        case: its files.
        values: label of each class.
        info: `Info.cfg` by patient; None to find ED and ES from the LV.
        stated: number of the frame at "ED" and at "ES", as in file names (from 1); it wins over `info`.

    Raises:
        UserError: the masks cannot be measured, or what they give is no heart.
    """
    first = next(iter(case.files.values()))
    if len(case.files) > 1:
        numbers, step = tuple(case.files), None
        frames = _frame_files(case.files.values())
    else:
        volume = read_mask(first)
        step = time_step_s(volume.header) if "T" in volume.axes else None
        numbers = tuple(range(1, volume.frames + 1)) if volume.array.ndim == 4 else tuple(case.files)
        frames = (volume.frame(index) for index in range(volume.frames))
    known = {**({} if info is None else _stated_frames(case.name, info)), **stated}
    try:
        found = measure(frames, values, _choice(known, numbers))
        refuse_impossible(found)
        return MeasuredCase(case.name, numbers, step, found, tuple(unusual(found)))
    except UserError as error:
        raise UserError(error.what, error.where or first, error.remedy) from error


def find_info(folder: Path) -> dict[str, Path]:
    """`Info.cfg` files below a folder by the name of the patient's folder, as in ACDC.

    Args:
        folder: for example the data set's root.
    """
    if not folder.is_dir():
        raise UserError("no such folder", folder, "Check --info")
    found = {path.parent.name: path for path in walk(folder) if path.name == "Info.cfg"}
    if not found:
        raise UserError("holds no Info.cfg", folder, "Give the folder of the patients' folders, or leave out --info")
    return found


def _mask_files(masks: Path) -> list[Path]:
    if masks.is_file():
        return [masks]
    if not masks.is_dir():
        raise UserError("no such folder", masks, "Check --masks")
    left = LeftOut()
    files = find_volumes(masks, left)
    marked = next((found for ending in MASK_ENDINGS if (found := _ending_in(files, ending))), None)
    taken = marked or [path for path in files if not volume_stem(path).endswith(NO_MASKS)]
    if not taken:
        what = f"holds no mask ({', '.join(VOLUME_SUFFIXES)})"
        raise UserError(f"{what}: {left.line(0, 'mask')}" if left.by_reason else what, masks, "Check --masks")
    why = f"not ending in {' or '.join(MASK_ENDINGS)} as others do" if marked else "named like an image or map"
    left.add_all(set(files) - set(taken), why)
    _forget_objects(left)
    left.say(len(taken), "mask", masks)
    return taken


def _forget_objects(left: LeftOut) -> None:
    """Take from what was left out the DICOM objects that `predict` writes next to masks: they are not amiss."""
    others = [path for path in left.by_reason.pop(UNREAD, ()) if path.suffix != ".dcm"]
    left.add_all(others, UNREAD)


def _ending_in(files: Sequence[Path], ending: str) -> list[Path]:
    return [path for path in files if volume_stem(path).endswith(ending)]


def read_mask(path: Path) -> Volume:
    """Return a mask, 3D or 4D, whose labels are whole numbers also where rounding in the file changed them.

    Args:
        path: the file.
    """
    volume = read_volume(path)
    return replace(volume, array=whole_numbers(volume.array))


def _frame_files(paths: Iterable[Path]) -> Iterator[Volume]:
    for path in paths:
        volume = read_mask(path)
        if volume.array.ndim != 3:
            raise UserError("a 4D mask among frames", path, "Keep the frames, or the 4D file under another name")
        yield volume


def _stated_frames(name: str, info: Mapping[str, Path]) -> dict[str, int]:
    """Frame numbers of ED and ES by a patient's `Info.cfg`."""
    from unia_med.data.checks import raise_faults
    from unia_med.data.layouts.acdc import read_info

    patient = name.removesuffix("_4d")
    if patient not in info:
        raise UserError(f"no Info.cfg for {patient}", remedy="Give a folder with all patients by --info, or none")
    faults: list = []
    stated = read_info(info[patient], faults)
    raise_faults(faults, info[patient].parent)
    return {phase: int(stated[phase]) for phase in PHASES}


def _choice(stated: Mapping[str, int], numbers: Sequence[int]) -> PhaseChoice:
    """Positions among the frames of the frame numbers that are stated."""
    if missing := [f"{phase} (frame {number})" for phase, number in stated.items() if number not in numbers]:
        what = f"no mask of {' and '.join(missing)} among the frames {', '.join(map(str, numbers))}"
        raise UserError(what, remedy="Add the masks, or correct ED and ES (--ed, --es, Info.cfg)")
    places = {phase: numbers.index(number) for phase, number in stated.items()}
    return PhaseChoice(places.get("ED"), places.get("ES"))
