"""Makes a trained run and masks from five images and a five-line table, in half a minute on a CPU.

    python examples/own_data.py FOLDER

The images are slices of synthetic hearts, written as a hospital might export them: a plain folder of NIfTI files and a
spreadsheet that says what each shows. No mask is written. So little data teaches a network nothing; the steps count.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np

import unia_med
from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.render import frame_image, frame_labels, surroundings

CLASSES = ("RV", "HEART")  # what a reader ticked: the right ventricle, and anything of the left one


def write_images(folder: Path) -> None:
    """Write five images of one slice, and tags.csv with a line for each."""
    lines = [f"image,{','.join(CLASSES)}"]
    for index, depth in enumerate((0.3, 0.5, 0.7, 0.9, 1.0)):  # from near the base of the heart to below its apex
        patient = patient_of(seed=0, index=index)
        volume, labels = frame_image(patient, 1, surroundings(patient)), frame_labels(patient, 1)
        z = round(depth * (volume.shape[2] - 1))
        affine = np.diag([*patient.scan.spacing_mm, 1.0])
        nibabel.save(nibabel.Nifti1Image(volume[:, :, z : z + 1], affine), folder / f"scan {index}.nii.gz")
        shown = (labels[:, :, z] == 1).any(), (labels[:, :, z] > 1).any()
        lines.append(f"scan {index},{','.join(str(int(there)) for there in shown)}")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print((folder / "tags.csv").read_text())


def main(folder: Path) -> None:
    """Write data, inspect them, train and predict."""
    data, masks = folder / "scans", folder / "masks"
    data.mkdir(parents=True)
    write_images(data)
    settings = {
        "data.root": str(data),
        "data.classes": list(CLASSES),
        "data.split.fractions": [1.0, 0.0, 0.0],
        "data.grid": {"spacing_mm": 3.0, "size": [64, 64]},
        "training.batch_size": 4,
        "training.iterations": 6,  # for real data leave this as it is
    }
    found = unia_med.inspect("volumes_tags.yaml", set=settings)
    print(found)
    found.write(folder / "inspection.html")
    run = unia_med.train("volumes_tags.yaml", folder / "run", set=settings)
    for case in unia_med.predict(run, data, masks, uncertainty=True):
        print(case.name, case.error or f"written to {case.files['labels'].name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
