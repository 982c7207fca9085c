"""The console script `unia-med`: parses the command line, runs one command and turns errors into exit codes.

Exit codes: 0 done; 1 a batch finished but some cases failed; 2 the request cannot be carried out; 130 interrupted.
Nothing heavy is imported before a command runs, so that every `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unia_med import __version__
from unia_med.cli.terminal import finish_output, prepare_terminal
from unia_med.errors import UserError, memory_fault, nearest
from unia_med.files import at_home, require_writable
from unia_med.notes import show_notes

COMMANDS = (
    "init",
    "inspect",
    "train",
    "pipeline",
    "predict",
    "evaluate",
    "cardiac",
    "next",
    "weaken",
    "export",
    "report",
    "phantom",
    "settings",
    "models",
    "demo",
    "bench",
)
"""One module in `unia_med.cli` each, with `add_parser(subparsers)` and `run(args) -> int`."""

WRITE_ONE_FILE = ("evaluate", "cardiac", "inspect", "report", "init")
"""Commands whose `--output` is a file; that of the others is a folder."""

MORE_PLACES = {"drawings": True, "sr": True, "markdown": False}
"""Further options that name a result, and whether it is a folder."""

READ_IMAGES = ("predict", "evaluate", "cardiac", "inspect")
"""Commands that often run on a few images, and so should start fast."""

EXAMPLE = """example:
  unia-med phantom --output hearts --patients 20
  unia-med train --config phantom_tiny.yaml --set data.root=hearts --output runs/first
  unia-med predict --model runs/first --input hearts/training --output masks"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="unia-med",
        description="Weakly supervised segmentation of medical images.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"unia-med {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"unia_med.cli.{name}")
        module.add_parser(subparsers)
        command = subparsers.choices[name]
        command.set_defaults(run=module.run, command=name, usage=command.format_usage)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line, or exit with 2 and, for what no option takes, the nearest that would have.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    parser = build_parser()
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}. {_what_was_meant(unknown[0], args)}")
    return args


def _what_was_meant(argument: str, args: argparse.Namespace) -> str:
    changes = getattr(args, "set", None)
    if changes and "=" in argument and not argument.startswith("-"):
        return f"Write --set before each setting: --set {changes[-1]} --set {argument}"
    options = re.findall(r"--[a-z0-9-]+", args.usage())
    guess = nearest(argument.partition("=")[0], options) if argument.startswith("-") else None
    return f"Did you mean {guess}?" if guess else f"See unia-med {args.command} --help"


def share_cores() -> None:
    """Let the idle threads of GNU OpenMP sleep, unless the user has set how they wait.

    They spin by default. On a core that another process wants too, a spinning thread keeps the one it waits for from
    running: with one other busy process, a training step takes ten times as long. Read when torch is loaded, so set
    before.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def import_nibabel_alone() -> None:
    """Import nibabel without pydicom, which takes six times as long to import as nibabel itself.

    nibabel asks for it only to print DICOM headers inside NIfTI files, which nothing here does; they are read and
    written as bytes all the same. What reads DICOM imports pydicom itself, later.
    """
    if "nibabel" not in sys.modules and "pydicom" not in sys.modules:
        sys.modules["pydicom"] = None  # type: ignore[assignment]  # Python's own way to refuse an import
        try:
            importlib.import_module("nibabel")
        finally:
            del sys.modules["pydicom"]


def expand_homes(args: argparse.Namespace) -> None:
    """Replace a leading `~` in all paths of a command line; the shell leaves it in `--output=~/x`.

    Args:
        args: parsed; changed in place.
    """
    for name, value in vars(args).items():
        if isinstance(value, list):
            setattr(args, name, [_at_home(item) for item in value])
        else:
            setattr(args, name, _at_home(value))


def _at_home(value: Any) -> Any:
    if isinstance(value, str):  # a model, config or recipe: a path, or a name
        return os.path.expanduser(value) if value.startswith("~/") else value
    return at_home(value) if isinstance(value, Path) else value


def require_places(args: argparse.Namespace) -> None:
    """Make sure that all results can be written, before anything is computed.

    Args:
        args: parsed.

    Raises:
        UserError: a place cannot be written.
    """
    if getattr(args, "output", None) is not None:
        require_writable(args.output, folder=args.command not in WRITE_ONE_FILE)
    for option, folder in MORE_PLACES.items():
        if getattr(args, option, None) is not None:
            require_writable(getattr(args, option), folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    prepare_terminal()
    args = parse(arguments)
    expand_homes(args)
    share_cores()
    show_notes()
    try:
        require_places(args)
        if args.command in READ_IMAGES:
            import_nibabel_alone()
        code: int = args.run(args)
        finish_output()
        return code
    except UserError as error:
        if args.debug:
            traceback.print_exc()
        print(f"unia-med: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if args.debug:
            traceback.print_exc()
        named = error.filename or getattr(args, "output", None)
        place = f"{named}: " if named else ""
        what = f"{place}{error.strerror or error}. Check that it can be read and written, and that the disk has room"
        print(f"unia-med: error: {what}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        fault = memory_fault(error)
        if fault is None or args.debug:
            raise
        print(f"unia-med: error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("unia-med: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
