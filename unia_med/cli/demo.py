"""`unia-med demo`: the whole tool once, on synthetic hearts, on a laptop CPU."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from unia_med.cli.options import new_command

CONFIG = "phantom_tiny.yaml"
PATIENTS = 14  # two of them are held out
BUNDLE = "hearts_segmentation"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Make synthetic hearts, train, predict, evaluate, export and report, in minutes on a CPU."
    parser = new_command(subparsers, "demo", summary, "unia-med demo --output demo")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("unia-med-demo"),
        metavar="DIR",
        help="where to write (default: unia-med-demo)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the commands of a first session one after the other; the first that fails ends it.

    Args:
        args: parsed command line.
    """
    from unia_med.cli.main import main

    output: Path = args.output
    data, model, masks = str(output / "data"), str(output / "run"), str(output / "predictions")
    commands = [
        ["phantom", "--output", data, "--patients", str(PATIENTS)],
        ["train", "--config", CONFIG, "--output", model, "--set", f"data.root={data}"],
        ["predict", "--model", model, "--input", data, "--split", "val", "--output", masks, "--uncertainty"],
        [
            "evaluate",
            "--predictions",
            masks,
            "--labels",
            data,
            "--config",
            f"{model}/config.yaml",
            "--split",
            "val",
            "--output",
            str(output / "scores.json"),
        ],
        ["export", "--model", model, "--output", str(output / BUNDLE), "--no-onnx"],
        ["report", model, "--output", str(output / "report.html")],
    ]
    for command in commands:
        print("$ unia-med " + " ".join(command), flush=True)
        code = main(command)
        if code:
            return code
    code = _run_bundle(output)
    if code:
        return code
    print(f"Everything is in {output}: report.html, data/, run/, predictions/ (masks and uncertainty), scores.json,")
    print(f"{BUNDLE}/ (a MONAI bundle; its docs/README.md tells how to use it) and bundle_predictions/")
    return 0


def _run_bundle(output: Path) -> int:
    """Segment a held-out patient with the bundle, by MONAI's own command, and compare with `predictions`."""
    import nibabel
    import numpy

    bundle, masks = output / BUNDLE, output / "bundle_predictions"
    first = min((output / "predictions").glob("*_seg.nii.gz"))
    image = next((output / "data").rglob(first.name.replace("_seg", "")))
    command = ["-m", "monai.bundle", "run", "--config_file", str(bundle / "configs" / "inference.json")]
    command += ["--bundle_root", str(bundle), "--dataset_dir", str(image.parent), "--output_dir", str(masks)]
    print("$ python " + " ".join(command), flush=True)
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        return done.returncode
    written = sorted(masks.glob("*_seg.nii.gz"))
    different = 0
    for path in written:
        found, wanted = (numpy.asarray(nibabel.load(file).dataobj) for file in (path, first.parent / path.name))
        different += int((found != wanted).sum())
    print(f"{len(written)} masks by the bundle; voxels that differ from those of `unia-med predict`: {different}")
    return 0
