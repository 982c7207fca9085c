"""`unia-med bench`: timings of the hot parts, fast form next to plain form."""

from __future__ import annotations

import argparse
import json

from unia_med.cli.options import add_device, new_command


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    example = "unia-med bench\nunia-med bench pixel_refine radius_mask --json"
    parser = new_command(subparsers, "bench", "Time the hot parts side by side, as ratios in one run.", example)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run (default: all whose packages are installed)"
    )
    parser.add_argument("--list", action="store_true", help="only name the benchmarks")
    parser.add_argument("--json", action="store_true", help="print a list of names, ratios and agreements as JSON")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Time and print, and return the exit code.

    Args:
        args: parsed command line.
    """
    from unia_med.bench.table import BENCHMARKS, as_json, installed, run_benchmarks

    if args.list:
        print("\n".join(f"{name}: {benchmark.summary}" for name, benchmark in BENCHMARKS.items()))
        return 0
    timings = run_benchmarks(args.names or installed(), args.device, quiet=args.json)
    if args.json:
        print(json.dumps(as_json(timings), indent=2))
    return 0
