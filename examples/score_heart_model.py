"""Scores a heart model on ACDC: Dice by class, diagnosis, phase and level, and the error of the ejection fraction.

    python examples/score_heart_model.py cardiac-sax ACDC --views plain turned mirrored --output scores.json
    python examples/score_heart_model.py runs/adapted ACDC --split val
    python examples/score_heart_model.py cardiac-sax ACDC --split val --config acdc_images_only.yaml

`--split` takes a part of the run's patients, or of those of `--config`.
`--views` scores turned and mirrored copies too: a model for any orientation finds the same hearts there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import unia_med
from unia_med.build import build_dataset
from unia_med.cardiac.scores import VIEWS, ScoredVolume, heart_scores
from unia_med.config.load import load_config
from unia_med.config.schema import RunConfig
from unia_med.data.splits import split_cases
from unia_med.files import write_json
from unia_med.inference.model import Model


def patients_of(root: Path, config: RunConfig, split: str) -> set[str]:
    """Return the patients of a part of a config's split."""
    data = config.data.model_copy(update={"root": root, "name": "acdc"})
    return {case.patient for case in split_cases(build_dataset(data).cases(), data.split, config.seed)[split]}


def volumes(root: Path, patients: set[str] | None) -> Iterator[tuple[str, str, str, Path]]:
    """Yield patient, group, phase and image of every end-diastolic and end-systolic volume below a folder."""
    for info in sorted(root.rglob("Info.cfg")):
        if patients is not None and info.parent.name not in patients:
            continue
        facts = dict(line.split(": ", 1) for line in info.read_text(encoding="utf-8").splitlines() if ": " in line)
        for phase in ("ED", "ES"):
            yield info.parent.name, facts["Group"], phase, info.parent / f"{info.parent.name}_frame{facts[phase]:>02}"


def scored(model: Model, root: Path, view: str, patients: set[str] | None) -> Iterator[ScoredVolume]:
    """Yield every volume with its prediction, seen in one view."""
    there, back = VIEWS[view]
    for patient, group, phase, path in volumes(root, patients):
        image = unia_med.read_volume(f"{path}.nii.gz")
        result = model(np.ascontiguousarray(there(image.array)), spacing_mm=image.spacing_mm)
        truth = unia_med.read_volume(f"{path}_gt.nii.gz")
        yield ScoredVolume(patient, group, phase, np.ascontiguousarray(back(result.mask)), truth.array)


def main() -> None:
    """Score the views that were asked for; print the scores and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run folder, or the name of a shipped model")
    parser.add_argument("data", type=Path, help="folder of the data set, with patientNNN/ below it")
    parser.add_argument("--views", nargs="+", choices=sorted(VIEWS), default=["plain"], help="turned copies, too")
    parser.add_argument("--split", choices=("train", "val", "test"), help="patients of this part alone")
    parser.add_argument("--config", help="whose split; by default that of the run")
    parser.add_argument(
        "--tta", action=argparse.BooleanOptionalAction, help="average over the scales of the config, or do not"
    )
    parser.add_argument("--output", type=Path, help="write all scores as JSON")
    options = parser.parse_args()
    model = unia_med.load(options.model, tta=options.tta)
    patients = None
    if options.split:
        config = load_config(options.config) if options.config else unia_med.Run.open(options.model).config
        patients = patients_of(options.data, config, options.split)
    found = {view: heart_scores(list(scored(model, options.data, view, patients))) for view in options.views}
    for view, scores in found.items():
        print(view, *(f"{key}: {value}" for key, value in scores.items()), sep="\n  ")
    if options.output is not None:
        write_json(options.output, found)


if __name__ == "__main__":
    main()
