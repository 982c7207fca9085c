"""`unia-med weaken`: weak labels made from masks, for research."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import add_config, new_command
from unia_med.errors import UserError, memory_fault
from unia_med.progress import tracked

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.config.weak_labels import MakeConfig
    from unia_med.data.dataset import CaseDataset
    from unia_med.data.sample import CaseFiles
    from unia_med.data.weak_labels.write import Weakened

KINDS = ("tags", "scribbles", "points", "blocks", "boxes")

EXAMPLE = """unia-med weaken --config acdc.yaml --set data.root=ACDC --kind scribbles --output scribbles
unia-med weaken --config acdc.yaml --set data.root=ACDC --set 'data.labels=[{kind: points, make: {points: 3}}]' \\
    --kind points --output points --seed 1
unia-med train --config acdc_cpu_walker.yaml --set data.root=ACDC \\
    --set 'data.labels=[{kind: scribbles, folder: scribbles, fill: walker, complete: {shape: heart}}]' \\
    --output runs/made"""

DETAILS = """
Writes NAME_KIND.nii.gz for each case NAME, uint8 on the grid of its image: the values of the masks, 0 for annotated
background, and one above the highest class value where nothing is annotated (ACDC: 4, as in its published scribbles).
Boxes overlap, so their volume adds 1 for the first class, 2 for the second, 4 for the third, ... over the boxes that
cover a voxel. tags.csv holds the tags of every slice, and points.csv or boxes.csv the coordinates in voxels from 0.
The folder can be given to a run as it is (data.labels: folder; data.tags: path). How much is drawn is said by `make` of
the entry of that kind in data.labels. The same seed gives a case the same labels, whatever other cases there are.
A case that fails is named at the end, with exit code 1."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Make weak labels from masks, for research: tags, scribbles, points, blocks or boxes."
    parser = new_command(subparsers, "weaken", summary, EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    add_config(parser)
    parser.add_argument("--kind", required=True, choices=KINDS, help="what to make")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of volumes and tables")
    parser.add_argument("--seed", type=int, metavar="S", help="decides what is drawn (default: the config's seed)")
    parser.add_argument(
        "--split", choices=("train", "val", "test"), default="train", help="part of the data set (default: train)"
    )


def run(args: argparse.Namespace) -> int:
    """Make the labels and return the exit code: 0, 1 when some cases failed, 2 when all did.

    Args:
        args: parsed command line.

    Raises:
        UserError: bad arguments or a data set that cannot be used. Nothing is written then.
    """
    from unia_med.build import build_dataset
    from unia_med.config.load import load_config
    from unia_med.data.splits import split_cases
    from unia_med.data.weak_labels.write import volume_file

    if args.output.exists() and not args.output.is_dir():
        raise UserError("is a file, expected a folder", where=args.output, remedy="Choose another --output")
    if args.seed is not None and args.seed < 0:
        raise UserError(f"{args.seed} is negative", where="--seed", remedy="Give a whole number from 0")
    config = load_config(args.config, args.set)
    dataset = build_dataset(config.data)
    cases = split_cases(dataset.cases(), config.data.split, config.seed)[args.split]
    if not cases:
        raise UserError(f"the split leaves no {args.split} case", where="data.split", remedy="Choose another --split")
    made, failures = _make_all(args, config, dataset, cases)
    _write_tables(args, config.data.classes, made)
    gone = [file for name in made if (file := volume_file(args.output, name, args.kind)) and not file.exists()]
    failures += [f"{file}: was written, and is gone. Run it again, and leave the folder alone" for file in gone]
    return _report(args, len(made) - len(gone), failures)


def _make_all(
    args: argparse.Namespace, config: RunConfig, dataset: CaseDataset, cases: Sequence[CaseFiles]
) -> tuple[dict[str, Weakened], list[str]]:
    """Return the made labels of each case, and the reasons of those that failed."""
    from unia_med.data.weak_labels.write import weaken_case

    seed = config.seed if args.seed is None else args.seed
    settings = _settings(config, args.kind)
    made: dict[str, Weakened] = {}
    failures: list[str] = []
    for case in tracked(cases, f"making {args.kind}", len(cases)):
        try:
            made[case.name] = weaken_case(dataset, case, config.data, args.kind, seed, settings, args.output)
        except UserError as error:
            failures.append(str(error) if error.where else f"{case.name}: {error}")
        except Exception as error:  # one case must not cost the others their labels
            if args.debug:
                raise
            said = memory_fault(error) or f"{type(error).__name__}: {error}. Run it again with --debug"
            failures.append(f"{case.name}: {said}")
    return made, failures


def _settings(config: RunConfig, kind: str) -> MakeConfig:
    """Return the settings of the first source of that kind in the config, else the defaults."""
    from unia_med.config.weak_labels import MakeConfig

    return next((source.make for source in config.data.labels if source.kind == kind), MakeConfig())


def _write_tables(args: argparse.Namespace, classes: Sequence[str], made: dict[str, Weakened]) -> None:
    from unia_med.data.weak_labels.tags import write_tags_csv
    from unia_med.data.weak_labels.write import COLUMNS, write_table

    if not made:
        return
    write_tags_csv(args.output / "tags.csv", {case: weakened.tags for case, weakened in made.items()}, classes)
    if args.kind in COLUMNS:
        rows = [row for weakened in made.values() for row in weakened.rows]
        write_table(args.output / f"{args.kind}.csv", COLUMNS[args.kind], rows)


def _report(args: argparse.Namespace, made: int, failures: Sequence[str]) -> int:
    if made:
        print(f"{args.kind} of {made} of {made + len(failures)} cases written to {args.output}")
    if not failures:
        return 0
    lines = [f"unia-med: error: {len(failures)} of {made + len(failures)} cases failed:"]
    print("\n".join([*lines, *(f"  {reason}" for reason in failures)]), file=sys.stderr)
    return 1 if made else 2
