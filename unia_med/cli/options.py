"""What several commands share: how a command is declared, and its common options."""

from __future__ import annotations

import argparse


def new_command(
    subparsers: argparse._SubParsersAction, name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    """Declare a command whose help ends with an example.

    Args:
        subparsers: of the main parser.
        name: what the user types.
        summary: one sentence.
        example: one or more command lines.
    """
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    return subparsers.add_parser(
        name,
        help=summary.replace("%", "%%"),  # argparse formats this text, but not the description
        description=summary,
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option `--device`.

    Args:
        parser: of a command that computes.
    """
    parser.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="where to compute (default: auto)"
    )


def add_config(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the options `--config` and `--set`.

    Args:
        parser: of a command that reads a config.
        required: whether the command needs one.
    """
    parser.add_argument(
        "--config", required=required, metavar="FILE", help="a YAML file, or the name of a shipped config"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting, e.g. --set training.iterations=100",
    )
