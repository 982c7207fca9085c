"""`unia-med inspect`: faults of a data set, what its labels can teach, and advice."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import add_config, new_command
from unia_med.names import number_of
from unia_med.progress import counted

if TYPE_CHECKING:
    from unia_med.inspection.inspect import Inspection

EXAMPLE = """unia-med inspect --config acdc.yaml --set data.root=ACDC
unia-med inspect --config volumes_tags.yaml --set data.root=SCANS --output report.html"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Check a data set before training, and report what its labels can and cannot separate."
    parser = new_command(subparsers, "inspect", summary, EXAMPLE)
    add_config(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the report, .json or .html")


def run(args: argparse.Namespace) -> int:
    """Inspect and return the exit code: 0 without faults, 1 with some.

    Args:
        args: parsed command line.

    Raises:
        UserError: no config, no data folder, no case at all.
    """
    from unia_med import api
    from unia_med.inspection.report import check_output

    check_output(args.output)
    with counted("reading") as progress:
        found = api.inspect(args.config, set=args.set, progress=progress)
    if args.output:  # first, since printing may fail
        found.write(args.output)
    _print(found)
    if args.output:
        print(f"written to {args.output}")
    return 1 if found.faults else 0


def _print(found: Inspection) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    for table in found.tables():
        view = Table(*[escape(name) for name in table.columns], title=escape(table.title), title_justify="left")
        for column in view.columns[1:]:
            column.justify = "right"
        for row in table.rows:
            view.add_row(*[escape(cell) for cell in row])
        console.print(view)
    cases = found.report["cases"]
    parts = ", ".join(f"{count} {part}" for part, count in cases["parts"].items())
    console.print(f"{number_of(cases['all'], 'case')} ({parts}), {cases['with_mask']} with a mask.")
    console.print(f"\n{number_of(len(found.faults), 'fault')}" if found.faults else "\nNo fault was found.")
    for fault in found.faults:
        console.print(f"  - {fault}", markup=False)
    console.print("\nAdvice")
    for text in found.advice:
        console.print(f"  - {text}", markup=False)
