"""Draws a PNG of one case: image, ground truth, prediction and uncertainty of three slices, with a legend.

    unia-med phantom --output hearts --patients 4
    python examples/picture_of_predictions.py cardiac-sax hearts picture.png

The second argument is a folder with images `NAME.nii.gz` and masks `NAME_gt.nii.gz`; the first such pair is drawn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.transform import resize

import unia_med

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 200, 100))  # of the classes 1, 2, 3; colour-blind safe
TITLES = ("image", "ground truth", "prediction", "uncertainty")
SIDE_MM, TILE, GAP, HEAD = 150.0, 220, 6, 28


def tile(plane: np.ndarray, spacing_mm: float, order: int) -> np.ndarray:
    """Cut the middle out of a slice (X, Y), and enlarge it by splines of an order, 0 for labels."""
    half = round(SIDE_MM / spacing_mm / 2)
    middle = plane[tuple(slice(max(n // 2 - half, 0), n // 2 + half) for n in plane.shape)]
    return resize(middle.astype(np.float32), (TILE, TILE), order=order, anti_aliasing=False)


def coloured(grey: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Blend a grey tile in [0, 1] with the colours of its labels."""
    table = np.array([(0, 0, 0), *COLOURS]) / 255
    share = 0.45 * (labels > 0)[..., None]
    return (1 - share) * grey[..., None] + share * table[labels.astype(int)]


def main(model: str, data: Path, output: Path) -> None:
    """Predict the first case and draw it."""
    truth = sorted(data.rglob("*_gt.nii.gz"))[0]
    image, labels = unia_med.read_volume(str(truth).replace("_gt.", ".")), unia_med.read_volume(truth).array
    result = unia_med.load(model)(image.array, spacing_mm=image.spacing_mm)
    volumes = ((image.array / np.percentile(image.array, 99.5), 1), (labels, 0), (result.mask, 0))
    page = Image.new("RGB", (4 * (TILE + GAP) - GAP, 2 * HEAD + 3 * (TILE + GAP)), "white")
    draw, font, shown = ImageDraw.Draw(page), ImageFont.load_default(16), np.flatnonzero((labels > 0).any((0, 1)))
    for row, z in enumerate(shown[[1, len(shown) // 2, -2]]):
        grey, true, found = (tile(volume[..., z], image.spacing_mm[0], order) for volume, order in volumes)
        doubt = tile(result.uncertainty[..., z], image.spacing_mm[0], 1)
        tiles = coloured(grey, 0 * true), coloured(grey, true), coloured(grey, found), coloured(doubt, 0 * true)
        for column, one in enumerate(tiles):
            place = column * (TILE + GAP), HEAD + row * (TILE + GAP)
            page.paste(Image.fromarray((one.clip(0, 1) * 255).astype(np.uint8)), place)
            draw.text((place[0], 4), TITLES[column], "black", font)
    for index, name in enumerate((*result.classes, "certain", "a guess")):
        left = 90 * index if index < 3 else 3 * (TILE + GAP) + 110 * (index - 3)
        draw.rectangle(
            (left, page.height - 24, left + 18, page.height - 6), (*COLOURS, "black", "white")[index], "gray"
        )
        draw.text((left + 24, page.height - 26), name, "black", font)
    page.quantize(256, dither=Image.Dither.NONE).save(output, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
