"""Own data: any folder or table of volumes or pictures, with masks and weak labels next to them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.config.weak_labels import DEFAULT_SUFFIXES
from unia_med.data.checks import DataFault
from unia_med.data.io.label_names import NAMED, is_label_name, split_labels
from unia_med.data.io.suffixes import (
    LABEL_SUFFIXES,
    is_image,
    is_segmentation,
    label_stem,
    label_suffix,
    readable_suffix,
    volume_stem,
)
from unia_med.data.io.tables import composed
from unia_med.data.io.walk import LeftOut, find_volumes, glob_matcher
from unia_med.data.layouts.base import Layout
from unia_med.data.layouts.volumes_table import Row, read_rows
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig
    from unia_med.config.volumes import VolumesConfig

_LABEL_KINDS = {**DEFAULT_SUFFIXES, "masks": ()}
"""Endings next to an image; masks to learn from, which are not those of `volumes.masks`, lie where a pattern says."""


class VolumesDataset(Layout):
    """The cases of one's own data, found by patterns or listed in a table; see `VolumesConfig`.

    A case is called like its image, by the path below `root` without suffix and channel ending: "site1/scan 7". Images
    may differ in size, spacing and orientation.

    Args:
        config: Needs `root`, `classes`, `volumes`, and reads `class_values`, `channels` and `grid.slice_axis`.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._settings, self._located = config.volumes, config.located

    def cases(self) -> list[CaseFiles]:
        """Return all cases in order of their names, with every header checked and no voxel read.

        Raises:
            UserError: There is none, or lists all faults of the data set at once.
        """
        cases = super().cases()
        if not cases:
            remedy = "Correct data.volumes.images, or data.root"
            raise UserError(f"no image fits {self._settings.images!r}", where=self.root, remedy=remedy)
        return cases

    def found_cases(self, faults: list[DataFault]) -> list[CaseFiles]:
        """Return the cases as `cases` does, adding what is wrong to `faults` in place of raising it."""
        left = LeftOut()
        present = _volume_files(self.root, left)
        table = self._settings.table
        rows = self._listed(table, present, faults) if table else self._searched(present, faults, left)
        cases = [case for row in rows if (case := self._case(row, present, faults)) is not None]
        left.say(len(cases), "case", self.root)
        _refuse_doubles(cases, faults)
        for case in cases:
            self._check_case(case, faults)
        return sorted(cases, key=lambda case: case.name)

    @property
    def foreign_remedy(self) -> str:
        """What to do about a mask with other values."""
        return "Name these classes in data.classes and data.class_values, or list them in data.volumes.other_values"

    def missing_mask(self, case: CaseFiles) -> DataFault:
        """Return the fault of a case that has no mask."""
        remedy = "Add the mask, take tags from a table (data.tags.source: csv), or leave this case out"
        return DataFault(case.image, "no mask", f"one by data.volumes.masks {self._settings.masks}", remedy)

    def _listed(self, name: Path, present: Mapping[str, Path], faults: list[DataFault]) -> list[Row]:
        """Return the rows of the table; volumes without a row and rows without a volume are faults."""
        table = self._located(name)
        known = {composed(name): name for name in present}
        alike = {_plain(name): name for name in present}
        rows = [self._on_disk(row, known) for row in read_rows(table, tuple(_LABEL_KINDS), faults)]
        named = {self._inside(self.root / text) for row in rows for text in row.files.values()}
        for row in rows:
            for column, text in row.files.items():
                if self._inside(self.root / text) not in present and not (self.root / text).exists():
                    close = alike.get(_plain(text))
                    remedy = f"{f'Did you mean {close!r}? Else add' if close else 'Add'} the file, or correct the row"
                    remedy += "; paths are relative to data.root"
                    faults.append(DataFault(row.where, f"{column} {text!r}, which is no file", "a volume", remedy))
        if self._settings.unlisted == "error":
            for row in self._searched(present, [], LeftOut()):
                if row.files["image"] not in named:
                    remedy = "Add a row, remove the file, or set data.volumes.unlisted to ignore"
                    faults.append(DataFault(self.root / row.files["image"], "no row", f"one in {table.name}", remedy))
        return [row for row in rows if (self.root / row.files["image"]).exists()]

    def _on_disk(self, row: Row, known: Mapping[str, str]) -> Row:
        """Return a row with its paths as the file system spells them: composed letters, slashes."""
        return replace(row, files={column: self._written(text, known) for column, text in row.files.items()})

    def _written(self, text: str, known: Mapping[str, str]) -> str:
        if (self.root / text).exists():
            return text
        ways = (self._inside(self.root / way) for way in (text, text.replace("\\", "/")))
        return next((known[way] for way in map(composed, ways) if way in known), text)

    def _searched(self, present: Mapping[str, Path], faults: list[DataFault], left: LeftOut) -> list[Row]:
        """Return a row for every image that the pattern finds."""
        fits = glob_matcher(self._settings.images)
        fitting = [path for inside, path in present.items() if fits(inside) and readable_suffix(path)]
        paths, left_out = _images(fitting, self.root, self._settings)
        named = {path: name for path in paths if (name := self.channels.name(path)) is not None}
        used = {
            found
            for path, name in named.items()
            for kind in ("mask", *_LABEL_KINDS)
            if (found := self._beside(path, name, kind, present)) is not None and found != path
        }
        images = sorted(path for path in named if path not in used)
        left.add_all({*left_out, *used}, NAMED)
        _refuse_orphans([*images, *(path for path in left_out if path not in used)], faults)
        return [Row(str(path), {"image": self._inside(path)}) for path in images]

    def _case(self, row: Row, present: Mapping[str, Path], faults: list[DataFault]) -> CaseFiles | None:
        image = self.root / row.files["image"]
        name = self.channels.name(image)
        if name is None:
            expected = f"the file of the first channel, ending in {self.channels.endings[0]}"
            faults.append(DataFault(row.where, image.name, expected, "Correct the row or data.volumes.channel_endings"))
            return None
        folder = Path(self._inside(image)).parent
        case = name if str(folder) == "." else f"{folder.as_posix()}/{name}"
        files = {
            kind: self.root / row.files[kind] if kind in row.files else self._beside(image, name, kind, present)
            for kind in ("mask", *_LABEL_KINDS)
        }
        files["masks"] = files["masks"] or files["mask"]
        labels = {kind: path for kind, path in files.items() if path is not None and kind != "mask"}
        patient = row.patient or self._patient(case, row, faults)
        return CaseFiles(case, patient, image, files["mask"], part=row.part, labels=labels)

    def _patient(self, case: str, row: Row, faults: list[DataFault]) -> str:
        if self._settings.patient is None:
            return case
        match = re.search(self._settings.patient, case)
        if match is None:
            expected = f"a part that fits {self._settings.patient!r}"
            faults.append(DataFault(row.where, f"case {case!r}", expected, "Correct data.volumes.patient"))
            return case
        return match[1] if match.re.groups else match[0]

    def _beside(self, image: Path, name: str, kind: str, present: Mapping[str, Path]) -> Path | None:
        """Return the mask or a weak label of an image at the place that the pattern gives."""
        folder = Path(self._inside(image)).parent.as_posix()
        for pattern in self._patterns(kind):
            stem = os.path.normpath(pattern.replace("{folder}", folder).replace("{name}", name))
            for suffix in LABEL_SUFFIXES:
                if (found := present.get(Path(f"{stem}{suffix}").as_posix())) is not None:
                    return found
        return None

    def _patterns(self, kind: str) -> Iterable[str]:
        if kind == "mask":
            return (self._settings.masks,)
        if kind in self._settings.labels:
            return (self._settings.labels[kind],)
        return tuple(f"{{folder}}/{{name}}{ending}" for ending in _LABEL_KINDS[kind])

    def _inside(self, path: Path) -> str:
        """Return a path below the root as the key of `_volume_files`; one outside as it stands."""
        inside = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return Path(os.path.normpath(inside)).as_posix()

    def _check_case(self, case: CaseFiles, faults: list[DataFault]) -> None:
        super()._check_case(case, faults)
        if is_image(case.image) and self._grid.spacing_mm is not None:
            remedy = (
                "Set data.grid.units=pixels to learn from pixels as they are, also of scans; or leave pictures out by "
                "data.volumes.images, as **/*.nii.gz"
            )
            found = "a picture, which has no millimetres"
            faults.append(DataFault(case.image, found, f"a scan to resample to {self._grid.spacing_mm:g} mm", remedy))


def _images(paths: Sequence[Path], root: Path, settings: VolumesConfig) -> tuple[list[Path], list[Path]]:
    """Return the files that can be images by their names, and the others.

    Where a pattern of the config itself speaks of labels, or all files do, the user has said what images are.
    """
    images, labels = split_labels(paths, root)
    if images and not is_label_name(label_stem(settings.images)):
        return images, labels
    volumes = sorted(path for path in paths if not is_segmentation(path))
    return volumes, [path for path in labels if is_segmentation(path)]


def _volume_files(root: Path, left: LeftOut) -> dict[str, Path]:
    """Return all volumes and pictures below a folder by their path inside it, in one walk: asking for each is slow."""
    return {path.relative_to(root).as_posix(): path for path in find_volumes(root, left, _may_be_read)}


def _plain(name: str) -> str:
    """Return a path without what spreadsheets and people change: suffix, capitals, leading zeros, decimals `.0`."""
    path = Path(name)
    stem = re.sub(r"\.0+$", "", volume_stem(path) if readable_suffix(path) else path.name)
    return (path.parent / (stem.lstrip("0") or "0")).as_posix().casefold()


def _may_be_read(path: Path) -> str | None:
    return label_suffix(path) or readable_suffix(path)


def _refuse_doubles(cases: Sequence[CaseFiles], faults: list[DataFault]) -> None:
    first: dict[str, CaseFiles] = {}
    for case in cases:
        known = first.setdefault(case.name, case)
        if known is not case:
            found = f"a second image of case {case.name!r} (the first is {known.image.name})"
            faults.append(DataFault(case.image, found, "one image per case", "Rename or remove one of the two"))


def _refuse_orphans(images: Sequence[Path], faults: list[DataFault]) -> None:
    """Files that are named like masks or weak labels but belong to no image."""
    endings = tuple(ending for kind in DEFAULT_SUFFIXES.values() for ending in kind)
    for path in images:
        if label_stem(path).endswith(endings):
            remedy = "Add the image, remove the file, or correct data.volumes.images"
            faults.append(DataFault(path, "no image of that name next to it", "an image for every label", remedy))
