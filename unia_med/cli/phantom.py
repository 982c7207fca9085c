"""`unia-med phantom`: synthetic data sets to try everything on."""

from __future__ import annotations

import argparse
from pathlib import Path

from unia_med.cli.options import new_command
from unia_med.names import number_of


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    example = (
        "unia-med phantom --output hearts --patients 20 --seed 1\nunia-med phantom --kind lesions --output lesions"
    )
    parser = new_command(subparsers, "phantom", "Write a synthetic data set.", example)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new or an empty folder")
    parser.add_argument(
        "--kind",
        choices=("hearts", "objects", "lesions"),
        default="hearts",
        help="hearts in ACDC layout (default); three classes of textured objects, or lesions in an organ, as volumes "
        "with a table of slice tags (data.name: volumes)",
    )
    parser.add_argument(
        "--patients", type=int, default=20, metavar="N", help="how many patients, 1 to 999 (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other seeds give other images (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Write the data set and return the exit code.

    Args:
        args: parsed command line.
    """
    if args.kind == "hearts":
        from unia_med.cardiac.phantom.dataset import write_dataset as write_hearts

        write_hearts(args.output, args.patients, args.seed)
    else:
        from unia_med.data.structured.dataset import write_dataset

        write_dataset(args.output, args.kind, args.patients, args.seed)
    print(f"{number_of(args.patients, 'patient')} written to {args.output}")
    return 0
