"""What a bundle's network gives is brought from its device before numpy sees it."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.inference.bundle import BundlePredictor, _first, _store


class _OnDevice:
    """A result as MONAI gives it on a GPU: numpy refuses it until it is on the CPU."""

    def as_tensor(self) -> _OnDevice:
        return self

    def cpu(self) -> torch.Tensor:
        return torch.arange(8, dtype=torch.float64).reshape(1, 2, 2, 2)

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("on a device")


FRAME = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))


def _predictor(steps: list[object]) -> BundlePredictor:
    predictor = object.__new__(BundlePredictor)
    predictor._folder, predictor._postprocess = Path("bundle"), SimpleNamespace(transforms=steps)
    return predictor


def test_labels_come_from_the_device_without_their_channel() -> None:
    assert _first(_OnDevice()).tolist() == np.arange(8).reshape(2, 2, 2).tolist()
    assert _first(np.zeros((3, 4, 5))).shape == (3, 4, 5)


def test_probabilities_come_from_the_device_and_are_asked_for_once() -> None:
    step, asked = SimpleNamespace(probabilities_key=None), []
    predictor = _predictor([SimpleNamespace(), step])
    predictor._run = lambda path: asked.append(step.probabilities_key) or {"probabilities": _OnDevice()}
    found = predictor.probabilities(FRAME)
    assert found.shape == (1, 2, 2, 2) and found.dtype == np.float32 and found[0, 1, 1, 1] == 7
    assert asked == ["probabilities"] and step.probabilities_key is None
    with pytest.raises(UserError, match="labels and no probabilities"):
        _predictor([SimpleNamespace()]).probabilities(FRAME)


def test_a_folder_of_temporary_files_without_room_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device.*TMPDIR"):
        _store(FRAME, tmp_path / "image.nii")
