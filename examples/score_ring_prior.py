"""What the anatomical prior `ring` reaches alone on validation patients: no network, with and without slice tags.

    python examples/score_ring_prior.py acdc_cpu.yaml ACDC

The direction of the right ventricle is voted over the training images; no mask is read before scoring.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from unia_med.build import build_dataset
from unia_med.cardiac.ring.segmenter import RingSegmenter
from unia_med.cardiac.ring.settings import RingSettings
from unia_med.config.load import load_config
from unia_med.data.grid.transforms import Placed, place_image
from unia_med.data.sample import CaseFiles
from unia_med.data.slices.dataset import load_tags
from unia_med.data.splits import split_cases
from unia_med.inference.reassemble import plane_map
from unia_med.metrics.overlap import dice


def main(name: str, root: str) -> None:
    """Print mean Dice of whole volumes at native resolution."""
    config = load_config(name, [f"data.root={root}"])
    dataset = build_dataset(config.data)
    parts = split_cases(dataset.cases(), config.data.split, config.seed)

    def on_grid(case: CaseFiles) -> Placed:
        return place_image(dataset.evaluation_case(case).volume, config.data.grid)

    def planes(image: Placed) -> np.ndarray:
        return image.slices[:, 0].numpy()

    spacing = config.data.grid.spacing_mm
    assert spacing is not None, "the ring needs a grid in mm"
    ring = RingSegmenter(RingSettings(spacing_mm=spacing))
    ring.fit(planes(on_grid(case)) for case in parts["train"])
    tags = load_tags(dataset, parts["val"], config.data)
    images = {case.name: on_grid(case) for case in parts["val"]}
    for known in (True, False):
        rows = []
        for case in parts["val"]:
            other = [planes(images[c.name]) for c in parts["val"] if c.patient == case.patient and c is not case]
            found = ring.scores(planes(images[case.name]), tags[case.name] if known else None, partner=other[0])
            probabilities = plane_map(images[case.name].placement)(torch.from_numpy(found))
            native = probabilities.argmax(1).permute(1, 2, 0).numpy()
            truth = dataset.labels(case)
            rows.append([*(dice(native == k, truth == k) for k in (1, 2, 3)), dice(native > 0, truth > 0)])
        mean = np.nanmean(np.array(rows, dtype=float), 0)
        scores = ", ".join(f"{n} {v:.3f}" for n, v in zip((*config.data.classes, "heart"), mean, strict=True))
        print(f"ring alone, {'tags at test' if known else 'no tags'}: {scores}, mean {mean[:3].mean():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
