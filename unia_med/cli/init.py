"""`unia-med init`: a config for a folder as it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from unia_med.cli.options import new_command

EXAMPLE = """unia-med init scans
unia-med init scans --output liver.yaml"""

DETAILS = """
Looks at images (NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, DICOM), labels, tables and the files in which viewers keep
names of segments (.seg.nrrd, ITK-SNAP's and 3D Slicer's label files, nnU-Net's dataset.json), points and boxes in mm
(3D Slicer's markups, .mrk.json and .fcsv) or shapes on pictures (labelme, COCO, CVAT, VIA, Label Studio, VOC, YOLO,
QuPath), and writes a short commented config that `inspect` and `train` take. A second call writes the same; nothing is
ever overwritten."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    parser = new_command(subparsers, "init", "Look at a folder of own data and write a config for it.", EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where images and labels lie")
    parser.add_argument(
        "--output", type=Path, default=Path("project.yaml"), metavar="FILE", help="the config (default: project.yaml)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the config, and print what was found and the next commands.

    Args:
        args: parsed command line.

    Raises:
        UserError: no folder, no image, or another file of that name.
    """
    from unia_med.project.plan import images_to_predict, make_plan
    from unia_med.project.write import write_project

    plan = make_plan(args.folder)
    written = write_project(plan, args.output)
    for line in args.output.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        print(line.removeprefix("# ").removeprefix("#"))
    print(f"\nwritten: {', '.join(map(str, written))}. Look through it, then:")
    print(f"  unia-med inspect --config {args.output}")
    print(f"  unia-med train --config {args.output} --output runs/{args.output.stem}")
    print(f"  unia-med predict --model runs/{args.output.stem} --input {images_to_predict(plan)} --output predicted")
    return 0
