"""What is wrong with validation data is told before a run starts to train, not at its first validation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.config.load import parse_config
from unia_med.engine.session import train
from unia_med.errors import UserError


def test_a_validation_mask_with_a_foreign_class_stops_the_run_at_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    rows = ["image,split,slice,A"]
    for number, part in enumerate(("train", "train", "val", "val")):
        image = np.random.default_rng(number).integers(0, 100, (20, 20, 2)).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.eye(4)), root / f"{number}.nii.gz")
        nib.save(nib.Nifti1Image(np.full_like(image, 6), np.eye(4)), root / f"{number}_gt.nii.gz")
        rows += [f"{number}.nii.gz,{part},{z},{z}" for z in range(2)]
    (root / "t.csv").write_text("\n".join(rows))
    data = {"name": "volumes", "root": str(root), "classes": ["A"], "grid": {"spacing_mm": None, "size": [32, 32]}}
    data |= {"tags": {"source": "csv", "path": "t.csv"}, "split": {"kind": "given"}, "volumes": {"table": "t.csv"}}
    network = {"backbone": "lite0", "weights": "none"}
    config = parse_config({"data": data, "network": network, "method": {"name": "partial"}})
    with pytest.raises(UserError) as caught:
        train(config, tmp_path / "run", device="cpu")
    text = str(caught.value)
    # Masks of training cases are not looked at: their tags come from the table.
    assert "2_gt.nii.gz: found label values 6" in text and "3_gt.nii.gz: found label values 6" in text
    assert "0_gt.nii.gz" not in text and not (tmp_path / "run/checkpoints").exists()
