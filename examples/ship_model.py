"""Turn a finished run into the folder of a shipped model: half precision, config, hash; cards are written by hand.

Run: python examples/ship_model.py runs/cardiac_sax unia_med/models/cardiac_sax
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch

from unia_med.config.load import dump_config, plain
from unia_med.engine.checkpoint import load_checkpoint, save_checkpoint
from unia_med.files import write_text
from unia_med.run_files import RunFiles
from unia_med.runs import Run


def halved(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights with floating tensors in half precision; loading casts them back to float32."""
    return {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}


def ship(run: Run, folder: Path) -> Path:
    """Write the averaged weights and the config of a run, and the hash of the weights; return the weights' file.

    Args:
        run: A finished run.
        folder: Of the shipped model.
    """
    state, files = load_checkpoint(run.checkpoint, keys=("ema", "classes")), RunFiles(folder)
    weights = files.weights
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"ema": halved(state["ema"]), "classes": state["classes"], "config": plain(run.config)}, weights)
    dump_config(run.config, files.config)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_text(folder / "SHA256SUMS", f"{digest}  {weights.name}\n")
    return weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the shipped model")
    arguments = parser.parse_args()
    written = ship(Run.open(arguments.run), arguments.folder)
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
