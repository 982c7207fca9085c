"""How sure is a trained run of one volume? Prints where the doubt is, and writes the two uncertainty maps.

After `unia-med demo --output demo`:

    python examples/uncertainty_on_one_volume.py demo/run demo/data/patient007/patient007_frame01.nii.gz doubt

Entropy is that of the class probabilities, averaged over the views of test-time augmentation, at the temperature that
was fitted on validation masks, divided by its largest value: 0 is certain, 1 a guess. U is the network's own map.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_volume
from unia_med.data.io.suffixes import volume_stem
from unia_med.runs import Run

LOOKED_AT = 0.01  # of all voxels


def main(run: Path, image: Path, output: Path) -> None:
    """Predicts one 3D volume in detail."""
    classes = Run.open(run).config.data.target_classes
    volume = read_volume(image)
    found = Run.open(run).predictor(tta=True).predict_in_detail(volume)
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    for label, name in enumerate(classes, start=1):
        inside = found.labels == label
        expected = found.probabilities[label].sum() * voxel_ml
        doubt = found.entropy[inside].mean() if inside.any() else float("nan")
        print(f"{name}: {inside.sum() * voxel_ml:.1f} ml, expected {expected:.1f} ml, mean entropy inside {doubt:.2f}")
    for name, uncertainty in (("entropy", found.entropy), ("network", found.network)):
        limit = np.quantile(uncertainty, 1 - LOOKED_AT)
        slices = np.argsort((uncertainty > limit).sum((0, 1)))[::-1][:3] + 1
        print(f"{name}: the most uncertain {LOOKED_AT:.0%} lies mostly in slices {', '.join(map(str, slices))}")
        write_like(uncertainty, volume, output / f"{volume_stem(image)}_{name}.nii.gz")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
