"""ACDC cardiac MR in the layout in which the challenge ships it (Bernard et al., IEEE TMI 2018)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.data.checks import DataFault
from unia_med.data.io.geometry import grid_difference
from unia_med.data.io.read import read_header
from unia_med.data.io.suffixes import NIFTI_SUFFIXES
from unia_med.data.io.volume import VolumeInfo
from unia_med.data.layouts.base import Layout
from unia_med.data.layouts.class_values import ACDC as CLASS_VALUES
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError, nearest
from unia_med.files import decoded
from unia_med.labels import BACKGROUND

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig

_PHASES = ("ED", "ES")
_INFO_REMEDY = "Info.cfg needs the lines 'ED: <frame>' and 'ES: <frame>', as the challenge ships it"


class AcdcDataset(Layout):
    """The cases of an ACDC folder: two frames per patient, found by each patient's `Info.cfg`.

    Patient folders lie in `root`, or else in `root/training`, or else in `root/testing`. Masks may be missing for
    a whole patient, as in a test set, but not for one of its frames.

    Args:
        config: Needs `root`, `classes` and `class_values`. Without `class_values`, a class's value in
            the masks goes by its ACDC name: RV 1, MYO 2, LV 3.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.class_values = _class_values(self.classes, config.class_values)

    def found_cases(self, faults: list[DataFault]) -> list[CaseFiles]:
        """Return the cases as `cases` does, adding what is wrong to `faults` in place of raising it."""
        cases = [case for folder in self._patient_folders() for case in _patient_cases(folder, faults)]
        for case in cases:
            self._check_case(case, faults)
        return cases

    def _check_label(self, path: Path, image: VolumeInfo, faults: list[DataFault]) -> None:
        """Add a fault where a mask does not lie on the grid of its frame, as the challenge ships it."""
        super()._check_label(path, image, faults)
        try:
            info = read_header(path)
        except UserError:
            return  # reported already
        if differs := grid_difference(image.shape, image.affine, info.shape, info.affine):
            remedy = "Export image and mask on the same grid"
            faults.append(DataFault(path, differs[0], f"{differs[1]} as in {image.path.name}", remedy))

    @property
    def known_values(self) -> tuple[int, ...]:
        """ACDC's own values, and those of `data.class_values`."""
        return (BACKGROUND, *self.own_values, *self.class_values)

    @property
    def foreign_remedy(self) -> str:
        """What to do about a mask with other values."""
        return "Correct the mask, or name its values in data.class_values"

    def missing_mask(self, case: CaseFiles) -> DataFault:
        """Return the fault of a case that has no mask."""
        return DataFault(case.image, "no mask", "a _gt file next to it", "Add the mask, or leave this case out")

    def _patient_folders(self) -> list[Path]:
        if not self.root.is_dir():
            raise UserError("no such folder", where=self.root, remedy="Set data.root to the ACDC folder")
        for folder in (self.root, self.root / "training", self.root / "testing"):
            patients = sorted(p for p in folder.glob("patient*") if p.is_dir())
            if patients:
                return patients
        raise UserError(
            "holds no patientNNN folder, nor do 'training' and 'testing' below it",
            where=self.root,
            remedy="Set data.root to the folder that holds patient001, patient002, ...",
        )


def read_info(path: Path, faults: list[DataFault]) -> dict[str, str]:
    """Return the `key: value` lines of an `Info.cfg`; empty, with a fault noted, when it cannot be used."""
    try:
        text = decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else f"an unreadable file ({error})"
        faults.append(DataFault(path, found, "a text file with the ED and ES frames", _INFO_REMEDY))
        return {}
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    bad = [phase for phase in _PHASES if not re.fullmatch(r"\d+", info.get(phase, ""))]
    if bad:
        found = ", ".join(f"{phase}: {info[phase]!r}" if phase in info else f"no {phase}" for phase in bad)
        faults.append(DataFault(path, found, "whole frame numbers", _INFO_REMEDY))
        return {}
    return info


def _class_values(classes: Sequence[str], given: Sequence[int] | Mapping[str, int] | None) -> tuple[int, ...]:
    if given is None:
        for name in classes:
            if name not in CLASS_VALUES:
                close = nearest(name, CLASS_VALUES)
                remedy = f"Did you mean {close!r}?" if close else "Name its value in the masks by data.class_values"
                raise UserError(
                    f"class {name!r} is not one of ACDC's {list(CLASS_VALUES)}", where="data.classes", remedy=remedy
                )
        return tuple(CLASS_VALUES[name] for name in classes)
    values = tuple(given[name] for name in classes) if isinstance(given, Mapping) else tuple(given)
    if len(values) != len(classes) or len(set(values)) != len(values) or not all(0 < value < 256 for value in values):
        raise UserError(
            f"values {list(values)} for classes {list(classes)}, expected one value from 1 to 255 each, all different",
            where="data.class_values",
            remedy="Give one mask value per class, in the order of data.classes",
        )
    return values


def _patient_cases(folder: Path, faults: list[DataFault]) -> list[CaseFiles]:
    if not any(folder.iterdir()):
        faults.append(
            DataFault(folder, "an empty folder", "Info.cfg and the frames", "Copy the patient again, or remove it")
        )
        return []
    info = read_info(folder / "Info.cfg", faults)
    cases = [_frame_case(folder, phase, info, faults) for phase in _PHASES if info]
    found = [case for case in cases if case is not None]
    if any(case.mask for case in found):
        for case in found:
            if case.mask is None:
                expected = f"{case.name}_gt.nii.gz, as the patient's other frame has a mask"
                faults.append(DataFault(case.image, "no mask", expected, "Add it, or remove both of this patient"))
    return sorted(found, key=lambda case: case.frame)


def _frame_case(folder: Path, phase: str, info: Mapping[str, str], faults: list[DataFault]) -> CaseFiles | None:
    name = f"{folder.name}_frame{int(info[phase]):02d}"
    image = _first_present(folder, name)
    if image is None:
        remedy = f"Add the file, or correct {phase} in Info.cfg"
        faults.append(DataFault(folder / f"{name}.nii.gz", "no such file", f"the {phase} frame", remedy))
        return None
    mask = _first_present(folder, f"{name}_gt")
    return CaseFiles(name, folder.name, image, mask, int(info[phase]), phase, info.get("Group"))  # type: ignore[arg-type]


def _first_present(folder: Path, stem: str) -> Path | None:
    exact = next((path for suffix in NIFTI_SUFFIXES if (path := folder / f"{stem}{suffix}").exists()), None)
    if exact is not None:
        return exact
    names = {f"{stem}{suffix}".lower() for suffix in NIFTI_SUFFIXES}
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in names), None)
