"""Draws a PNG of one case: slices, with ground truth, with the prediction, and the uncertainty map.

After `unia-med demo --output demo`:

    python examples/picture_of_predictions.py demo/data demo/predictions picture.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage.io import imsave
from skimage.segmentation import find_boundaries

from unia_med.data.io.read import read_volume

COLOURS = {1: (0.90, 0.62, 0.00), 2: (0.34, 0.71, 0.91), 3: (0.00, 0.62, 0.45)}  # RV, MYO, LV; colour-blind safe
ZOOM, SLICES, SIDE = 2, 6, 110


def load(path: Path) -> np.ndarray:
    """Read a volume as float32 (X, Y, Z), cropped to the middle."""
    volume = read_volume(path).array.astype(np.float32)
    starts = [max(0, (n - SIDE) // 2) for n in volume.shape[:2]]
    volume = volume[starts[0] : starts[0] + SIDE, starts[1] : starts[1] + SIDE]
    return np.kron(volume, np.ones((ZOOM, ZOOM, 1), np.float32))


def outlined(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw a grey slice (H, W) as RGB with each class outlined in its colour."""
    picture = np.repeat(image[..., None], 3, -1)
    for label, colour in COLOURS.items():
        picture[find_boundaries(labels == label, mode="inner")] = colour
    return picture


def main(data: Path, predictions: Path, output: Path) -> None:
    """Write the picture of the first predicted case."""
    prediction = sorted(predictions.glob("*_seg.nii.gz"))[0]
    case = prediction.name.removesuffix("_seg.nii.gz")
    image = load(next(data.rglob(f"{case}.nii.gz")))
    image = np.clip(image / np.percentile(image, 99), 0, 1)
    truth, found = load(next(data.rglob(f"{case}_gt.nii.gz"))), load(prediction)
    doubt = load(predictions / f"{case}_uncertainty.nii.gz")
    columns = []
    for z in np.linspace(0, image.shape[2] - 1, SLICES).round().astype(int):
        grey = np.repeat(image[..., z, None], 3, -1)
        heat = np.repeat(doubt[..., z, None], 3, -1)
        rows = grey, outlined(image[..., z], truth[..., z]), outlined(image[..., z], found[..., z]), heat
        columns.append(np.concatenate(rows))
    imsave(output, (np.concatenate(columns, 1) * 255).round().astype(np.uint8), check_contrast=False)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:4]))
