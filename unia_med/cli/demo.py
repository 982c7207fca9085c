"""`unia-med demo`: the whole tool once, on synthetic hearts, on a laptop CPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from unia_med.cli.options import new_command

CONFIG = "phantom_tiny.yaml"
PATIENTS = 14  # two of them are held out


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Make synthetic hearts, train, predict, evaluate and report, in minutes on a CPU."
    parser = new_command(subparsers, "demo", summary, "unia-med demo --output demo")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("unia-med-demo"),
        metavar="DIR",
        help="where to write (default: unia-med-demo)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the commands of a first session one after the other; the first that fails ends it.

    Args:
        args: parsed command line.
    """
    from unia_med.cli.main import main

    output: Path = args.output
    data, model, masks = str(output / "data"), str(output / "run"), str(output / "predictions")
    commands = [
        ["phantom", "--output", data, "--patients", str(PATIENTS)],
        ["train", "--config", CONFIG, "--output", model, "--set", f"data.root={data}"],
        ["predict", "--model", model, "--input", data, "--split", "val", "--output", masks, "--uncertainty"],
        ["evaluate", "--predictions", masks, "--labels", data, "--config", f"{model}/config.yaml", "--split", "val",
         "--output", str(output / "scores.json")],
        ["report", model, "--output", str(output / "report.html")],
    ]
    for command in commands:
        print("$ unia-med " + " ".join(command), flush=True)
        code = main(command)
        if code:
            return code
    print(f"Everything is in {output}: report.html, data/, run/, predictions/ (masks and uncertainty), scores.json")
    return 0
