"""`unia-med cardiac`: volumes, ejection fraction, mass and wall thickness from masks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import new_command
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.cardiac.cases import MeasuredCase

EXAMPLE = """unia-med cardiac --masks masks --output indices.csv
unia-med cardiac --masks masks --info ACDC --output indices.csv"""

DETAILS = """
Masks are 4D (X_seg.nii.gz) or frames of one patient (X_frame01_seg.nii.gz, X_frame12_seg.nii.gz), short-axis slices
along the third axis. End diastole (ED) is the frame with the largest LV, end systole (ES) that with the smallest, or
both are those of the patients' Info.cfg with --info.

FILE.csv has a row per case: EDV, ESV, stroke volume (ml) and EF (%) of LV and RV, RV at the LV's phases; myocardial
mass at ED (1.05 g/ml); mean and largest wall thickness at ED (mm), in plane, from each point of the endocardial border
to the epicardial one. FILE_frames.csv has the volumes of every frame. An empty cell is what the masks do not tell.
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
        default="RV,MYO,LV",
        metavar="NAMES",
        help="classes of the labels 1, 2, 3, ..., or NAME=VALUE,... (default: RV,MYO,LV as in ACDC)",
    )
    parser.add_argument("--info", type=Path, metavar="DIR", help="folder with PATIENT/Info.cfg, which name ED and ES")


def run(args: argparse.Namespace) -> int:
    """Measure and return the exit code: 0, or 1 when some cases could not be measured.

    Args:
        args: parsed command line.

    Raises:
        UserError: bad arguments, no mask, or no case that could be measured. Nothing is written then.
    """
    from unia_med.cardiac.table import write_tables

    if args.output.suffix.lower() != ".csv":
        raise UserError(f"the suffix is {args.output.suffix!r}", where=args.output, remedy="Use .csv")
    if args.output.is_dir():
        raise UserError("is a folder, expected a file", where=args.output, remedy="Choose another --output")
    measured, faults = _measure_all(args)
    listing = "".join(f"\n  {name}: {reason}" for name, reason in faults.items())
    if not measured:
        raise UserError(f"no case could be measured:{listing}", where=args.masks)
    frames = write_tables(measured, args.output)
    total = len(measured) + len(faults)
    print(f"{len(measured)} of {total} cases measured, written to {args.output} and {frames}")
    if faults:
        print(f"unia-med: error: {len(faults)} of {total} cases could not be measured:{listing}", file=sys.stderr)
    return 1 if faults else 0


def _measure_all(args: argparse.Namespace) -> tuple[list[MeasuredCase], dict[str, str]]:
    from rich.progress import track

    from unia_med.cardiac.cases import find_cases, find_info, measure_case, parse_classes

    values = parse_classes(args.classes)
    info = None if args.info is None else find_info(args.info)
    cases = find_cases(args.masks)
    measured, faults = [], {}
    for case in track(cases, "measuring", disable=not sys.stdout.isatty(), transient=True):
        try:
            measured.append(measure_case(case, values, info))
        except UserError as error:
            faults[case.name] = str(error)
    return measured, faults
