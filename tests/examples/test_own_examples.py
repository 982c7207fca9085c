"""The examples for own data and own methods run as their first lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.registry import with_installed

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(script: str, *arguments: Path) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_own_data_goes_from_a_table_to_masks(tmp_path: Path) -> None:
    shown = run("own_data.py", tmp_path)
    assert len((tmp_path / "scans/tags.csv").read_text().splitlines()) == 6  # a head and five lines
    assert "5 cases, 0 faults" in shown and shown.count("written to scan") == 5
    for scan in sorted((tmp_path / "scans").glob("*.nii.gz")):
        image = nib.load(scan)
        mask = nib.load(tmp_path / "masks" / scan.name.replace(".nii.gz", "_seg.nii.gz"))
        assert mask.shape == image.shape and np.array_equal(mask.affine, image.affine)
        assert set(np.unique(mask.dataobj)) <= {0, 1, 2}


@pytest.mark.slow
def test_a_method_from_outside_the_package_trains(tmp_path: Path) -> None:
    from unia_med.cardiac.phantom.dataset import write_dataset

    write_dataset(tmp_path / "hearts", patients=4)
    shown = run("custom_method.py", tmp_path / "hearts", tmp_path / "run")
    assert "validation at step 10" in shown and (tmp_path / "run/checkpoints/best.pt").is_file()
    assert "use: method.py:TopPixels" in (tmp_path / "run/config.yaml").read_text()


def test_the_custom_method_is_short() -> None:
    lines = (EXAMPLES / "custom_method.py").read_text().split("class TopPixels")[1].splitlines()
    assert len([line for line in lines if line.strip()]) <= 40


def test_installed_packages_offer_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[unia_med.methods]\ntheirs = plugin.methods:Theirs\nunia = plugin:Fake\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    table = with_installed({"unia": "unia_med.methods.unia:UniA"}, "unia_med.methods")
    assert table == {"theirs": "plugin.methods:Theirs", "unia": "unia_med.methods.unia:UniA"}
