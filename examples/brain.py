"""Trains on brain tissue (CSF, grey and white matter) from every kind of label, and prints a table of scores.

    python examples/brain.py brain --only scribbles --seeds 0 1

The patients are those of `brain_data.py`: 12 train, 4 others are scored. The template `volumes_masks.yaml` trains for a
few steps, on masks or on what `fill: intensity` makes of weak labels. k-means sorts the intensities of a scored image
into three, inside the true mask of the brain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np
from brain_data import CLASSES, TRAIN, VAL, sort_by_intensity, write_all

import unia_med

ROWS = ("k-means", "masks", "scribbles", "boxes", "points")
# A tissue lies between the others: its box holds all of them, and a walk from its points is lost. Intensities say more.
SEPARATE = {"source": "files", "fill": "intensity"}
DARKEST_FIRST = {"complete": {"brightness": CLASSES}}  # in T1; k-means uses that, too
LABELS = {
    "scribbles": {"kind": "scribbles", **SEPARATE},
    "points": {"kind": "points", **SEPARATE},
    "boxes": {"kind": "boxes", **SEPARATE, **DARKEST_FIRST},
}


def settings(data: Path, seed: int) -> dict[str, object]:
    """Return what the lines marked with <- in a template are for these data, and a small budget."""
    return {
        "seed": seed,
        "data.root": str(data),
        "data.classes": CLASSES,
        "data.split": {"kind": "lists", "train": TRAIN, "val": VAL},
        "data.grid": {"spacing_mm": 2.0, "size": [96, 112], "percentiles": [1, 99]},
        "training.iterations": 400,
        "training.batch_size": 8,
        "training.ema": 0.95,
    }


def cluster(data: Path, masks: Path, seed: int) -> None:
    """Write what k-means makes of the scored images, darkest to brightest."""
    masks.mkdir(parents=True, exist_ok=True)
    for name in VAL:
        image, truth = (unia_med.read_volume(data / f"{name}{ending}.nii.gz") for ending in ("", "_gt"))
        inside = truth.array > 0
        labels = inside.astype(np.uint8)
        labels[inside] = sort_by_intensity(image.array[inside], seed)
        nibabel.save(nibabel.Nifti1Image(labels, image.affine), masks / f"{name}_seg.nii.gz")


def score(row: str, folder: Path, seed: int) -> list[float]:
    """Train, predict and return the mean Dice of each class and of all."""
    data, run = folder / "data", folder / f"{row}_seed{seed}"
    if row == "k-means":
        cluster(data, run / "masks", seed)
    elif not (run / "masks" / "summary.csv").is_file():
        chosen = {"data.labels": [LABELS[row]]} if row in LABELS else {}
        trained = unia_med.train("volumes_masks.yaml", run, set=settings(data, seed) | chosen, resume=True)
        list(unia_med.predict(trained, data, run / "masks", split="val"))
    dice = unia_med.evaluate(run / "masks", data, classes=CLASSES)
    return [dice["mean"]["dice"][name] for name in (*CLASSES, "mean")]


def main() -> None:
    """Write the data, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of data and runs; what is finished there is kept")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    if not (args.folder / "data" / f"{TRAIN[-1]}_boxes.nii.gz").is_file():
        write_all(args.folder / "data")
    print(f"| learns from | {' | '.join(CLASSES)} | mean | seeds |\n|{' --- |' * (len(CLASSES) + 3)}")
    for row in args.only:
        scores = np.array([score(row, args.folder, seed) for seed in args.seeds])
        means, seeds = ([f"{value:.3f}" for value in values] for values in (scores.mean(0), scores[:, -1]))
        print(f"| {row} | {' | '.join(means)} | {', '.join(seeds)} |", flush=True)


if __name__ == "__main__":
    main()
