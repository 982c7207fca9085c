"""Fixtures shared by all tests: a tiny synthetic data set, and the real one where it is at hand."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from unia_med.cli.main import share_cores

share_cores()  # before a test module imports torch: tests run beside other jobs too
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores; for the commands they start too

TINY_PATIENTS = ("patient001", "patient002", "patient013")
TINY_SHAPE = (40, 36, 4)
TINY_AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])


SHARED_FIXTURE_SECONDS = 1800
"""Time limit of a test whose fixtures are shared: the first one pays for a whole training, also on a slow machine."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let workers take files in their order; by number of tests, the last files would be those of the longest tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of fixtures shared by a module or the session a generous time limit, unless they name one."""
    for item in items:
        definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
        shared = any(chain[-1].scope in ("module", "session") for chain in definitions.values())
        if shared and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SHARED_FIXTURE_SECONDS))


@pytest.fixture
def tiny_acdc(tmp_path: Path) -> Path:
    """Root of an ACDC-layout data set: 3 patients, 2 frames each, 40x36x4 voxels of 1.5x1.5x10 mm.

    Slices 0 and 1 hold RV, MYO and LV, slice 2 holds MYO and LV, slice 3 nothing. By the default split, patients 1 and
    2 train and patient 13 validates.
    """
    root = tmp_path / "tiny_acdc"
    for number, patient in enumerate(TINY_PATIENTS):
        folder = root / "training" / patient
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 7\nGroup: NOR\n", encoding="utf-8")
        for frame, size in ((1, 1.0), (7, 0.8)):
            mask = tiny_heart(size, shift=number)
            image = tiny_image(mask, seed=10 * number + frame)
            stem = f"{patient}_frame{frame:02d}"
            write_nifti(folder / f"{stem}.nii.gz", image)
            write_nifti(folder / f"{stem}_gt.nii.gz", mask)
    return root


@pytest.fixture(scope="session")
def real_acdc() -> Path:
    """Root of the real ACDC, from `UNIA_MED_ACDC` or beside the repository; without it the test is left out."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "acdc"
    root = Path(os.environ.get("UNIA_MED_ACDC") or beside)
    if not root.is_dir():
        pytest.skip("no ACDC folder: set UNIA_MED_ACDC")
    return root


@pytest.fixture(scope="session")
def dicom_files() -> ModuleType:
    """The module `tests/data/dicom_files.py`, which writes synthetic series; without pydicom the test is left out."""
    pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    return _test_data("dicom_files")


@pytest.fixture(scope="session")
def photographs() -> ModuleType:
    """The module `tests/data/photographs.py`, which makes tiny folders in the layouts of VOC and COCO."""
    return _test_data("photographs")


@pytest.fixture(scope="session")
def monai_chain() -> ModuleType:
    """The module `tests/data/monai_chain.py`, MONAI's own transforms from file to grid and back."""
    return _test_data("monai_chain")


@pytest.fixture(scope="session")
def voc_sample() -> Path:
    """Three images of the real VOC 2012, from `UNIA_MED_VOC` or beside the repository; else the test is left out."""
    return _sample("UNIA_MED_VOC", "voc_sample/VOC2012")


@pytest.fixture(scope="session")
def coco_sample() -> Path:
    """Three images of the real COCO, from `UNIA_MED_COCO` or beside the repository; else the test is left out."""
    return _sample("UNIA_MED_COCO", "coco_sample")


def _sample(variable: str, folder: str) -> Path:
    root = Path(os.environ.get(variable) or Path(__file__).resolve().parents[2] / "shared" / folder)
    if not root.is_dir():
        pytest.skip(f"no such folder: set {variable}")
    return root


def tiny_heart(size: float = 1.0, shift: int = 0) -> np.ndarray:
    """Return an int16 mask (40, 36, 4): a ring (2) round a cavity (3), with a second cavity (1) at its side."""
    x, y = np.meshgrid(np.arange(TINY_SHAPE[0]), np.arange(TINY_SHAPE[1]), indexing="ij")
    radius = np.hypot(x - 19 - shift, y - 20)
    mask = np.zeros(TINY_SHAPE, np.int16)
    right = np.hypot(x - 10 - shift, y - 20) < 7 * size
    for z in range(3):
        if z < 2:
            mask[right, z] = 1
        mask[radius < 9 * size, z] = 2
        mask[radius < 5.5 * size, z] = 3
    return mask


def tiny_image(mask: np.ndarray, seed: int) -> np.ndarray:
    """Return an int16 image of a mask: bright blood, dark muscle, grey surroundings, a little noise."""
    means = np.array([110.0, 220.0, 60.0, 240.0])
    noise = np.random.default_rng(seed).normal(0, 8, mask.shape)
    return (means[mask] + noise).clip(0).astype(np.int16)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = TINY_AFFINE) -> Path:
    """Write a NIfTI file with sform and qform set, and returns its path."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    return path


def _test_data(name: str) -> ModuleType:
    """Return the module `tests/data/NAME.py`; tests are no package, so that it is loaded by its path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("data") / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
