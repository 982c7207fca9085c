"""`unia-med predict`: masks and uncertainty of images, with a trained run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import add_device, new_command
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.inference.predictor import Predictor

EXAMPLE = """unia-med predict --model runs/acdc --input scan.nii.gz --output masks --uncertainty
unia-med predict --model runs/acdc --input ACDC --split val --output masks"""

DETAILS = """
Writes NAME_seg.nii.gz (uint8) and, with --uncertainty, NAME_uncertainty.nii.gz (float32, 0 certain to 1) for each
NAME.nii.gz, on its own grid; a 4D cine gives 4D results. A folder is searched with its sub-folders; files ending in
_gt, _scribble, _seg, _pred or _uncertainty are no images, and X_4d is left out where its frames X_frameNN lie beside it
(name it as --input to predict it). A file that fails is named at the end, with exit code 1."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    parser = new_command(subparsers, "predict", "Segment NIfTI, NRRD or MetaImage volumes, 3D or 4D.", EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder of `unia-med train`")
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="an image, or a folder of images")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        help="--input is a data set as in the run's config; predict only this part of it",
    )
    parser.add_argument(
        "--uncertainty",
        nargs="?",
        const=True,  # a text would be checked against the choices
        choices=("entropy", "network"),
        help="write an uncertainty volume beside each mask: the entropy of the class probabilities, or the network's "
        "own map; alone, what the run's inference.uncertainty says",
    )
    parser.add_argument("--tta", action="store_true", help="average over several views of each slice: slower")
    parser.add_argument("--no-postprocess", action="store_true", help="masks as the network gives them")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and return the exit code: 0, 1 when some images failed, 2 when all did.

    Args:
        args: parsed command line.

    Raises:
        UserError: bad arguments, no image, no usable run. Nothing is written then.
    """
    from unia_med.trained import find_checkpoint

    if args.output.exists() and not args.output.is_dir():
        raise UserError("is a file, expected a folder", where=args.output, remedy="Choose another --output")
    images = _images(args)
    find_checkpoint(args.model)
    failures = _unreadable(images)
    readable = {name: path for name, path in images.items() if name not in failures}
    if readable:
        failures |= _predict_all(_load(args), readable, args)
    return _report(images, failures, args)


def _images(args: argparse.Namespace) -> dict[str, Path]:
    from unia_med.inference.inputs import by_name, find_images

    if args.split is None:
        return find_images(args.input, args.output)
    from unia_med.build import build_dataset
    from unia_med.data.splits import split_cases
    from unia_med.trained import load_run_config

    config = load_run_config(args.model)
    dataset = build_dataset(config.data.model_copy(update={"root": args.input}))
    cases = split_cases(dataset.cases(), config.data.split, config.seed)[args.split]
    if not cases:
        raise UserError(f"the run's split leaves no {args.split} case", where=args.input, remedy="Leave out --split")
    return by_name((case.case, case.image) for case in cases)


def _unreadable(images: Mapping[str, Path]) -> dict[str, str]:
    """Reasons of the images whose header is already wrong: known before the weights are loaded."""
    from unia_med.data.io.nifti import read_header

    failures: dict[str, str] = {}
    for name, path in images.items():
        try:
            read_header(path)
        except UserError as error:
            failures[name] = str(error)
    return failures


def _load(args: argparse.Namespace) -> Predictor:
    from unia_med.build import resolve_device
    from unia_med.trained import load_predictor

    device = resolve_device(args.device)
    kind = args.uncertainty if isinstance(args.uncertainty, str) else None
    return load_predictor(args.model, device, tta=args.tta, postprocess=not args.no_postprocess, uncertainty=kind)


def _predict_all(predictor: Predictor, images: Mapping[str, Path], args: argparse.Namespace) -> dict[str, str]:
    """Reasons of the images that failed, by name; all others are written."""
    from rich.progress import track

    failures: dict[str, str] = {}
    for name, path in track(images.items(), "predicting", disable=not sys.stdout.isatty(), transient=True):
        try:
            _predict_one(predictor, name, path, args)
        except UserError as error:
            failures[name] = str(error) if error.where else f"{path}: {error}"
        except Exception as error:  # one image must not cost the others their results
            if args.debug:
                raise
            failures[name] = f"{path}: {type(error).__name__}: {error}. Run this image alone with --debug"
    return failures


def _predict_one(predictor: Predictor, name: str, path: Path, args: argparse.Namespace) -> None:
    from unia_med.data.io.nifti import read_volume, write_like
    from unia_med.inference.inputs import results

    volume = read_volume(path)
    found = predictor.predict_volume(volume)
    for kind, file in results(args.output, name, bool(args.uncertainty)).items():
        write_like(getattr(found, kind), volume, file)


def _report(images: Mapping[str, Path], failures: Mapping[str, str], args: argparse.Namespace) -> int:
    from unia_med.inference.inputs import results

    written = len(images) - len(failures)
    if written:
        print(f"{written} of {len(images)} images segmented, results in {args.output}")
    if not failures:
        return 0
    lines = [f"unia-med: error: {len(failures)} of {len(images)} images failed:"]
    for name, reason in failures.items():
        lines.append(f"  {reason}")
        old = [file for file in results(args.output, name, bool(args.uncertainty)).values() if file.exists()]
        lines += [f"    {file} is from an earlier run" for file in old]
    print("\n".join(lines), file=sys.stderr)
    return 1 if written else 2
