"""The parts of `examples/cluster.md` that need an engine: run on one machine with the real Dask."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "examples" / "cluster.md"


@pytest.mark.slow
def test_dask_maps_parts_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    distributed = pytest.importorskip("distributed", reason="pip install distributed")
    (tmp_path / "scans").mkdir()
    for number in range(3):
        array = np.random.default_rng(number).normal(100, 20, (24, 20, 2)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 8.0, 1.0])), tmp_path / f"scans/{number}.nii.gz")
    (code,) = re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.S)
    for shown, real in (("runs/acdc", "cardiac-sax"), ("scans", f"{tmp_path}/scans"), ("masks", f"{tmp_path}/masks")):
        code = code.replace(f'"{shown}"', repr(real))
    monkeypatch.chdir(tmp_path)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        exec(code.replace("scheduler:8786", cluster.scheduler_address), {"__name__": "cluster_page"})
    assert "3 images segmented" in capsys.readouterr().out
    assert len(list((tmp_path / "masks").glob("*_seg.nii.gz"))) == 3
    assert len((tmp_path / "masks/summary.csv").read_text().splitlines()) == 4
