"""Turn a finished run into the folder of a shipped model: half precision, config, hashes; cards are written by hand.

Run: python examples/ship_model.py runs/cardiac_sax unia_med/models/cardiac_sax [--config cardiac_sax.yaml]
     python examples/ship_model.py --images unia_med/models/cardiac_sax

With `--config`, this config is shipped in place of the run's: the recipe, where the weights come from several runs. The
second line writes `training_images.json` alone, by which `predict` notices images that are no hearts: spacing,
size, volumes of the classes and uncertainty of synthetic hearts that the model did not see; no patient's image.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from unia_med.cardiac.phantom.dataset import write_dataset
from unia_med.config.load import dump_config, load_config, plain
from unia_med.config.schema import RunConfig
from unia_med.engine.checkpoint import load_checkpoint, save_checkpoint
from unia_med.engine.training_images import seen_of
from unia_med.files import write_text
from unia_med.inference.likeness import Likeness
from unia_med.run_files import RunFiles
from unia_med.runs import Run


def halved(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights with floating tensors in half precision; loading casts them back to float32."""
    return {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}


def ship(run: Run, folder: Path, config: RunConfig) -> Path:
    """Write the averaged weights of a run, a config, and the hash of the weights; return the weights' file.

    Args:
        run: A finished run.
        folder: Of the shipped model.
        config: What the model is loaded with: the run's own, or that of the whole recipe.
    """
    state, files = load_checkpoint(run.checkpoint, keys=("ema", "classes")), RunFiles(folder)
    weights = files.weights
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"ema": halved(state["ema"]), "classes": state["classes"], "config": plain(config)}, weights)
    dump_config(config, files.config)
    note_images(Run(folder))
    return weights


def note_images(run: Run, patients: int = 40, seed: int = 1000) -> None:
    """Write what synthetic hearts look like to a shipped model, and the hashes of its files.

    Args:
        run: A shipped model.
        patients: How many hearts, each at end diastole and end systole.
        seed: Other seeds give other hearts; no training draws these stacks.
    """
    predictor, small, large = run.predictor(), *run.config.augment.scale
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), patients, seed)
        images = sorted(path for path in Path(folder).rglob("*_frame*.nii.gz") if "_gt" not in path.name)
        known = Likeness.of([], [seen_of(predictor, image) for image in images])
    (*low, thin), (*high, thick) = known.spacing_mm
    seen = [[mm / large for mm in low], [mm / small for mm in high]]  # training shows hearts smaller and larger
    replace(known, spacing_mm=[[*seen[0], thin], [*seen[1], thick]]).write(run.files.images)
    digests = [
        (hashlib.sha256(path.read_bytes()).hexdigest(), path.name) for path in (run.files.weights, run.files.images)
    ]
    write_text(run.folder / "SHA256SUMS", "".join(f"{digest}  {name}\n" for digest, name in digests))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", nargs="?", help="run folder")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the shipped model")
    parser.add_argument("--config", help="config to ship in place of the run's")
    parser.add_argument("--images", action="store_true", help="write training_images.json alone")
    arguments = parser.parse_args()
    if arguments.images:
        note_images(Run(arguments.folder))
        raise SystemExit
    trained = Run.open(arguments.run)
    recipe = load_config(arguments.config) if arguments.config else trained.config
    written = ship(trained, arguments.folder, recipe)
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
