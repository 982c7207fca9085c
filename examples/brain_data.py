"""Writes brains: patients made of the MNI152 maps inside the nilearn wheel, with masks and weak labels. No download.

    pip install 'unia-med[test]'
    python examples/brain_data.py brain

Each patient is the template (2 mm, every fourth slice), deformed smoothly, with a contrast, a bias field and noise of
its own; P_gt is the mask (1 CSF, 2 grey matter, 3 white matter). P_scribbles, P_points and P_boxes of the patients that
train are made of their masks, as `unia-med weaken` writes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_filter, map_coordinates

from unia_med.api import configured
from unia_med.build import build_dataset
from unia_med.config.weak_labels import MakeConfig
from unia_med.data.weak_labels.write import weaken_case

CLASSES = ["CSF", "GM", "WM"]
DRAWN = MakeConfig(background_distance_px=2.0, points=5, background_points=8)  # a loop 4 mm round the brain
TRAIN, VAL = [f"brain{i:02d}" for i in range(12)], [f"brain{i:02d}" for i in range(12, 16)]


def smooth(generator: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Return a smooth random field with mean 0 and standard deviation 1."""
    field = gaussian_filter(generator.standard_normal(shape), sigma)
    return (field - field.mean()) / field.std()


def write_patients(folder: Path) -> None:
    """Write images and masks of all patients."""
    from nilearn import datasets  # type: ignore[import-untyped]  # slow to import; it has no types

    load = (datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    t1, grey, white = (image(resolution=2).get_fdata() for image in load)
    inside = datasets.load_mni152_brain_mask(resolution=2).get_fdata() > 0
    maps = (~inside, inside * np.clip(1 - grey - white, 0, 1), inside * grey, inside * white, inside * t1)
    for number, name in enumerate([*TRAIN, *VAL]):
        generator = np.random.default_rng(number)
        shift = np.stack([2.5 * smooth(generator, t1.shape, 10) for _ in range(3)])  # 5 mm
        places = np.indices(t1.shape) + shift
        moved = [map_coordinates(array.astype(float), places, order=1)[:, :, 4:84:4] for array in maps]
        bias = np.exp(0.15 * smooth(generator, moved[4].shape, 25))
        signal = bias * moved[4] ** generator.uniform(0.8, 1.6)
        noise = generator.normal(0, generator.uniform(0.02, 0.06), (2, *signal.shape))
        scanned = 1000 * np.hypot(signal + noise[0], noise[1])  # the magnitude of a complex signal, as in MR
        for array, ending in ((scanned.astype(np.int16), ""), (np.argmax(moved[:4], 0).astype(np.uint8), "_gt")):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2, 8, 1])), folder / f"{name}{ending}.nii.gz")


def sort_by_intensity(values: np.ndarray, seed: int) -> np.ndarray:
    """Return 1, 2, 3 for intensities (N,), darkest to brightest, by k-means."""
    centres, found = kmeans2(values.astype(float), 3, minit="++", rng=seed)
    return 1 + np.argsort(np.argsort(centres))[found]


def write_labels(folder: Path) -> None:
    """Write the weak labels of the patients that train."""
    config = configured("volumes_masks.yaml", {"data.root": str(folder), "data.classes": CLASSES}).data
    dataset = build_dataset(config)
    for case in dataset.cases():
        for kind in ("scribbles", "points", "boxes") if case.name in TRAIN else ():
            weaken_case(dataset, case, config, kind, seed=0, settings=DRAWN, folder=folder)


def write_all(folder: Path) -> None:
    """Write all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_patients(folder)
    write_labels(folder)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
