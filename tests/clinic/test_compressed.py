"""Pixels as a PACS stores them, compressed by DCMTK, are decoded to the very same numbers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from unia_med.data.io.dicom.series import find_series

WAYS = {
    "JPEG lossless, SV1": ("dcmcjpeg", "+e1"),
    "JPEG lossless, predictor 6": ("dcmcjpeg", "+el", "+sv", "6"),
    "JPEG-LS": ("dcmcjpls", "+el"),
    "RLE": ("dcmcrle",),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_lossless(
    dicom_files: ModuleType, program: Callable[[str, str], str], tmp_path: Path, way: str, dtype: type
) -> None:
    encoder, *options = WAYS[way]
    encode = program(encoder, "dcmtk")
    array = np.random.default_rng(0).integers(-900 if dtype is np.int16 else 0, 4000, (33, 20, 3)).astype(dtype)
    dicom_files.write_series(tmp_path / "plain", array)
    (tmp_path / "packed").mkdir()
    for path in (tmp_path / "plain").iterdir():
        subprocess.run([encode, *options, path, tmp_path / "packed" / path.name], check=True, timeout=60)
    series = find_series(tmp_path / "packed")
    assert series.stack.grid[0][0].transfer_syntax.startswith(("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5"))
    np.testing.assert_array_equal(series.frame(0).array, array)
