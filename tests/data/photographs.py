"""Tiny folders in the layouts of VOC and COCO, made in a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (30, 44)
"""Height and width of the images."""

VOC_PARTS = {"train": ["2007_000001", "2007_000002"], "val": ["2007_000003"]}
BOXES = {
    "2007_000001": [("cat", 8, (4, 6, 20, 24)), ("dog", 12, (2, 30, 12, 40))],
    "2007_000002": [("dog", 12, (10, 10, 28, 30))],
    "2007_000003": [("cat", 8, (5, 20, 25, 40))],
}
"""Objects: name, value in masks, (top, left, bottom, right)."""


def mask_of(name: str) -> np.ndarray:
    """Return the mask (H, W) of an image: its boxes with a border of 255, one pixel wide, round each."""
    mask = np.zeros(SIZE, np.uint8)
    for _, value, (top, left, bottom, right) in BOXES[name]:
        mask[top - 1 : bottom + 1, left - 1 : right + 1] = 255
        mask[top:bottom, left:right] = value
    return mask


def write_photograph(path: Path, mask: np.ndarray, seed: int = 0) -> None:
    """Write a JPEG whose colours tell the classes."""
    colours = np.random.default_rng(5).integers(30, 220, (256, 3))
    noise = np.random.default_rng(seed).normal(0, 3, (*mask.shape, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((colours[mask] + noise).clip(0, 255).astype(np.uint8)).save(path, quality=95)


def write_palette_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask as VOC does, with indices into a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(np.random.default_rng(1).integers(0, 255, 768).tolist())
    image.save(path)


def make_voc(root: Path) -> Path:
    """Return `root/VOCdevkit/VOC2012` with lists, images, masks and XML annotations."""
    year = root / "VOCdevkit" / "VOC2012"
    for position, (name, boxes) in enumerate(BOXES.items()):
        write_photograph(year / "JPEGImages" / f"{name}.jpg", mask_of(name), position)
        write_palette_mask(year / "SegmentationClass" / f"{name}.png", mask_of(name))
        objects = "".join(f"<object><name>{box[0]}</name><difficult>1</difficult></object>" for box in boxes)
        (year / "Annotations").mkdir(exist_ok=True)
        (year / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    (year / "ImageSets" / "Segmentation").mkdir(parents=True)
    for part, names in VOC_PARTS.items():
        (year / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return year


COCO_CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]


def coco_annotations() -> list[dict]:
    """Return a polygon, run lengths as numbers, a crowd, and a small object on a large one."""
    height, width = SIZE
    column_major = np.zeros((width, height), np.uint8)
    column_major[30:34, 5:10] = 1  # rows 5 to 9, columns 30 to 33
    return [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 18,
            "area": 400,
            "iscrowd": 0,
            "segmentation": [[4, 4, 24, 4, 24, 24, 4, 24]],
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 90,
            "area": 16,
            "iscrowd": 0,
            "segmentation": [[10, 10, 14, 10, 14, 14, 10, 14]],
        },
        {
            "id": 3,
            "image_id": 7,
            "category_id": 17,
            "area": 20,
            "iscrowd": 1,
            "segmentation": {"counts": run_lengths(column_major.ravel()), "size": [height, width]},
        },
    ]


def run_lengths(flat: np.ndarray) -> list[int]:
    """Return lengths of runs of 0, 1, 0, ... as COCO writes them."""
    counts, value = [0], 0
    for pixel in flat.tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def make_coco(root: Path, annotations: list[dict] | None = None) -> Path:
    """Return `root`, with two training images (ids 7 and 9, the second without objects) and one for validation."""
    images = {
        "train2014": [(7, "COCO_train2014_000000000007"), (9, "COCO_train2014_000000000009")],
        "val2014": [(3, "COCO_val2014_000000000003")],
    }
    validation = [{**found, "image_id": 3} for found in coco_annotations()[:2]]
    contents = {"train2014": coco_annotations() if annotations is None else annotations, "val2014": validation}
    (root / "annotations").mkdir(parents=True)
    for folder, entries in images.items():
        for number, name in entries:
            write_photograph(root / folder / f"{name}.jpg", np.zeros(SIZE, np.uint8), number)
        listed = [{"id": n, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]} for n, name in entries]
        content = {"images": listed, "annotations": contents[folder], "categories": COCO_CATEGORIES}
        (root / "annotations" / f"instances_{folder}.json").write_text(json.dumps(content))
    return root
