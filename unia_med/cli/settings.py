"""`unia-med settings`: every setting with type, default, range and meaning."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import new_command

if TYPE_CHECKING:
    from unia_med.config.describe import Setting

EXAMPLE = """unia-med settings
unia-med settings training
unia-med settings data.split.kind"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command.

    Args:
        subparsers: Of the main parser.
    """
    summary = "List the settings of a config with type, default, range and meaning."
    parser = new_command(subparsers, "settings", summary, EXAMPLE)
    parser.add_argument("key", nargs="?", default="", metavar="KEY", help="a setting or section, such as data.split")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="rewrite the generated part of configs/README.md with all of them"
    )


def run(args: argparse.Namespace) -> int:
    """Print the settings, or rewrite a Markdown file.

    Args:
        args: Parsed command line.
    """
    from unia_med.config.describe import find_settings
    from unia_med.config.markdown import rewrite

    if args.markdown is not None:
        rewrite(args.markdown)
        print(f"Written: {args.markdown}")
        return 0
    for item in find_settings(args.key):
        print(as_text(item, shutil.get_terminal_size((100, 20)).columns))
    return 0


def as_text(item: Setting, width: int) -> str:
    """Return a setting in lines of a terminal.

    Args:
        item: The setting.
        width: Characters per line.
    """
    owner = f" (name: {item.owner})" if item.owner else ""
    limits = f", {item.limits}" if item.limits else ""
    head = f"{item.key}{owner} = {item.default}\n    {item.kind}{limits}"
    return head + "\n" + textwrap.fill(item.meaning, max(width, 40), initial_indent="    ", subsequent_indent="    ")
