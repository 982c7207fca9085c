"""The brains of the example: made without a network, and their weak labels say what their masks say."""

import importlib.util
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


@pytest.mark.slow
def test_brains_are_made_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nilearn")
    path = Path(__file__).parents[2] / "examples" / "brain_data.py"
    spec = importlib.util.spec_from_file_location("brain_data", path)
    assert spec and spec.loader
    brains = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(brains)

    def refuse(*_: object) -> None:
        raise AssertionError("the example looks for a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(brains, "TRAIN", ["a"])
    monkeypatch.setattr(brains, "VAL", ["b"])
    brains.write_all(tmp_path)
    image, mask, drawn = (
        np.asarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("a", "a_gt", "a_scribbles")
    )
    csf, grey, white = (np.count_nonzero(mask == value) for value in (1, 2, 3))
    assert grey > white > csf > 0
    dark, middle, bright = (np.median(image[mask == value]) for value in (1, 2, 3))
    assert dark < middle < bright
    assert all((mask[drawn == value] == value).all() for value in (0, 1, 2, 3))  # 4: not annotated
    assert (mask[drawn == 0] == 0).all() and (drawn == 0).sum() > 1000
    boxes = np.asarray(nib.load(tmp_path / "a_boxes.nii.gz").dataobj)
    assert all((boxes[mask == value] >> (value - 1) & 1).all() for value in (1, 2, 3))
    assert not (tmp_path / "b_scribbles.nii.gz").exists()
