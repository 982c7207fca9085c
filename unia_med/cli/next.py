"""`unia-med next`: which cases and slices to annotate next, prefilled for a viewer."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote as quoted
from typing import TYPE_CHECKING

from unia_med.cli.options import add_device, new_command
from unia_med.names import number_of
from unia_med.progress import tracked

if TYPE_CHECKING:
    from unia_med.data.sample import CaseFiles

EXAMPLE = """unia-med next runs/first scans --count 5
unia-med next runs/first scans --count 10 --slices 1 --output round2"""

DETAILS = """
Predicts the images of FOLDER and chooses cases that stand for many others, which the model doubts (mean uncertainty in
and near its structures) and which are unlike what is labelled or chosen already, one per patient where it can; and of
each case the slices that it doubts most. Of the run's own data set only training cases without labels are looked at.
Writes to the output folder:

  labels/NAME_masks.nii.gz  the prediction in the chosen slices, 255 (not annotated) in all others; correct it there
                            (of pictures NAME_masks.png)
  next.csv                  case, slices (from 0), doubt and distance, the most useful case first
  next.yaml                 config of the next training, in which these volumes win over all other labels

and prints the command of that training."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Choose which cases and slices to annotate next, and prefill their labels."
    parser = new_command(subparsers, "next", summary, EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument("model", metavar="RUN", help="run folder, bundle, or name of a shipped model")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="images to choose from")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="how many cases (default: 5)")
    parser.add_argument("--slices", type=int, default=3, metavar="N", help="how many slices of each (default: 3)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder to write, new or empty (default: RUN_next next to the run)"
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Choose, write, and print what to do next.

    Args:
        args: parsed command line.

    Raises:
        UserError: no run, no image, or a folder that holds something already.
    """
    from unia_med import api
    from unia_med.inference.bundle import is_bundle
    from unia_med.runs import Run

    output = args.output or Path(f"{args.model.rstrip('/')}_next")
    found = api.choose_next(
        args.model,
        args.folder,
        output,
        count=args.count,
        slices=args.slices,
        device=args.device,
        track=_tracked,
    )
    print(found.table.read_text(encoding="utf-8").strip())
    volumes = number_of(len(found.labels), "volume")
    print(f"\nCorrect the listed slices of {volumes} in {found.folder / 'labels'} and save them there.")
    print("Then train on them, starting from this model:")
    folds = [] if is_bundle(Path(args.model)) else Run.open(args.model).folds
    enough = len(folds) <= _patients(found.config)
    ending = f" --folds {len(folds)}" if folds and enough else ""
    source = quoted(str(folds[0].folder) if folds and not enough else args.model)
    target = quoted(f"{args.model.rstrip('/')}_corrected")
    print(f"  unia-med train --config {quoted(str(found.config))} --from {source} --output {target}{ending}")
    return 0


def _patients(config: Path) -> float:
    """Return how many patients a config lists for folds to be made of; infinity where it lists none by name."""
    from unia_med.config.load import load_config

    split = load_config(config).data.split
    return len(split.train) + len(split.val) if split.kind == "lists" else float("inf")


def _tracked(cases: Sequence[CaseFiles]) -> Iterable[CaseFiles]:
    return tracked(cases, "looking", len(cases))
