"""A run, the images it is tried on, and the bundle made of it: once for all tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

IMAGES = ("plain", "oblique", "sheared", "single", "cine", "flipped")


@pytest.fixture(scope="session")
def untrained() -> ModuleType:
    """The module `untrained_run`, whose folder is no package."""
    spec = importlib.util.spec_from_file_location("untrained_run", Path(__file__).parent / "untrained_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, untrained: ModuleType) -> Path:
    """A run folder."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    untrained.write_run(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """The run as a bundle, at a path with a space, without ONNX."""
    from unia_med.bundle.export import export_bundle

    folder = tmp_path_factory.mktemp("some bundles") / "heart_segmentation"
    (folder.parent / ".heart_segmentation.abc.part" / "models").mkdir(parents=True)  # of an export that was killed
    export_bundle(run, folder, onnx=False)
    assert [path.name for path in folder.parent.iterdir()] == ["heart_segmentation"]
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a volume of each kind of geometry, and a mask that is no image."""
    folder = tmp_path_factory.mktemp("images")
    turn = np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1.0]])
    scale = np.diag([1.5, 1.7, 9.0, 1.0])
    sheared = scale.copy()
    sheared[0, 2] = 4.0  # slices pushed sideways, which no grid of MONAI keeps
    _write(folder / "plain.nii.gz", (90, 70, 5), scale, 1)
    (folder / "sub").mkdir()
    _write(folder / "sub" / "oblique.nii.gz", (60, 81, 4), turn @ scale, 2)
    _write(folder / "sheared.nii", (64, 50, 4), sheared, 3)
    _write(folder / "single.nii.gz", (70, 71, 1), scale, 4)
    _write(folder / "cine.nii.gz", (50, 48, 3, 4), scale, 5)
    _write(folder / "flipped.nii.gz", (88, 120, 3), scale @ np.diag([-1, 1, -1, 1.0]), 6)
    _write(folder / "plain_gt.nii.gz", (90, 70, 5), scale, 7, labels=True)
    return folder


def _write(path: Path, shape: tuple[int, ...], affine: np.ndarray, seed: int, labels: bool = False) -> None:
    """Smooth random intensities, int16 with a header a scanner would write; or labels 0 to 3."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, (3, 3, *([0.7] * (len(shape) - 2))))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    array = (smooth * 4).clip(0, 3).astype(np.uint8) if labels else (smooth * 900).astype(np.int16)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "msec")
    if len(shape) == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], 33.0))
    image.set_sform(affine, code=1)
    image.set_qform(affine if "sheared" not in path.name else None, code=1)
    nib.save(image, path)
