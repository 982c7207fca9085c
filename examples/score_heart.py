"""How well a run finds the heart as a whole: activation maps with tags, where its method has any; prediction without.

    python examples/score_heart.py runs/acdc_tags ACDC

Heart is every class of the masks together; whole validation volumes at native resolution, except for the peak of the
activation maps, which is looked for on the network's grid.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from unia_med.build import build_dataset
from unia_med.data.grid.transforms import load_label_slices, place_image
from unia_med.data.slices.dataset import load_tags
from unia_med.data.splits import split_cases
from unia_med.metrics.overlap import dice
from unia_med.runs import Run


def main(run: Path, root: str) -> None:
    """Print the share of peaks inside the heart, and the mean Dice of maps and prediction."""
    config, predictor = Run.open(run).config, Run.open(run).predictor()
    data = config.data.model_copy(update={"root": Path(root)})
    dataset = build_dataset(data)
    cases = split_cases(dataset.cases(), data.split, config.seed)["val"]
    tags = load_tags(dataset, cases, data)
    heart_values = {0: 0, **dict.fromkeys(dataset.class_values, 1)}
    method, inside, rows = predictor.method.eval(), [], []
    for case in cases:
        found = dataset.evaluation_case(case)
        slices, known = place_image(found.volume, data.grid).slices, torch.from_numpy(tags[case.name])
        with torch.no_grad():  # at step 0 a method answers with its maps
            heart = 1 - method.pseudo_probabilities(slices, known, 0)[:, 0]
        assert case.mask is not None  # evaluation_case has read it
        truth = torch.from_numpy(load_label_slices(case.mask, data.grid, heart_values) == 1).flatten(1)
        peaks = truth.gather(1, heart.flatten(1).argmax(1, keepdim=True))[:, 0]
        inside += peaks[truth.any(1)].tolist()
        real = found.labels > 0
        row = {"prediction": dice(predictor.predict_volume(found.volume).labels > 0, real)}
        maps = predictor.label_maps(found.volume, tags[case.name]).get("CAM")
        if maps is not None:
            row["maps"] = dice((maps > 0) & (maps < 255), real)
        rows.append(row)
    means = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    text = f"peak in heart {np.mean(inside):.3f}, heart Dice of " if "maps" in means else "heart Dice of "
    print(text + ", of ".join(f"{name} {means[name]:.3f}" for name in sorted(means)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
