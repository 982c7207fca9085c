"""`unia-med report`: a run on one HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.cli.options import add_device, new_command
from unia_med.cli.phases import StatedPhases, add_phases
from unia_med.errors import UserError
from unia_med.progress import tracked

if TYPE_CHECKING:
    from unia_med.data.io.dicom.kind import StackKind

EXAMPLE = """unia-med report runs/acdc
unia-med report runs/acdc --data ACDC --output acdc.html --cases 5
unia-med report masks --data SCANS
unia-med report masks --data SCANS --es patient003=12"""

DETAILS = """
One self-contained page: scores, measurements and their errors, cases to look at, a slice viewer, what was trained on
which labels, learning curves, label quality over training, and calibration. The run's validation cases are predicted
for it, which needs the data: the folder in the run's config, or --data. Without the data the page has no cases and says
so.

Of a folder that `predict` wrote, with --data naming its --input, the page shows the masks: measurements, cases to look
at and the slice viewer; nothing is predicted.

Of hearts, ED and ES are the frames with the largest and the smallest LV, those of indices.csv next to the masks, or
those of --ed and --es, which change the page alone: tables and DICOM SR are written by `unia-med cardiac`, with the
same options."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    parser = new_command(subparsers, "report", "Write one HTML page about a run.", EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN", help="run folder of `unia-med train`, or results of predict"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set, where it is not where the run found it")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="cases to predict (default: val)")
    parser.add_argument(
        "--cases", type=int, default=3, metavar="N", help="patients in the slice viewer, worst to best (default: 3)"
    )
    parser.add_argument("--title", default="", metavar="TEXT", help="of the page (default: classes and data set)")
    add_phases(parser)
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="the page (default: RUN/report.html)")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page and return the exit code.

    Args:
        args: parsed command line.

    Raises:
        UserError: no run, no checkpoint, no metrics, or data that was named and cannot be used.
    """
    if (args.run_dir / "summary.csv").is_file() and not (args.run_dir / "config.yaml").exists():
        return _of_masks(args)
    from unia_med.report.make import make_report
    from unia_med.runs import Run

    stated = StatedPhases.read(args)
    opened = Run.open(args.run_dir)
    if opened.shipped is not None:
        steps = (
            f"unia-med predict --model {opened.shipped} --input SCANS --output masks",
            "unia-med report masks --data SCANS",
        )
        remedy = "Report masks of it: `{}`, then `{}`".format(*steps)
        raise UserError("a shipped model has no training to report", str(args.run_dir), remedy)
    made = make_report(
        opened,
        args.output,
        data=args.data,
        split=args.split,
        patients=args.cases,
        device=args.device,
        title=args.title,
        stated=stated.of,
        track=lambda cases: tracked(cases, "predicting", len(cases)),
    )
    if made.missing:
        print(made.missing)
    _warn(stated, made.patients)
    print(f"written to {made.path} ({made.path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _warn(stated: StatedPhases, patients: Sequence[str]) -> None:
    """Say that a case was named which is not on the page."""
    if foreign := stated.foreign(patients):
        print(f"unia-med: warning: {foreign}", file=sys.stderr)


def _of_masks(args: argparse.Namespace) -> int:
    from unia_med.data.io.dicom.kind import expected_stack
    from unia_med.evaluation.labels import classes_next_to
    from unia_med.report.masks import report_masks

    folder, data, stated = args.run_dir, args.data, StatedPhases.read(args)
    output = args.output or folder / "report.html"
    scheme = classes_next_to(folder)
    if data is None or scheme is None:
        unnamed = "holds masks whose classes neither classes.json nor their headers name"
        what = "holds masks" if data is None else unnamed
        remedy = "Name their images by --data, the --input of predict" if data is None else "Predict again"
        raise UserError(what, where=folder, remedy=remedy)
    images = _images(folder, data, expected_stack(scheme.names))
    shown = report_masks(folder, images, scheme.names, output, stated.of, args.title)
    if not shown:
        raise UserError("holds no image of these masks by name", where=data, remedy="Name the --input of predict")
    _warn(stated, shown)
    print(f"written to {output} ({output.stat().st_size / 1e6:.1f} MB)")
    return 0


def _images(folder: Path, data: Path, kind: StackKind | None) -> dict[str, Any]:
    """Return the images of a folder by the names of their results, also those of series that --series named."""
    from unia_med.data.io.dicom.series import find_named
    from unia_med.inference.inputs import find_inputs
    from unia_med.inference.records import read_case_record, source_series

    found: dict[str, Any] = {}
    fault: UserError | None = None
    try:
        found.update(find_inputs(data, folder, pictures=any(folder.rglob("*_seg.png")), kind=kind))
    except UserError as error:
        fault = error
    by_file = {image.name: image for image in found.values() if isinstance(image, Path)}
    for record in sorted(folder.glob("*_seg.json")):
        name = record.name.removesuffix("_seg.json")
        # An image of several files, its channels, is called after what their names share; the first is shown.
        first = next(iter(read_case_record(folder, name).get("sources", ())), None)
        if name not in found and first in by_file:
            found[name] = by_file[first]
        elif name not in found and (data / name).is_dir():  # of predict --split: a case is the folder of its series
            inside = list(find_inputs(data / name, folder, kind=kind).values())
            found |= {name: inside[0]} if len(inside) == 1 else {}
        numbers = source_series(folder, name)
        if numbers and getattr(found.get(name), "series_numbers", None) != numbers:
            found[name] = find_named(data, name, numbers, kind)
    if fault is not None and not any(found.values()):
        raise fault
    return {name: image for name, image in found.items() if image is not None}
