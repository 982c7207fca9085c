"""Predictions of turned and of many-channelled volumes come back exactly where their voxels are stored."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.data.io.volume import Volume
from unia_med.inference.predictor import Predictor
from unia_med.methods.base import Batch, Method, Prediction


class LastChannel(Method):
    """Classes 0..3 by the last channel's intensity, in steps of a third; keeps the shapes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shapes: list[tuple[int, ...]] = []

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.weight.sum()}

    def predict(self, images: Tensor) -> Prediction:
        self.shapes.append(tuple(images.shape))
        classes = (images[:, -1] * 3).round().long()
        probabilities = torch.nn.functional.one_hot(classes, 4).permute(0, 3, 1, 2).float()
        return Prediction(probabilities, torch.zeros_like(images[:, 0]))


def predictor(channels: int = 1, **grid: object) -> Predictor:
    values = {"spacing_mm": None, "size": [32, 32], "percentiles": [0, 100], **grid}
    settings = {"data": {"grid": values, "channels": channels}, "inference": {"batch_slices": 4}}
    return Predictor(LastChannel(), RunConfig.model_validate(settings), postprocess=False)


def labels(shape: tuple[int, ...]) -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 4, shape)
    array[0, 0, 0], array[-1, -1, -1] = 0, 3  # so that intensities span the whole range
    return array.astype(np.float32)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SPL", "AIR", "PRS"])
@pytest.mark.parametrize("spacing", [None, 1.0])
def test_turned_volumes_come_back_exactly(codes: str, spacing: float | None) -> None:
    plain = nib.Nifti1Image(labels((20, 24, 5)), np.diag([1.0, 1.0, 6.0, 1.0]))
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    stored = plain.as_reoriented(turn)
    volume = Volume(np.asarray(stored.dataobj), stored.affine)
    tool = predictor(slice_axis="axial", spacing_mm=spacing)
    found = tool.predict_volume(volume)
    assert np.array_equal(found.labels, volume.array) and found.uncertainty.shape == volume.shape
    assert sum(shape[0] for shape in tool.method.shapes) == 5  # slices were axial, whatever the storage
    assert np.array_equal(tool.predict_in_detail(volume).labels, volume.array)


def test_a_turned_cine_comes_back_frame_by_frame() -> None:
    array = np.stack([labels((5, 20, 24)), labels((5, 20, 24))[::-1]], axis=3)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 6.0, 1.0, 1.0, 1.0  # slices along the first axis
    found = predictor(slice_axis="axial").predict_volume(Volume(array, affine))
    assert np.array_equal(found.labels, array)


def test_several_channels_give_one_mask() -> None:
    array = np.stack([np.random.default_rng(1).normal(size=(20, 24, 3)), labels((20, 24, 3))], axis=3)
    tool = predictor(channels=2)
    found = tool.predict_volume(Volume(array, np.diag([1.0, 1.0, 6.0, 1.0])))
    assert np.array_equal(found.labels, array[..., 1]) and found.labels.dtype == np.uint8
    assert {shape[1:] for shape in tool.method.shapes} == {(2, 32, 32)}
