"""`unia-med inspect`: what is wrong with a data set, what its labels can do, and what would help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.cli.options import add_config, new_command

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.data.checks import DataFault
    from unia_med.inspection.faults import Walk

EXAMPLE = """unia-med inspect --config acdc.yaml --set data.root=ACDC
unia-med inspect --config volumes.yaml --set data.root=SCANS --output report.html"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Check a data set before training, and tell what its labels can and cannot separate."
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
    from unia_med.build import build_dataset
    from unia_med.config.load import load_config
    from unia_med.inspection.advice import advise
    from unia_med.inspection.report import as_plain, check_output, write
    from unia_med.inspection.statistics import describe

    config = load_config(args.config, args.set)
    check_output(args.output)
    found = _walk(build_dataset(config.data), config)
    statistics = describe(found, config.data)
    plain = as_plain(statistics, found.faults, advise(statistics, config))
    _print(plain, found.faults)
    if args.output:
        write(plain, f"Inspection of {config.data.root}", args.output)
        print(f"written to {args.output}")
    return 1 if found.faults else 0


def _walk(dataset: Any, config: RunConfig) -> Walk:
    from rich.progress import Progress

    from unia_med.inspection.faults import walk

    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("reading", total=None)
        return walk(dataset, config, lambda done, total: bar.update(task, completed=done, total=total))


def _print(plain: dict[str, Any], faults: Sequence[DataFault]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from unia_med.inspection.report import count_of, tables

    console = Console(highlight=False, soft_wrap=True)
    for table in tables(plain):
        view = Table(*[escape(name) for name in table.columns], title=escape(table.title), title_justify="left")
        for column in view.columns[1:]:
            column.justify = "right"
        for row in table.rows:
            view.add_row(*[escape(cell) for cell in row])
        console.print(view)
    cases = plain["cases"]
    parts = ", ".join(f"{count} {part}" for part, count in cases["parts"].items())
    console.print(f"{cases['all']} cases ({parts}), {cases['with_mask']} with a mask.")
    console.print(f"\n{count_of(faults, 'fault')}" if faults else "\nNo fault was found.")
    for fault in faults:
        console.print(f"  - {fault}", markup=False)
    console.print("\nAdvice")
    for text in plain["advice"]:
        console.print(f"  - {text}", markup=False)
