"""`unia-med report`: a run on one HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import add_device, new_command
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.data.dataset import CaseDataset
    from unia_med.data.sample import CaseFiles
    from unia_med.report.page import ReportContents
    from unia_med.runs import Run

EXAMPLE = """unia-med report runs/acdc
unia-med report runs/acdc --data ACDC --output acdc.html --cases 5"""

DETAILS = """
One self-contained page: what was trained on which labels, learning curves, cases from worst to best, label quality over
training, calibration, and a slice viewer. The run's validation cases are predicted for it, which needs the data: the
folder in the run's config, or --data. Without the data the page has no cases and says so."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    parser = new_command(subparsers, "report", "Write one HTML page about a run.", EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run folder of `unia-med train`")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set, where it is not where the run found it")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="cases to predict (default: val)")
    parser.add_argument(
        "--cases", type=int, default=3, metavar="N", help="patients in the slice viewer, worst to best (default: 3)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="the page (default: RUN/report.html)")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page and return the exit code.

    Args:
        args: parsed command line.

    Raises:
        UserError: no run, no checkpoint, no metrics, or data that was named and cannot be used.
    """
    from unia_med.files import write_text
    from unia_med.report.page import ReportContents, render
    from unia_med.report.run_folder import read_run
    from unia_med.runs import Run

    output = _check(args)
    trained = Run.open(args.run_dir)
    trained.checkpoint  # noqa: B018  asked for now: without one there is nothing to show
    text = trained.files.config.read_text(encoding="utf-8")
    contents = ReportContents(read_run(args.run_dir, trained.config), text)
    _add_cases(contents, trained, args)
    page = render(contents)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)
    if contents.missing:
        print(contents.missing)
    print(f"written to {output} ({len(page.encode()) / 1e6:.1f} MB)")
    return 0


def _check(args: argparse.Namespace) -> Path:
    output: Path = args.output or args.run_dir / "report.html"
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"the suffix is {output.suffix!r}", where=output, remedy="Use .html")
    if output.is_dir():
        raise UserError("is a folder", where=output, remedy="Name a file")
    if args.cases < 0:
        raise UserError(f"{args.cases} patients", where="--cases", remedy="Give 0 or more")
    return output


def _add_cases(contents: ReportContents, run: Run, args: argparse.Namespace) -> None:
    """Predict the cases of the split; without reachable data, say why there are none."""
    from unia_med.build import build_dataset
    from unia_med.data.splits import split_cases

    config = run.config
    if args.data is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"root": args.data})})
    elif config.data.root is None or not config.data.root.is_dir():
        contents.missing = (
            f"No cases: the data folder of the run, {config.data.root or 'which has none'}, is not here. "
            "Name it with --data."
        )
        return
    dataset = build_dataset(config.data)
    parts = split_cases(dataset.cases(), config.data.split, config.seed)
    contents.counts = {part: len({case.patient for case in cases}) for part, cases in parts.items()}
    masked = [case for case in parts[args.split] if case.mask is not None]
    if not masked:
        contents.missing = f"No cases: the {args.split} part of the split holds no case with a mask."
        return
    _predict(contents, run, config, dataset, masked, args)


def _predict(
    contents: ReportContents,
    run: Run,
    config: RunConfig,
    dataset: CaseDataset,
    cases: list[CaseFiles],
    args: argparse.Namespace,
) -> None:
    from rich.progress import track

    from unia_med.build import resolve_device
    from unia_med.report.cases import choose_patients, examine, frames_of
    from unia_med.report.volumes import PAGE_BYTES, pack, read_layers

    predictor = run.predictor(resolve_device(args.device))
    shown = track(cases, "predicting", disable=not sys.stdout.isatty(), transient=True)
    contents.examination = examine(predictor, config, dataset, shown, args.split)
    patients = choose_patients(contents.examination, args.cases)
    volumes = []
    for patient in patients:
        layers = [read_layers(predictor, config, dataset, case) for case in frames_of(cases, patient)]
        alike = [frame for frame in layers if frame.image.shape == layers[0].image.shape]
        volumes.append(pack(patient, alike, PAGE_BYTES // len(patients)))
    contents.volumes = volumes
