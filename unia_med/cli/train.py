"""`unia-med train`: one method on one data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from unia_med.cli.options import add_config, add_device, new_command

EXAMPLE = """unia-med train --config acdc_cpu.yaml --set data.root=ACDC --output runs/acdc
unia-med train --config acdc_cpu.yaml --set data.root=ACDC --output runs/acdc --resume
unia-med train --config project.yaml --from runs/first --output runs/second
unia-med train --config project.yaml --folds 5 --output runs/folds"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    parser = new_command(subparsers, "train", "Train one method on one data set.", EXAMPLE)
    add_config(parser)
    parser.add_argument("--output", type=Path, metavar="RUN", help="run folder (default: runs/NAME of the config)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the run folder")
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="RUN|MODEL|BUNDLE",
        help="start from these weights, also for other classes (matched by name) and other data",
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="train K runs RUN/fold_0, ..., each leaving out other patients; scores of all in RUN/folds.csv, and RUN "
        "predicts with their average",
    )
    parser.add_argument("--fold", type=int, metavar="k", help="with --folds: train this one alone, from 0")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train and return the exit code.

    Args:
        args: parsed command line.
    """
    from unia_med import api
    from unia_med.engine.interrupt import Interrupted

    output = args.output or Path("runs") / Path(args.config).stem
    try:
        api.train(
            args.config,
            output,
            set=args.set,
            resume=args.resume,
            start_from=args.start_from,
            folds=args.folds,
            fold=args.fold,
            device=args.device,
        )
    except Interrupted as stop:
        return stop.exit_code
    return 0
