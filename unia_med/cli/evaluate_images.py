"""`unia-med evaluate` for photographs: mIoU, precision, recall and confusion ratio over all images together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from unia_med.config.images import VOC_CLASSES
from unia_med.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from unia_med.config.schema import DataConfig, RunConfig

_SHOWN_FAULTS = 10
_TITLES = {"iou": "IoU %", "precision": "precision %", "recall": "recall %", "confusion": "confusion FP/TP"}


def run(args: argparse.Namespace, config: RunConfig | None) -> int:
    """Score and return the exit code: 0, or 1 when some images could not be scored.

    Args:
        args: parsed command line of `evaluate`.
        config: what names the classes; None: those of VOC.
    """
    from rich.progress import track

    from unia_med.evaluation.images import evaluate_images, find_predicted_images, summary, write_summary

    labels = _labels(args, config)
    classes = VOC_CLASSES if config is None else config.data.target_classes
    names = track(labels, "scoring", len(labels), disable=not sys.stdout.isatty(), transient=True)
    done = evaluate_images(labels, find_predicted_images(args.predictions), len(classes), names)
    listing = _listing(done.faults)
    if not done.images:
        raise UserError(f"no image could be scored:{listing}", where=args.predictions)
    table = summary(classes, done)
    _print(table)
    if args.output:
        write_summary(table, args.output)
        print(f"written to {args.output}")
    if done.faults:
        print(f"unia-med: {len(done.faults)} of {len(labels)} images could not be scored:{listing}", file=sys.stderr)
    return 1 if done.faults else 0


def _labels(args: argparse.Namespace, config: RunConfig | None) -> dict[str, Callable[[], np.ndarray]]:
    """Return what reads the true labels, by image name: PNGs of a folder, or the masks of a data set."""
    from unia_med.evaluation.images import find_label_images, holds_images, mask_labels

    if holds_images(args.labels):
        if args.split:
            remedy = "Give the folder of the data set as --labels"
            raise UserError("a folder of masks has no split", where="--split", remedy=remedy)
        values, others = _values(config)
        found = find_label_images(args.labels)
        return {name: partial(mask_labels, path, values, others) for name, path in found.items()}
    return _data_set_labels(args, config)


def _values(config: RunConfig | None) -> tuple[list[list[int]], list[int]]:
    """Mask values of each class, and those that count as background."""
    if config is None:
        return [[value] for value in range(1, len(VOC_CLASSES) + 1)], []
    data = config.data
    groups = data.groups or {name: [name] for name in data.classes}
    others = {"voc": data.voc.other_values, "coco": data.coco.other_values}.get(data.name, [])
    return [[data.mask_values[name] for name in members] for members in groups.values()], list(others)


def _data_set_labels(args: argparse.Namespace, config: RunConfig | None) -> dict[str, Callable[[], np.ndarray]]:
    from unia_med.build import build_dataset
    from unia_med.data.splits import split_cases

    if config is None:
        raise UserError("holds no mask PNG", where=args.labels, remedy="Add --config for the masks of a data set")
    dataset = build_dataset(config.data.model_copy(update={"root": args.labels}))
    cases = dataset.cases()
    if args.split:
        cases = split_cases(cases, config.data.split, config.seed)[args.split]
    masked = [case for case in cases if case.mask is not None]
    if not masked:
        raise UserError("no image has a mask", where=args.labels, remedy="Change --split, or add the masks")

    def labels(case: Any) -> np.ndarray:
        return _merged(dataset.labels(case)[:, :, 0], config.data)

    return {case.name: partial(labels, case) for case in masked}


def _merged(labels: np.ndarray, data: DataConfig) -> np.ndarray:
    from unia_med.data.weak_labels.tags import group_labels

    return group_labels(labels, data.classes, data.groups) if data.groups else labels


def _listing(faults: dict[str, str]) -> str:
    lines = [f"\n  {name}: {reason}" for name, reason in list(faults.items())[:_SHOWN_FAULTS]]
    more = f"\n  and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
    return "".join(lines) + more


def _print(table: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    view = Table("class", title=f"{table['images']} images, pixels counted together")
    for title in _TITLES.values():
        view.add_column(title, justify="right")
    shown = {name: row for name, row in table["classes"].items() if row["occurs"] or row["precision"] is not None}
    for name, row in shown.items():
        view.add_row(name, *(_cell(row[metric], metric) for metric in _TITLES), end_section=name == list(shown)[-1])
    view.add_row("mean", *(_cell(table["mean"][metric], metric) for metric in _TITLES))
    view.add_row("undefined", *(str(table["undefined"][metric]) for metric in _TITLES))
    console.print(view)
    miou = table["mean"]["iou"]
    console.print(f"mIoU {_cell(miou, 'iou')} % over the classes that occur in the masks, background included;")
    console.print("undefined: classes among them without a value, which the mean of that column leaves out.")


def _cell(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if metric == "confusion" else f"{100 * value:.2f}"
