"""Segments a 4D cine frame by frame with a trained run, and prints volumes, ejection fraction, mass and wall thickness.

After `unia-med demo --output demo`, on a synthetic heart that beats, or on your own file:

    python examples/cine_series.py demo/run results
    python examples/cine_series.py demo/run results patient001_4d.nii.gz

One frame is in memory at a time. A DICOM series goes the same way, with `find_series(folder)` for `open_volume(file)`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from unia_med.cardiac.indices import CardiacIndices, measure
from unia_med.cardiac.phantom.dataset import write_dataset
from unia_med.data.io.frames import FrameWriter, iterate_frames, open_volume
from unia_med.runs import Run


def phantom_cine(output: Path, frames: int = 8) -> Path:
    """Write one synthetic patient with a 4D cine and returns that file."""
    (folder,) = write_dataset(output / "phantom", patients=1, seed=1, cine_frames=frames)
    return folder / f"{folder.name}_4d.nii.gz"


def segment(run: Path, cine: Path, mask: Path) -> CardiacIndices:
    """Write the 4D mask of a cine and returns its cardiac indices."""
    predictor, source = Run.open(run).predictor(), open_volume(cine)
    with FrameWriter(source, np.uint8, mask) as writer:
        for found in predictor.predict_frames(iterate_frames(source)):
            writer.write(found.labels)
    values = {name: number for number, name in enumerate(predictor.classes, start=1)}
    return measure(iterate_frames(open_volume(mask)), values)


def main(run: Path, output: Path, cine: Path | None = None) -> None:
    """Segments, measures and prints."""
    found = segment(run, cine or phantom_cine(output), output / "cine_seg.nii.gz")
    for index, volume in enumerate(found.volumes_ml["LV"]):
        mark = {found.phases.diastole: "ED", found.phases.systole: "ES"}.get(index, "")
        print(f"frame {index + 1:2d}  LV {volume:6.1f} ml  {mark}")
    left = found.ventricles["LV"]
    print(f"LV: EDV {left.edv_ml:.1f} ml, ESV {left.esv_ml:.1f} ml, EF {left.ef_percent:.1f} %")
    if found.mass_g and found.wall:
        thick = f"{found.wall.mean_mm:.1f} mm thick, at most {found.wall.max_mm:.1f} mm"
        print(f"myocardium: {found.mass_g:.1f} g, {thick}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
