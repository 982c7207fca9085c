"""`unia-med bench`: timings of the hot parts, fast form next to plain form."""

from __future__ import annotations

import argparse

from unia_med.cli.options import add_device, new_command


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    example = "unia-med bench\nunia-med bench pixel_refine radius_mask"
    parser = new_command(subparsers, "bench", "Time the hot parts side by side, as ratios in one run.", example)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument("--list", action="store_true", help="only name the benchmarks")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Time and print, and return the exit code.

    Args:
        args: parsed command line.
    """
    from unia_med.bench import BENCHMARKS, run_benchmarks

    if args.list:
        print("\n".join(f"{name}: {benchmark.summary}" for name, benchmark in BENCHMARKS.items()))
        return 0
    run_benchmarks(args.names or list(BENCHMARKS), args.device)
    return 0
