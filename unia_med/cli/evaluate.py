"""`unia-med evaluate`: scores of predicted masks against labels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.cli.options import add_config, new_command
from unia_med.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from unia_med.config.schema import RunConfig
    from unia_med.evaluation.volumes import Evaluation, LabelScheme

EXAMPLE = """unia-med evaluate --predictions masks --labels labels
unia-med evaluate --predictions masks --labels ACDC --config acdc.yaml --split val --output scores.json
unia-med evaluate --predictions masks --labels VOC2012 --config voc.yaml --split val"""

DEFAULT_CLASSES = ("RV", "MYO", "LV")
"""Classes without a config, with the values 1, 2, 3 as in ACDC."""

TITLES = {"dice": "Dice", "hd95_mm": "HD95 mm", "asd_mm": "ASD mm"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "3D Dice, 95 % Hausdorff and average surface distance in mm, per class and case; mIoU of photographs."
    parser = new_command(subparsers, "evaluate", summary, EXAMPLE)
    parser.add_argument(
        "--predictions", type=Path, required=True, metavar="DIR", help="predicted masks: X_seg, X_pred or X of case X"
    )
    parser.add_argument(
        "--labels", type=Path, required=True, metavar="DIR", help="true masks: X_gt or X; sub-folders are searched too"
    )
    add_config(parser, required=False)
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="score only these cases of the data set in --labels"
    )
    parser.add_argument(
        "--hd95",
        choices=("max", "pooled"),
        default="max",
        help="max: larger of the two directed 95th percentiles, as MONAI (default); pooled: that of both directions",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table as .json or .csv")


def run(args: argparse.Namespace) -> int:
    """Score and return the exit code: 0, or 1 when some cases could not be scored.

    Args:
        args: parsed command line.

    Raises:
        UserError: no case could be scored, or the request makes no sense.
    """
    from unia_med.evaluation.volumes import find_predictions
    from unia_med.metrics.table import summarise, write_table

    _check_arguments(args)
    config = _photographs(args)
    if config is not None or _are_photographs(args):
        from unia_med.cli import evaluate_images

        return evaluate_images.run(args, config)
    scheme, labels = _scheme_and_labels(args)
    done = _evaluate(labels, find_predictions(args.predictions), scheme, args.hd95)
    if not done.scores:
        raise UserError(f"no case could be scored:{_listing(done)}", where=args.predictions)
    table = summarise(scheme.names, done.scores)
    _print(table, args.hd95)
    if args.output:
        write_table(table, args.output)
        print(f"written to {args.output}")
    if done.unused and args.split is None:
        print(f"{len(done.unused)} predictions have no label and were not scored, first {done.unused[0]}")
    if done.faults:
        print(
            f"unia-med: {len(done.faults)} of {len(labels)} cases could not be scored:{_listing(done)}", file=sys.stderr
        )
    return 1 if done.faults else 0


def _check_arguments(args: argparse.Namespace) -> None:
    if args.output and args.output.suffix.lower() not in (".json", ".csv"):
        raise UserError(f"the suffix is {args.output.suffix!r}", where=args.output, remedy="Use .json or .csv")
    if args.config is None and (args.split or args.set):
        option = "--split" if args.split else "--set"
        raise UserError(f"{option} needs a config", where=option, remedy="Add --config")


def _photographs(args: argparse.Namespace) -> RunConfig | None:
    """Return the config that is named, if it is one of photographs."""
    if args.config is None:
        return None
    from unia_med.config.load import load_config

    config = load_config(args.config, args.set)
    return config if config.data.of_images else None


def _are_photographs(args: argparse.Namespace) -> bool:
    from unia_med.evaluation.images import holds_images

    return args.config is None and holds_images(args.labels)


def _scheme_and_labels(args: argparse.Namespace) -> tuple[LabelScheme, dict[str, Path]]:
    from unia_med.evaluation.volumes import LabelScheme, find_labels

    if args.config is None:
        return LabelScheme.plain(DEFAULT_CLASSES), find_labels(args.labels)
    from unia_med.config.load import load_config

    config = load_config(args.config, args.set)
    if args.split or config.data.name == "volumes":
        return _configured_scheme(config), _split_labels(config, args)
    return _configured_scheme(config), find_labels(args.labels)


def _configured_scheme(config: Any) -> LabelScheme:
    """Classes of a config; with `groups`, its merged classes, since that is what such a run predicts."""
    from unia_med.data.layouts.acdc import CLASS_VALUES, KNOWN_VALUES
    from unia_med.evaluation.volumes import LabelScheme

    data = config.data
    groups = data.groups or {name: [name] for name in data.classes}
    by_name = data.name == "acdc" and data.class_values is None  # a subset of ACDC's classes keeps their values
    numbers = {name: CLASS_VALUES[name] if by_name else value for name, value in data.mask_values.items()}
    values = tuple(tuple(numbers[member] for member in members) for members in groups.values())
    others = KNOWN_VALUES if by_name else data.volumes.other_values
    return LabelScheme(tuple(groups), values, frozenset(others))


def _split_labels(config: Any, args: argparse.Namespace) -> dict[str, Path]:
    from unia_med.build import build_dataset
    from unia_med.data.splits import split_cases

    dataset = build_dataset(config.data.model_copy(update={"root": args.labels}))
    cases = dataset.cases()
    if args.split is None:
        return {case.name: case.mask for case in cases if case.mask is not None}
    cases = split_cases(cases, config.data.split, config.seed)[args.split]
    if not cases:
        raise UserError(f"the split leaves no {args.split} case", where=args.labels, remedy="Change data.split")
    unlabelled = [case.name for case in cases if case.mask is None]
    if unlabelled:
        shown = ", ".join(unlabelled[:5])
        raise UserError(f"{len(unlabelled)} {args.split} cases have no mask: {shown}", where=args.labels)
    return {case.name: case.mask for case in cases if case.mask is not None}


def _evaluate(
    labels: dict[str, Path], predictions: dict[str, list[Path]], scheme: LabelScheme, hd95: Any
) -> Evaluation:
    from rich.progress import track

    from unia_med.evaluation.volumes import Evaluation, evaluate

    used = {path for case in labels for path in predictions.get(case, [])}
    done = Evaluation(unused=sorted({path for paths in predictions.values() for path in paths} - used))
    cases = evaluate(labels, predictions, scheme, hd95)
    for case, result in track(cases, "scoring", len(labels), disable=not sys.stdout.isatty(), transient=True):
        if isinstance(result, UserError):
            done.faults[case] = str(result)
        else:
            done.scores.extend(result)
    return done


def _listing(done: Evaluation) -> str:
    return "".join(f"\n  {case}: {reason}" for case, reason in done.faults.items())


def _print(table: dict[str, Any], hd95: str) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width at which numbers would have to break
        console.width = 60 + 36 * len(table["classes"])
    console.print(_case_table(table))
    console.print(_summary_table(table))
    kind = "larger of the two directed 95th percentiles" if hd95 == "max" else "95th percentile of both directions"
    console.print(f"HD95: {kind}. Failures: cases in which the class is in one of the two masks only;")
    console.print("they count as Dice 0 and have no distance, so read the distances together with them.")


def _case_table(table: dict[str, Any]) -> Table:
    from rich.table import Table

    view = Table("case", title=f"{len(table['cases'])} cases")
    for title in TITLES.values():
        for name in table["classes"]:
            view.add_column(f"{name} {title}", justify="right")
    for row in table["cases"]:
        view.add_row(row["case"], *(_number(row[m][name], m) for m in TITLES for name in table["classes"]))
    return view


def _summary_table(table: dict[str, Any]) -> Table:
    from rich.table import Table

    view = Table("class", title="mean ± standard deviation over cases")
    for title in (*TITLES.values(), "failures"):
        view.add_column(title, justify="right")
    for name in (*table["classes"], "mean"):
        failures = table["failures"].get(name, sum(table["failures"].values()))
        cells = (_spread(table["mean"][m][name], table["std"][m][name], m) for m in TITLES)
        view.add_row(name, *cells, str(failures), end_section=name == table["classes"][-1])
    return view


def _number(value: float | None, metric: str) -> str:
    return "-" if value is None else f"{value:.{4 if metric == 'dice' else 2}f}"


def _spread(mean: float | None, deviation: float | None, metric: str) -> str:
    return "-" if mean is None else f"{_number(mean, metric)} ± {_number(deviation, metric)}"
