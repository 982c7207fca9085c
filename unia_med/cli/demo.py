"""`unia-med demo`: the whole tool once, on synthetic hearts, on a laptop CPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from unia_med.cli.options import new_command


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Make synthetic hearts, train, predict and evaluate, in minutes on a CPU."
    parser = new_command(subparsers, "demo", summary, "unia-med demo --output demo")
    parser.add_argument(
        "--output", type=Path, default=Path("unia-med-demo"), metavar="DIR", help="where to write (default: unia-med-demo)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demonstration and return the exit code.

    Args:
        args: parsed command line.
    """
    from unia_med.demo import run_demo

    run_demo(args.output)
    return 0
