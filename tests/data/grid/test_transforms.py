from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from unia_med.config.schema import GridConfig
from unia_med.data.grid.plane import plane_affine
from unia_med.data.grid.transforms import (
    KEY,
    as_tensor,
    from_slices,
    in_slabs,
    load_label_slices,
    preprocess,
    restore,
    to_slices,
)
from unia_med.data.io.orientation import orient
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.inference.reassemble import plane_map
from unia_med.labels import IGNORE

OBLIQUE = np.array([[0.0, -1.2, 2.0, 5.0], [1.3, 0.1, 0.5, 7.0], [0.2, 0.3, 8.0, 3.0], [0, 0, 0, 1]])
FLIPPED = np.diag([-1.5, 1.4, -10.0, 1.0])
GRID = GridConfig(spacing_mm=2.0, size=(24, 32))


def volume(shape: tuple[int, ...], affine: np.ndarray = FLIPPED, seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).uniform(50, 900, shape).astype(np.float32), affine)


def run(source: Volume, grid: GridConfig = GRID) -> MetaTensor:
    return preprocess(grid, load=False)({KEY: as_tensor(source)})[KEY]


def test_percentiles_are_of_the_whole_volume() -> None:
    source = volume((24, 32, 3))
    source.array[:, :, 1] *= 0.1  # a slice's own percentiles would lift this one to [0, 1]
    low, high = np.percentile(source.array, [1, 99])
    result = run(source, GridConfig(spacing_mm=None, size=(24, 32)))
    np.testing.assert_allclose(result[0].numpy(), ((source.array - low) / (high - low)).clip(0, 1), atol=1e-5)
    assert result.dtype == torch.float32 and result[0, :, :, 1].max() < 0.2


def test_loading_by_monai_and_by_read_volume_agree(tmp_path: Path) -> None:
    image = nib.Nifti1Image((volume((30, 20, 3)).array).astype(np.int16), OBLIQUE)
    nib.save(image, tmp_path / "a.nii.gz")
    ours = run(read_volume(tmp_path / "a.nii.gz"))
    theirs = preprocess(GRID)({KEY: str(tmp_path / "a.nii.gz")})[KEY]
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert torch.allclose(ours.affine, theirs.affine)


def test_constant_volumes_become_finite_zeros() -> None:
    result = run(Volume(np.full((10, 10, 2), 7.0, np.float32), FLIPPED))
    assert torch.isfinite(result).all() and result.abs().max() == 0


@pytest.mark.parametrize("affine", [FLIPPED, OBLIQUE], ids=["flipped", "oblique"])
@pytest.mark.parametrize("shape", [(31, 27, 1), (64, 80, 2), (17, 90, 5)])
def test_inverse_restores_shape_and_spacing(shape: tuple[int, ...], affine: np.ndarray) -> None:
    chain = preprocess(GRID, load=False)
    source = as_tensor(volume(shape, affine))
    image = chain({KEY: source})[KEY]
    assert image.shape == (1, 24, 32, shape[2])
    back = Invertd("pred", chain, orig_keys=KEY, nearest_interp=False)(
        {KEY: image, "pred": MetaTensor(torch.rand(4, *image.shape[1:]), affine=image.affine)}
    )["pred"]
    assert back.shape == (4, *shape)
    np.testing.assert_allclose(back.affine.numpy(), plane_affine(affine), atol=1e-5)


def test_slices_stay_slices_of_the_third_stored_axis() -> None:
    # The through-plane axis of this affine points to A, not S: a reorientation would cut other planes.
    affine = np.array([[1.5, 0, 0, 0], [0, 0, 9.0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1.0]])
    source = Volume(np.zeros((24, 32, 4), np.float32), affine)
    source.array[:, :, 2] = np.random.default_rng(0).uniform(1, 2, (24, 32))
    slices = to_slices(run(source))
    assert [bool(plane.any()) for plane in slices] == [False, False, True, False]


def test_restored_probabilities_follow_the_world_positions() -> None:
    shape, affine = (40, 44, 2), np.diag([1.5, 1.5, 10.0, 1.0])
    chain = preprocess(GridConfig(spacing_mm=2.0, size=(64, 64)), load=False)
    image = chain({KEY: as_tensor(volume(shape, affine))})[KEY]

    def truth(positions: np.ndarray) -> np.ndarray:  # a linear ramp is kept exactly by linear interpolation
        return 0.2 + positions[..., 0] / 200 + positions[..., 1] / 400

    def world(grid_shape: tuple[int, ...], grid_affine: np.ndarray) -> np.ndarray:
        indices = np.stack(np.meshgrid(*map(np.arange, grid_shape), indexing="ij"), -1)
        return indices @ grid_affine[:3, :3].T + grid_affine[:3, 3]

    inner = torch.from_numpy(truth(world(image.shape[1:], image.affine.numpy()))).float()
    native = restore(torch.stack([1 - inner, inner]), image, chain)
    expected = truth(world(shape, affine))
    np.testing.assert_allclose(native[1, 2:-2, 2:-2].numpy(), expected[2:-2, 2:-2], atol=2e-4)


def test_outside_the_field_of_view_is_background_and_sums_are_one() -> None:
    chain = preprocess(GRID, load=False)
    image = chain({KEY: as_tensor(volume((90, 90, 2)))})[KEY]
    native = restore(torch.eye(3)[2].view(3, 1, 1, 1).expand(3, *image.shape[1:]), image, chain)
    assert native.shape == (3, 90, 90, 2)
    torch.testing.assert_close(native.sum(0), torch.ones(90, 90, 2))
    assert native[0, 0, 0, 0] == 1 and native[2, 45, 45, 0] == 1
    assert native[2, :, 45, 0].sum() == pytest.approx(24 * 2.0 / 1.5, abs=1.5)


def test_slices_and_volumes_round_trip() -> None:
    image = torch.rand(2, 5, 6, 7)
    assert torch.equal(from_slices(to_slices(image)), image)
    assert torch.equal(to_slices(image)[3], image[..., 3])
    assert type(to_slices(MetaTensor(image))) is torch.Tensor


def test_the_fourth_axis_becomes_the_channels() -> None:
    found = volume((4, 5, 3, 2)).with_channels()
    assert as_tensor(found).shape == (2, 4, 5, 3)
    assert np.array_equal(as_tensor(found)[1].numpy(), found.array[..., 1].astype(np.float32))
    with pytest.raises(ValueError, match="2 frames"):
        as_tensor(volume((4, 5, 3, 2)))


def test_labels_land_where_the_image_lands_and_invent_no_value(tmp_path: Path) -> None:
    stored = np.full((30, 20, 2), 4, np.uint8)
    stored[10:20, 5:15], stored[14:16, 9:11] = 3, 0
    nib.save(nib.Nifti1Image(stored, FLIPPED), tmp_path / "s.nii.gz")
    labels = load_label_slices(tmp_path / "s.nii.gz", GRID, {0: 0, 3: 1})
    assert labels.shape == (2, 24, 32) and labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, IGNORE}
    assert (labels[:, 0] == IGNORE).all() and (labels[:, :, 0] == IGNORE).all()  # padding is no background
    image = to_slices(run(Volume((stored == 3).astype(np.float32), FLIPPED)))[:, 0].numpy()
    assert (image[labels == 1] > 0.4).all() and (image[labels == IGNORE] < 0.6).all()


def test_weak_labels_must_be_3d(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 3, 2), np.uint8), FLIPPED), tmp_path / "s.nii.gz")
    with pytest.raises(UserError, match="expected 3D"):
        load_label_slices(tmp_path / "s.nii.gz", GRID, {0: 0})


def test_training_data_needs_no_simpleitk() -> None:
    code = "import sys, unia_med.data.slices.dataset; sys.exit('SimpleITK' in sys.modules or 'itk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_reading_cases_and_tags_needs_no_torch() -> None:
    modules = "unia_med.data.layouts.acdc, unia_med.data.weak_labels.tags, unia_med.data.splits"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "settings",
    [{}, {"spacing_mm": None}, {"resize": "stretch", "spacing_mm": None, "size": (32, 48)}, {"slice_axis": "axial"}],
)
@pytest.mark.parametrize("axes", ["XYZ", "XYZC"])
def test_slabs_give_what_the_whole_volume_gives(
    settings: dict[str, Any], axes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    affine = np.array([[0.2, -1.3, 0.1, 4], [1.1, 0.1, 0.3, 5], [0.1, 0.2, -7, 6], [0, 0, 0, 1]])
    shape = (70, 61, 23) if axes == "XYZ" else (70, 61, 23, 2)
    array = np.random.default_rng(0).integers(-500, 3000, shape).astype(np.int16)
    grid = GridConfig(**settings)
    volume = orient(Volume(array, affine, axes=axes), grid.slice_axis, copy=False)
    whole = preprocess(grid, load=False)({KEY: as_tensor(volume)})[KEY]
    monkeypatch.setattr("unia_med.data.grid.transforms._SLAB", 5)
    monkeypatch.setattr("unia_med.data.grid.transforms._SMALL", 0)
    found = in_slabs(volume, grid)
    np.testing.assert_allclose(found.numpy(), whole.numpy(), atol=2e-6)
    np.testing.assert_array_equal(found.affine.numpy(), whole.affine.numpy())
    back = [plane_map(image, torch.from_numpy(volume.affine), volume.shape) for image in (whole, found)]
    assert torch.equal(back[0].rows, back[1].rows) and torch.equal(back[0].columns, back[1].columns)
