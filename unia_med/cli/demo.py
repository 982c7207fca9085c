"""`unia-med demo`: every step once, on synthetic hearts, on a laptop CPU."""

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
    """Run every step of a first session and print its command; stop at the first that fails.

    Args:
        args: parsed command line.
    """
    output: Path = args.output
    _learn(output)
    code = _segment(output) or _run_bundle(output)
    if code:
        return code
    print(f"Everything is in {output}: report.html, data/, run/, predictions/ (masks and uncertainty), scores.json,")
    print(f"{BUNDLE}/ (a MONAI bundle; its docs/README.md says how to use it) and bundle_predictions/")
    return 0


def _learn(output: Path) -> None:
    from unia_med import api
    from unia_med.cardiac.phantom.dataset import write_dataset

    data, model = output / "data", output / "run"
    _show(f"phantom --output {data} --patients {PATIENTS}")
    write_dataset(data, PATIENTS)
    _show(f"train --config {CONFIG} --output {model} --set data.root={data}")
    api.train(CONFIG, model, set={"data.root": data})


def _segment(output: Path) -> int:
    """Predict, score, export and report; returns 1 where a case failed."""
    from unia_med import api
    from unia_med.report.make import make_report
    from unia_med.runs import Run

    data, model, masks = output / "data", output / "run", output / "predictions"
    run = Run.open(model)
    _show(f"predict --model {model} --input {data} --split val --output {masks} --uncertainty")
    failed = [case for case in api.predict(run, data, masks, split="val", uncertainty=True) if case.error]
    for case in failed:
        print(case.error, file=sys.stderr)
    scores, config = output / "scores.json", run.files.config
    _show(f"evaluate --predictions {masks} --labels {data} --config {config} --split val --output {scores}")
    found = api.evaluate(masks, data, config=run.config, split="val")
    found.write(scores)
    print(found)
    _show(f"export --model {model} --output {output / BUNDLE} --no-onnx")
    for note in api.export(run, output / BUNDLE, onnx=False):
        print(f"Note: {note}")
    _show(f"report {model} --output {output / 'report.html'}")
    make_report(run, output / "report.html")
    return 1 if failed else 0


def _show(command: str) -> None:
    print(f"$ unia-med {command}", flush=True)


def _run_bundle(output: Path) -> int:
    """Segment a held-out patient with the bundle, by MONAI's own command, and compare with `predictions`."""
    from unia_med.data.io.read import read_volume

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
        found, wanted = (read_volume(file).array for file in (path, first.parent / path.name))
        different += int((found != wanted).sum())
    print(f"{len(written)} masks by the bundle; voxels that differ from those of `unia-med predict`: {different}")
    return 0
