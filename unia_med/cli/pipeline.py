"""`unia-med pipeline`: several runs that feed each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from unia_med.cli.options import add_device, new_command

EXAMPLE = """unia-med pipeline affinitynet_acdc.yaml --set data.root=ACDC --output runs/affinitynet
unia-med pipeline affinitynet_acdc.yaml --set data.root=ACDC --set stages.segmentation.training.iterations=500"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    parser = new_command(
        subparsers, "pipeline", "Run a recipe of several stages; finished, unchanged stages are skipped.", EXAMPLE
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("--output", type=Path, metavar="RUN", help="folder of all stages (default: runs/NAME)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of all trainings, or stages.NAME.KEY=VALUE of one stage",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run the recipe and return the exit code.

    Args:
        args: parsed command line.
    """
    from unia_med.pipeline.recipe import load_recipe

    recipe = load_recipe(args.recipe, args.set)
    output = args.output or Path("runs") / recipe.origin.stem
    from unia_med.pipeline.runner import run_recipe

    code = run_recipe(recipe, output, args.device)
    if code == 0:
        print(f"done: {output / recipe.stages[-1].name}")
    return code
