"""`unia-med cardiac`: volumes, ejection fraction, mass and wall thickness from masks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import new_command
from unia_med.cli.phases import StatedPhases, add_phases
from unia_med.errors import UserError, memory_checked
from unia_med.progress import tracked

if TYPE_CHECKING:
    from unia_med.cardiac.cases import MaskCase, MeasuredCase
    from unia_med.data.io.dicom.series import DicomSeries

EXAMPLE = """unia-med cardiac --masks masks --output indices.csv
unia-med cardiac --masks masks --info ACDC --output indices.csv
unia-med cardiac --masks masks --ed 1 --es patient003=12 --drawings drawings --output indices.csv
unia-med cardiac --masks masks --es 9 --output masks/indices.csv --sr masks --images STUDY"""

DETAILS = """
Masks are 4D (X_seg.nii.gz) or frames of one patient (X_frame01_seg.nii.gz, X_frame12_seg.nii.gz), short-axis slices
along the third axis. End diastole (ED) is the frame with the largest LV, end systole (ES) that with the smallest, or
both are those of the patients' Info.cfg with --info, or of --ed and --es.

FILE.csv has a row per case: EDV, ESV, stroke volume (ml) and EF (%) of LV and RV, RV at the LV's phases; myocardial
mass at ED (1.05 g/ml); mean and largest wall thickness at ED (mm), in plane, from each point of the endocardial border
to the epicardial one. FILE_frames.csv is the curve: volumes and wall of every frame. FILE_segments.csv has the wall's
thickness in the AHA's 17 segments at ED and ES; the middle of the septum is where the RV touches the wall. An empty
cell is what the masks do not hold. What is larger than any heart is refused; unusual values are named.
For research, not for diagnosis."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Volumes, ejection fraction, myocardial mass and wall thickness from LV, MYO and RV masks."
    parser = new_command(subparsers, "cardiac", summary, EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument("--masks", type=Path, required=True, metavar="DIR", help="masks: X_seg, X_pred, X_gt or X")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.csv", help="table that is written")
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="classes of the labels 1, 2, 3, ..., or NAME=VALUE,... (default: those in the masks' headers, or in a "
        "classes.json next to them, else RV,MYO,LV as in ACDC)",
    )
    parser.add_argument("--info", type=Path, metavar="DIR", help="folder with PATIENT/Info.cfg, which name ED and ES")
    add_phases(parser)
    parser.add_argument("--drawings", type=Path, metavar="DIR", help="folder for a bull's eye (SVG) per case and phase")
    parser.add_argument(
        "--sr",
        type=Path,
        metavar="DIR",
        help="folder for a DICOM SR, CASE_sr.dcm, of each case whose SEG objects lie next to its masks",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="STUDY",
        help="the --input of predict: with --sr, masks that were corrected get new SEG objects, too",
    )


def run(args: argparse.Namespace) -> int:
    """Measure and return the exit code: 0, or 1 when some cases could not be measured.

    Args:
        args: parsed command line.

    Raises:
        UserError: bad arguments, no mask, or no case that could be measured. Nothing is written then.
    """
    from unia_med.cardiac.results import summary
    from unia_med.cardiac.table import write_tables

    if args.output.suffix.lower() != ".csv":
        raise UserError(f"the suffix is {args.output.suffix!r}", where=args.output, remedy="Use .csv")
    if args.output.is_dir():
        raise UserError("is a folder, expected a file", where=args.output, remedy="Choose another --output")
    measured, faults, origins = _measure_all(args)
    changed = list(_other_phases(measured, args))  # read before the table may be replaced
    listing = "".join(f"\n  {name}: {reason}" for name, reason in faults.items())
    if not measured:
        raise UserError(f"no case could be measured:{listing}", where=args.masks)
    written = write_tables(measured, args.output)
    if args.drawings is not None:
        written += _draw(measured, args.drawings)
    if args.sr is not None:
        faults |= _write_reports(measured, origins, args.sr, args.images)
    faults |= {str(file): "was written, and is gone: its folder was removed" for file in written if not file.exists()}
    listing = "".join(f"\n  {name}: {reason}" for name, reason in faults.items())
    total = len(origins)
    print(f"{len(measured)} of {total} cases measured, written to {', '.join(map(str, written[:3]))}")
    if len(measured) == 1 and (text := summary(measured[0])):
        print(text)
    for note in changed:
        print(f"unia-med: note: {note}", file=sys.stderr)
    for case in measured:
        if case.warnings:
            print(f"unia-med: warning: {case.name}: look again: {'; '.join(case.warnings)}", file=sys.stderr)
    if faults:
        print(f"unia-med: error: {len(faults)} of {total} cases have faults:{listing}", file=sys.stderr)
    return 1 if faults else 0


Origins = dict[str, "tuple[MaskCase, Mapping[str, int]]"]
"""Files and values of the labels by case."""


def _measure_all(args: argparse.Namespace) -> tuple[list[MeasuredCase], dict[str, str], Origins]:
    from unia_med.cardiac.cases import find_cases, find_info, measure_case

    named = None if args.classes is None else _stated_values(args.classes)
    info = None if args.info is None else find_info(args.info)
    cases = find_cases(args.masks)
    stated = StatedPhases.read(args)
    if foreign := stated.foreign(case.name for case in cases):
        raise foreign
    measured: list[MeasuredCase] = []
    faults: dict[str, str] = {}
    origins: Origins = {}
    for case in tracked(cases, "measuring", len(cases)):
        try:
            origins[case.name] = case, {}
            values = named if named is not None else _values_of(case, args.masks)
            origins[case.name] = case, values
            with memory_checked():
                measured.append(measure_case(case, values, info, stated.of(case.name)))
        except UserError as error:
            faults[case.name] = str(error)
    return measured, faults, origins


def _other_phases(measured: Sequence[MeasuredCase], args: argparse.Namespace) -> Iterator[str]:
    """Yield which phases are others than in the table next to the masks, where nobody has named them."""
    from unia_med.cardiac.table import TABLE, phases_in_table

    stated = StatedPhases.read(args)
    for case in measured if args.info is None else ():
        known, phases = phases_in_table(case.name, args.masks), case.indices.phases
        for phase, index in (("ED", phases.diastole), ("ES", phases.systole)):
            before = known.get(phase)
            if index is None or before is None or phase in stated.of(case.name) or case.numbers[index] == before:
                continue
            found = f"{phase} is frame {case.numbers[index]}, and frame {before} in {args.masks / TABLE}"
            yield f"{case.name}: {found}; to keep it, add --{phase.lower()} {before}"


def _write_reports(
    measured: Sequence[MeasuredCase], origins: Origins, folder: Path, images: Path | None
) -> dict[str, str]:
    """Write an SR per case, and return why there is none, by case."""
    from unia_med.cardiac.structured import write_report

    faults = {}
    for found in measured:
        case, values = origins[found.name]
        try:
            folder_of_masks = next(iter(case.files.values())).parent
            series = None if images is None else _series_of(found.name, folder_of_masks, images, values)
            if write_report(case, found, values, folder / f"{found.name}_sr.dcm", series) is None:
                faults[found.name] = "no DICOM SR: no SEG of its phases lies next to its masks"
        except UserError as error:
            faults[found.name] = f"no DICOM SR: {error}"
    return faults


def _series_of(name: str, masks: Path, images: Path, values: Mapping[str, int]) -> DicomSeries:
    """Return the series that `predict` called so."""
    from unia_med.data.io.dicom.kind import expected_stack
    from unia_med.data.io.dicom.series import find_named
    from unia_med.inference.records import source_series

    found = find_named(images, name, source_series(masks, name), expected_stack(list(values)))
    if found is None:
        raise UserError(f"has no series that predict would call {name}", where=images, remedy="Check --images")
    return found


def _stated_values(text: str) -> Mapping[str, int]:
    from unia_med.cardiac.cases import parse_classes

    return parse_classes(text)


def _values_of(case: MaskCase, masks: Path) -> Mapping[str, int]:
    """Label of each class by the header of a case's mask, or the nearest `classes.json`, else as in ACDC."""
    from unia_med.cardiac.cases import heart_classes
    from unia_med.cardiac.indices import ACDC_VALUES
    from unia_med.data.io.nifti_names import names_in
    from unia_med.evaluation.labels import CLASSES_FILE, classes_next_to

    mask = next(iter(case.files.values()))
    if names := names_in(mask):
        return heart_classes({name: value for value, name in names.items()}, mask)
    folder = mask.parent
    while True:
        scheme = classes_next_to(folder)
        if scheme is not None:
            return heart_classes(dict(zip(scheme.names, scheme.predicted, strict=True)), folder / CLASSES_FILE)
        if folder == masks or masks not in folder.parents:
            return ACDC_VALUES
        folder = folder.parent


def _draw(cases: Sequence[MeasuredCase], folder: Path) -> list[Path]:
    """Write `CASE_ed.svg` and `CASE_es.svg` of the cases that have segments, and return their paths."""
    from unia_med.cardiac.bulls_eye import bulls_eye, common_limits
    from unia_med.files import write_text

    written = []
    for case in cases:
        limits = common_limits(case.indices.segments_ed_mm, case.indices.segments_es_mm)
        for phase, values in (("ed", case.indices.segments_ed_mm), ("es", case.indices.segments_es_mm)):
            if values is not None:
                path = folder / f"{case.name}_{phase}.svg"
                write_text(
                    path, bulls_eye(values, f"{case.name}: wall thickness at {phase.upper()}, mm", limits) + "\n"
                )
                written.append(path)
    return written
