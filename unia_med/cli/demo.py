"""`unia-med demo`: every step once, on synthetic hearts, on a laptop CPU."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.cli.options import new_command

if TYPE_CHECKING:
    from unia_med.runs import Run

CONFIG, SHIPPED = "phantom_tiny.yaml", "cardiac-sax"
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
    shipped = _score_shipped(output)
    trained = _learn(output)
    _hand_out(output)
    if code := _run_bundle(output):
        return code
    print(f"Mean Dice of the held-out patients: {SHIPPED} as shipped {shipped:.3f}, trained here {trained:.3f}")
    print(f"Everything is in {output}: report.html, data/, run/, shipped/ and predictions/ (masks), scores*.json,")
    print(f"{BUNDLE}/ (a MONAI bundle; its docs/README.md says how to use it) and bundle_predictions/")
    return 0


def _score_shipped(output: Path) -> float:
    """Make the data, and return the mean Dice of the shipped model on the patients that are held out."""
    from unia_med.cardiac.phantom.dataset import write_dataset

    data, masks = output / "data", output / "shipped"
    _show(f"phantom --output {data} --patients {PATIENTS}")
    write_dataset(data, PATIENTS)
    for patient in _held_out(data):
        _show(f"predict --model {SHIPPED} --input {data / patient} --output {masks}")
        _predict(SHIPPED, data / patient, masks)
    return _score(masks, output, CONFIG, output / "scores_shipped.json")


def _held_out(data: Path) -> list[str]:
    """Return the validation patients of the config."""
    from unia_med.build import build_dataset
    from unia_med.config.load import load_config
    from unia_med.data.splits import split_cases

    config = load_config(CONFIG, [f"data.root={data}"])
    cases = split_cases(build_dataset(config.data).cases(), config.data.split, config.seed)["val"]
    return sorted({case.patient for case in cases})


def _learn(output: Path) -> float:
    """Train on slice tags of the others, and return the mean Dice on the same patients."""
    from unia_med import api
    from unia_med.runs import Run

    data, model, masks = output / "data", output / "run", output / "predictions"
    _show(f"train --config {CONFIG} --output {model} --set data.root={data}")
    api.train(CONFIG, model, set={"data.root": data})
    _show(f"predict --model {model} --input {data} --split val --output {masks} --uncertainty")
    _predict(Run.open(model), data, masks, split="val", uncertainty=True)
    return _score(masks, output, str(Run.open(model).files.config), output / "scores.json")


def _predict(model: Run | str, images: Path, masks: Path, **options: Any) -> None:
    """Predict; a faulty case ends the demo, since its images are all made by it."""
    from unia_med import api

    for case in api.predict(model, images, masks, **options):
        if case.error:
            raise case.error


def _score(masks: Path, output: Path, config: str, scores: Path) -> float:
    """Print and write the scores of the patients that are held out, and return their mean Dice."""
    from unia_med import api

    data = output / "data"
    _show(f"evaluate --predictions {masks} --labels {data} --config {config} --split val --output {scores}")
    found = api.evaluate(masks, data, config=config, split="val")
    found.write(scores)
    print(found)
    return float(found.table["mean"]["dice"]["mean"])


def _hand_out(output: Path) -> None:
    """Export a bundle and write the report."""
    from unia_med import api
    from unia_med.report.make import make_report
    from unia_med.runs import Run

    run = Run.open(output / "run")
    _show(f"export --model {run.folder} --output {output / BUNDLE} --no-onnx")
    for note in api.export(run, output / BUNDLE, onnx=False):
        print(f"Note: {note}")
    _show(f"report {run.folder} --output {output / 'report.html'}")
    make_report(run, output / "report.html")


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
