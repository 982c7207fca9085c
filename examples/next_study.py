"""Are the cases that `unia-med next` chooses worth more than cases at random? On ACDC, from five scribbled patients.

    python examples/next_study.py ACDC runs/study 0 1

Per seed a network learns from the scribbles; then, twice, five cases are corrected in three slices each, by their
masks, and it learns on. Prints the mean Dice of the validation patients after 0, 5 and 10 corrections. The
control `none` learns on for as many steps without any correction.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

import unia_med
from unia_med.data.io.read import read_volume
from unia_med.selection.annotate import Choice, Pool, find_pool
from unia_med.selection.write import write_choice

ITERATIONS, CASES, SLICES = {"first": 500, "round": 150}, 5, 3
SCRIBBLES = {"kind": "scribbles", "source": "files", "patients": 5, "fill": "walker"}
SPLIT = {"kind": "modulo", "val": [13, 14, 15], "test": [0, *range(7, 13), *range(16, 20)]}
GRID = {"spacing_mm": 2.5, "size": [80, 80]}
CONFIG = {
    "data": {"name": "acdc", "split": SPLIT, "tags": {"source": "none"}, "labels": [SCRIBBLES], "grid": GRID},
    "network": {"backbone": "lite0"},
    "method": {"name": "partial"},
    "training": {"batch_size": 8, "learning_rate": 0.001, "labelled_share": 0.8},
    "inference": {"postprocess": {"largest_component": True}},
}


def at_random(pool: Pool, generator: np.random.Generator) -> list[Choice]:
    """Return cases of different patients and slices of them, all drawn."""
    chosen: dict[str, Choice] = {}
    for index in generator.permutation(len(pool.cases)):
        case = pool.cases[index]
        if case.patient not in chosen and len(chosen) < CASES:
            image = read_volume(case.image)
            slices = sorted(generator.permutation(image.shape[2])[:SLICES].tolist())
            labels = np.where(np.isin(np.arange(image.shape[2]), slices), 0, 255) * np.ones(image.shape)
            chosen[case.patient] = Choice(case, slices, math.nan, math.inf, labels.astype(np.uint8), image)
    return list(chosen.values())


def annotate(way: str, run: unia_med.Run, data: str, folder: Path, generator: np.random.Generator) -> None:
    """Choose, and do what a person does in a viewer: the truth in the slices that were chosen."""
    if way == "next":
        unia_med.choose_next(run, data, folder, count=CASES, slices=SLICES)
    else:
        pool = find_pool(run.config, Path(data), run.labelled)
        write_choice(at_random(pool, generator), pool, run.config, str(run.folder.resolve()), folder)
    with (folder / "next.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = folder / row["labels"]
            shown, truth = read_volume(path), read_volume(Path(row["image"].replace(".nii", "_gt.nii")))
            values = np.where(shown.array == 255, 255, truth.array).astype(np.uint8)
            nib.save(nib.Nifti1Image(values, shown.affine), path)


def main(data: str, output: Path, seeds: list[int]) -> int:
    """Train both ways and print a line per seed, way and number of corrections."""
    for seed in seeds:
        settings = {"seed": seed, "data.root": data, "training.iterations": ITERATIONS["first"]}
        first = unia_med.train(CONFIG, output / f"{seed}_first", set=settings, resume=True)
        print(f"seed {seed}, scribbles alone: {first.metrics[-1]['val_dice']:.4f}", flush=True)
        for way in ("next", "random", "none"):
            run = first
            for number in (1, 2):
                more: dict[str, object] = {"training.iterations": ITERATIONS["round"]}
                config: dict | Path = CONFIG
                if way == "none":
                    more |= {"seed": seed, "data.root": data, "training.start_from": str(run.folder)}
                else:
                    folder = output / f"{seed}_{way}_{number}_labels"
                    config = folder / "next.yaml"
                    if not config.is_file():
                        annotate(way, run, data, folder, np.random.default_rng((seed, number)))
                run = unia_med.train(config, output / f"{seed}_{way}_{number}", set=more, resume=True)
                print(f"seed {seed}, {way}, {CASES * number}: {run.metrics[-1]['val_dice']:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), [int(seed) for seed in sys.argv[3:]]))
