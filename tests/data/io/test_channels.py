"""Images of several channels: from one file and from several, to slices and through the first layer of a network."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from unia_med.config.schema import GridConfig, RunConfig
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.sample import CaseFiles
from unia_med.data.slices.dataset import SliceDataset
from unia_med.errors import UserError
from unia_med.methods.segmenter import build_backbone
from unia_med.nn.lite0 import Lite0Stages

SPACING = np.diag([1.0, 1.0, 5.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = SPACING) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (20, 18, 3, 2)).astype(np.float32)


def test_one_file_and_two_files_are_the_same_image(array: np.ndarray, tmp_path: Path) -> None:
    whole = save(tmp_path / "x.nii.gz", array)
    first = save(tmp_path / "x_0000.nii.gz", array[..., 0])
    save(tmp_path / "x_0001.nii.gz", array[..., 1])
    split = ChannelFiles(2, ("_0000", "_0001"))
    one, other = ChannelFiles(2).read(whole), split.read(first)
    assert np.array_equal(one.array, array) and np.array_equal(other.array, array)
    assert split.header(first).shape == ChannelFiles(2).header(whole).shape == (20, 18, 3, 2)
    assert split.name(first) == "x" and split.name(tmp_path / "x_0001.nii.gz") is None


def test_what_does_not_fit_is_told(array: np.ndarray, tmp_path: Path) -> None:
    whole = save(tmp_path / "x.nii.gz", array)
    with pytest.raises(UserError, match="expected 3D.*data.channels"):
        ChannelFiles().read(whole)
    with pytest.raises(UserError, match="fourth axis of 3 channels"):
        ChannelFiles(3).header(whole)
    first = save(tmp_path / "x_0000.nii.gz", array[..., 0])
    split = ChannelFiles(2, ("_0000", "_0001"))
    with pytest.raises(UserError, match="x_0001.nii.gz: no such file"):
        split.read(first)
    moved = SPACING.copy()
    moved[0, 3] = 4.0
    save(tmp_path / "x_0001.nii.gz", array[..., 1], moved)
    with pytest.raises(UserError, match=r"a corner 4.00 mm away.*first channel"):
        split.header(first)


def test_slices_have_the_channels_each_on_its_own_scale(array: np.ndarray, tmp_path: Path) -> None:
    array[..., 1] *= 1000  # percentiles are of each channel, so a second modality of another unit does not drown one
    case = CaseFiles("x", "x", save(tmp_path / "x.nii.gz", array))
    grid = GridConfig(spacing_mm=None, size=(16, 16), percentiles=(0, 100))
    for cache in ("memory", "disk"):
        slices = SliceDataset(
            [case], {"x": np.ones((3, 1))}, grid, channels=ChannelFiles(2), cache=cache, cache_dir=tmp_path / "cache"
        )
        image = slices[1]["image"]
        assert image.shape == (2, 16, 16)
        low, high = array.min((0, 1, 2)), array.max((0, 1, 2))
        truth = ((array - low) / (high - low))[2:18, 1:17, 1].transpose(2, 0, 1)
        np.testing.assert_allclose(image.numpy(), truth, atol=1e-3)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_one_image_in_every_channel_looks_as_it_does_alone(channels: int) -> None:
    grey = torch.rand(1, 1, 32, 32)
    alone, together = Lite0Stages("package").eval(), Lite0Stages("package", channels).eval()
    with torch.no_grad():
        for one, other in zip(alone(grey), together(grey.expand(-1, channels, -1, -1)), strict=True):
            torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)


def test_three_channels_keep_the_filters_for_colour() -> None:
    from unia_med.nn.lite0 import packaged_weights

    assert torch.equal(Lite0Stages("package", 3).conv_stem.weight, packaged_weights()["conv_stem.weight"])


@pytest.mark.parametrize("backbone", ["hybrid_lite0", "lite0", "vit"])
def test_every_backbone_takes_the_channels_of_the_data(backbone: str) -> None:
    vit = {"model": "test_vit", "decoder": "largefov"} if backbone == "vit" else {"width": 16, "depth": 3}
    network = {"backbone": backbone, "weights": "none", **vit}
    config = RunConfig.model_validate({"data": {"channels": 4}, "network": network, "method": {"name": "partial"}})
    assert config.network.channels == 4
    assert build_backbone(config.network).eval()(torch.rand(1, 4, 64, 64)).tokens.shape[0] == 1


def test_channels_are_written_down_once() -> None:
    with pytest.raises(ValueError, match="network.channels 3 differs from data.channels 2"):
        RunConfig.model_validate({"data": {"channels": 2}, "network": {"channels": 3}})
    with pytest.raises(ValueError, match="priors know images of one channel"):
        RunConfig.model_validate({"data": {"channels": 2}, "prior": {"names": ["phantom"]}})
    with pytest.raises(ValueError, match="2 volumes.channel_endings for 1 channels"):
        RunConfig.model_validate({"data": {"volumes": {"channel_endings": ["_0000", "_0001"]}}})
