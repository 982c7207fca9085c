"""`unia-med evaluate`: scores of predicted masks against labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.cli.options import add_config, new_command
from unia_med.errors import UserError
from unia_med.names import number_of
from unia_med.progress import tracked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from unia_med.evaluation.evaluate import Evaluation

EXAMPLE = """unia-med evaluate --predictions masks --labels labels --classes LIVER,SPLEEN
unia-med evaluate --predictions masks --labels ACDC --config acdc.yaml --split val --output scores.json
unia-med evaluate --predictions masks --labels VOC2012 --config voc.yaml --split val"""

_NAMES = {"dice": "Dice", "hd95": "HD95", "asd": "ASD"}
_SET_TITLES = {"iou": "IoU %", "precision": "precision %", "recall": "recall %", "confusion": "confusion FP/TP"}
_MOST_COLUMNS = 24
"""A table of cases with more columns is not printed; it is in the file that --output names."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Dice, 95 % Hausdorff and average surface distance per class and case; mIoU over the pixels of a set."
    parser = new_command(subparsers, "evaluate", summary, EXAMPLE)
    parser.add_argument(
        "--predictions", type=Path, required=True, metavar="DIR", help="predicted masks: X_seg, X_pred or X of case X"
    )
    parser.add_argument(
        "--labels", type=Path, required=True, metavar="DIR", help="true masks: X_gt or X; sub-folders are searched too"
    )
    add_config(parser, required=False)
    parser.add_argument(
        "--classes",
        metavar="A,B,...",
        help="names of the label values 1, 2, ..., or VALUE=NAME,...; without them and --config, those of a "
        "classes.json next to the predictions, or of the predictions' own headers",
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="score only these cases of the data set in --labels"
    )
    parser.add_argument(
        "--hd95",
        choices=("max", "pooled"),
        default="max",
        help="max: larger of the two directed 95th percentiles, as MONAI (default); pooled: that of both directions",
    )
    parser.add_argument(
        "--scores",
        choices=("case", "set", "both"),
        help="case: Dice and distances of each case; set: IoU over all pixels together; default: case, and both for "
        "PNG and TIFF masks",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table as .json or .csv")


def run(args: argparse.Namespace) -> int:
    """Score and return the exit code: 0, or 1 when some cases could not be scored.

    Args:
        args: parsed command line.

    Raises:
        UserError: no case could be scored, or the request makes no sense.
    """
    from unia_med.evaluation.evaluate import check_output, evaluate

    check_output(args.output)
    if args.config is None and args.set:
        raise UserError("--set needs a config", where="--set", remedy="Add --config")
    done = evaluate(
        args.predictions,
        args.labels,
        classes=None if args.classes is None else args.classes.split(","),
        config=args.config,
        settings=args.set,
        split=args.split,
        hd95=args.hd95,
        scores=args.scores,
        track=lambda names: tracked(names, "scoring", len(names)),
    )
    if args.output:  # first, since printing may fail
        done.write(args.output)
    _print(done)
    if args.output:
        print(f"written to {args.output}")
    for note in done.notes:
        print(f"unia-med: {note}", file=sys.stderr)
    if done.unused and args.split is None:
        print(f"{number_of(len(done.unused), 'prediction')} without a label, not scored, first {done.unused[0]}")
    if done.faults:
        total = len(done.faults) + len({case.case.partition("#t")[0] for case in done.cases})
        print(f"unia-med: {len(done.faults)} of {total} cases could not be scored:{done.listing()}", file=sys.stderr)
    return 1 if done.faults else 0


def _print(done: Evaluation) -> None:
    from rich.console import Console

    table = done.table
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width at which numbers would have to break
        console.width = 60 + 36 * len(table["classes"])
    if "mean" in table:
        _print_cases(console, table, done)
    if "set" in table:
        _print_set(console, table["set"])


def _print_cases(console: Console, table: Mapping[str, Any], done: Evaluation) -> None:
    if len(table["mean"]) * len(table["classes"]) <= _MOST_COLUMNS:
        console.print(_case_table(table))
    console.print(_summary_table(table))
    kind = "larger of the two directed 95th percentiles" if done.hd95 == "max" else "95th percentile of both directions"
    console.print(f"HD95: {kind}. Failures: cases in which the class is in one of the two masks only;")
    console.print("they count as Dice 0 and have no distance, so read the distances together with them.")


def _case_table(table: Mapping[str, Any]) -> Table:
    from rich.table import Table

    view = Table("case", title=number_of(len(table["cases"]), "case"))
    for metric in table["mean"]:
        for name in table["classes"]:
            view.add_column(f"{name} {_title(metric)}", justify="right")
    for row in table["cases"]:
        view.add_row(row["case"], *(_number(row[m][name], m) for m in table["mean"] for name in table["classes"]))
    return view


def _summary_table(table: Mapping[str, Any]) -> Table:
    from rich.table import Table

    means, deviations = table["mean"], table["std"]
    occurring = [name for name in table["classes"] if means["dice"][name] is not None]
    view = Table("class", title="mean ± standard deviation over cases")
    for title in (*map(_title, means), "failures"):
        view.add_column(title, justify="right")
    for name in (*occurring, "mean"):
        failures = table["failures"].get(name, sum(table["failures"].values()))
        cells = (_spread(means[m][name], deviations[m][name], m) for m in means)
        view.add_row(name, *cells, str(failures), end_section=name == (occurring or [None])[-1])
    return view


def _print_set(console: Console, found: Mapping[str, Any]) -> None:
    from rich.table import Table

    view = Table("class", title=f"{number_of(found['cases'], 'case')}, pixels counted together")
    for title in _SET_TITLES.values():
        view.add_column(title, justify="right")
    shown = [name for name in found["occurs"] if found["occurs"][name] or found["precision"][name] is not None]
    for name in shown:
        view.add_row(name, *(_share(found[m][name], m) for m in _SET_TITLES), end_section=name == shown[-1])
    view.add_row("mean", *(_share(found[m]["mean"], m) for m in _SET_TITLES))
    view.add_row("undefined", *(str(found["undefined"][m]) for m in _SET_TITLES))
    console.print(view)
    miou = _share(found["iou"]["mean"], "iou")
    console.print(f"mIoU {miou} % over the classes that occur in the masks, background included;")
    console.print("undefined: classes among them without a value, which the mean of that column leaves out.")


def _title(metric: str) -> str:
    """Return the column title, `HD95 mm` for `hd95_mm`."""
    name, _, unit = metric.partition("_")
    return f"{_NAMES[name]} {unit}".strip()


def _number(value: float | None, metric: str) -> str:
    return "-" if value is None else f"{value:.{4 if metric == 'dice' else 2}f}"


def _spread(mean: float | None, deviation: float | None, metric: str) -> str:
    return "-" if mean is None else f"{_number(mean, metric)} ± {_number(deviation, metric)}"


def _share(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if metric == "confusion" else f"{100 * value:.2f}"
