"""The DICOM objects that `predict` leaves of a small cine, for the programs of others to look at."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

CLASSES = ("RV", "MYO", "LV", "scar")


@dataclass(frozen=True)
class Written:
    """Images, objects and labels of two frames.

    Attributes:
        images: folder of the source images.
        segs, contours: SEG and RTSTRUCT files by frame.
        report: the SR.
        labels: uint8 (X, Y, Z) by frame.
        affine: 4x4, voxels to RAS mm, by the formula of the standard.
    """

    images: Path
    segs: list[Path]
    contours: list[Path]
    report: Path
    labels: list[np.ndarray]
    affine: np.ndarray


def heart(radius: float) -> np.ndarray:
    """Labels (36, 30, 5): a pool in a wall, another pool, and a scar of one pixel, on three of five slices."""
    x, y = np.meshgrid(np.arange(36), np.arange(30), indexing="ij")
    distance = np.hypot(x - 21, y - 14)
    labels = np.zeros((36, 30, 5), np.uint8)
    for z in range(1, 4):
        labels[2:9, 8 : 16 + z, z] = 1
        labels[distance < radius + 4, z] = 2
        labels[distance < radius, z] = 3
        labels[30, 4 + z, z] = 4
    return labels


@pytest.fixture(scope="session")
def written(dicom_files: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Objects of single images, each slice in a series of its own."""
    root, image = tmp_path_factory.mktemp("clinic"), numbers()
    dicom_files.write_series(root / "p", image, series_per_slice=True)
    return _written(root, dicom_files.true_affine())


@pytest.fixture(scope="session")
def of_enhanced(dicom_files: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Objects of one enhanced multi-frame object."""
    root, image = tmp_path_factory.mktemp("enhanced"), numbers()
    dicom_files.write_enhanced(root / "p", image)
    return _written(root, dicom_files.true_affine())


def numbers() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (36, 30, 5, 2)).astype(np.int16)


def _written(root: Path, affine: np.ndarray) -> Written:
    """Write what `predict` leaves of the images in `root / "p"`."""
    from unia_med.cardiac.results import measure_results
    from unia_med.data.io.dicom.objects import ObjectWriter
    from unia_med.data.io.dicom.rtstruct import RtStructWriter
    from unia_med.data.io.dicom.seg import SegWriter
    from unia_med.data.io.dicom.series import find_series

    series, labels, out = find_series(root / "p"), [heart(8.0), heart(6.0)], root / "out"

    def write(writer: ObjectWriter) -> list[Path]:
        with writer:
            for index, name in enumerate(writer.names):
                writer.write(index, labels[index], out / name)
        return [out / name for name in writer.names]

    segs, contours = write(SegWriter(series, CLASSES)), write(RtStructWriter(series, CLASSES))
    mask = nibabel.Nifti1Image(np.stack(labels, -1), series.affine, series.header)
    mask.set_data_dtype(np.uint8)
    nibabel.save(mask, out / "p_seg.nii.gz")
    list(measure_results(out, CLASSES))
    return Written(root / "p", segs, contours, out / "p_sr.dcm", labels, affine)


def needs(program: str, package: str) -> str:
    """The path of a program; without it the test is left out, with what to install.

    Args:
        program: its name.
        package: Debian's package.
    """
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        pytest.skip(f"no {program}: apt-get install {package}")
    return found


@pytest.fixture(scope="session")
def program() -> object:
    """`needs`, for tests."""
    return needs
