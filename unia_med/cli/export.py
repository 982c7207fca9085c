"""`unia-med export`: a trained run as a MONAI bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from unia_med.cli.options import new_command

EXAMPLE = """unia-med export --model runs/acdc --output acdc_segmentation
unia-med export --model runs/a runs/b --output average_segmentation
python -m monai.bundle run --config_file acdc_segmentation/configs/inference.json --bundle_root acdc_segmentation \\
    --dataset_dir images --output_dir masks"""

DETAILS = """
The bundle segments without unia_med: its weights, network code, configs and documentation are in one folder, and its
masks are those of `unia-med predict`. Beside model.pt it holds model.ts (TorchScript) and, where the packages of
`pip install 'unia-med[onnx]'` are there, model.onnx. Its docs/README.md says how to run it and how to open it in 3D
Slicer, for which the folder's name should end in _segmentation."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    parser = new_command(subparsers, "export", "Write a trained run as a MONAI bundle.", EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument(
        "--model",
        required=True,
        nargs="+",
        metavar="RUN",
        help="run folder of `unia-med train`, or name of a shipped model; of several the average",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="BUNDLE", help="folder to make; new or empty")
    parser.add_argument(
        "--onnx",
        action=argparse.BooleanOptionalAction,
        help="write model.onnx, or not (default: if its packages are installed)",
    )
    parser.add_argument("--authors", metavar="TEXT", help="who trained the run, for metadata and model card")
    parser.add_argument("--copyright", metavar="TEXT", help="copyright notice of the weights, for the metadata")


def run(args: argparse.Namespace) -> int:
    """Write the bundle.

    Args:
        args: parsed command line.
    """
    from unia_med import api

    notes = api.export(args.model, args.output, onnx=args.onnx, authors=args.authors, copyright=args.copyright)
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"Bundle in {args.output}, {size / 1e6:.1f} MB; {args.output / 'docs' / 'README.md'} says how to run it")
    for note in notes:
        print(f"Note: {note}")
    return 0
