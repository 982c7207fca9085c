"""Memory that 512 x 512 x 400 voxels take at most, whatever their file: for a model, and for its bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

LIMITS = {"cardiac-sax": 1_600_000_000, "bundle": 1_900_000_000}
"""Bytes; measured: 1.41 to 1.49 (1.22 with one view in place of four) and 1.78 GB."""
SHAPE = (512, 512, 400)

PEAK = """
import resource, sys
from unia_med.cli.main import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""


def peak(*arguments: str) -> int:
    """Bytes in memory at most while a command runs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PEAK, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from unia_med.cli.main import main

    folder = tmp_path_factory.mktemp("bundles") / "heart_segmentation"
    assert main(["export", "--model", "cardiac-sax", "--output", str(folder), "--no-onnx"]) == 0
    return folder


def hearts(folder: Path, kind: type) -> tuple[np.ndarray, tuple[float, float]]:
    """A synthetic heart in the middle of slices, each repeated, so that classes are found all along the stack."""
    from unia_med.cli.main import main

    assert main(["phantom", "--output", str(folder), "--patients", "1"]) == 0
    image = nib.load(next(folder.rglob("*_frame01.nii.gz")))
    heart = np.asarray(image.dataobj).astype(kind)
    array = np.zeros(SHAPE, kind)
    corner = [(whole - part) // 2 for whole, part in zip(SHAPE[:2], heart.shape[:2], strict=True)]
    place = tuple(slice(first, first + part) for first, part in zip(corner, heart.shape[:2], strict=True))
    array[place] = heart[..., np.arange(SHAPE[2]) * heart.shape[2] // SHAPE[2]]
    return array, image.header.get_zooms()[:2]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cardiac-sax", "bundle"])
@pytest.mark.parametrize(("kind", "name"), [(np.int16, "x.nii"), (np.float32, "x.nii"), (np.int16, "x.nii.gz")])
def test_a_large_volume(model: str, kind: type, name: str, tmp_path: Path, bundle: Path) -> None:
    array, spacing = hearts(tmp_path / "phantom", kind)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0, 1.0])), tmp_path / name)
    del array
    source = str(bundle) if model == "bundle" else model
    call = ["predict", "--model", source, "--input", str(tmp_path / name), "--output", str(tmp_path / "out")]
    assert peak(*call, "--uncertainty", "--device", "cpu") < LIMITS[model]
    doubt = nib.load(tmp_path / "out" / "x_uncertainty.nii.gz")
    assert doubt.shape == SHAPE and len(np.unique(nib.load(tmp_path / "out" / "x_seg.nii.gz").dataobj)) > 1
