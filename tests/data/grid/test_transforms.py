from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from unia_med.config.schema import GridConfig
from unia_med.data.grid.percentiles import percentiles_of
from unia_med.data.grid.transforms import (
    as_tensor,
    from_slices,
    load_label_slices,
    place_image,
    place_labels,
    to_slices,
)
from unia_med.data.io.orientation import orient
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.labels import IGNORE

OBLIQUE = np.array([[0.0, -1.2, 2.0, 5.0], [1.3, 0.1, 0.5, 7.0], [0.2, 0.3, 8.0, 3.0], [0, 0, 0, 1]])
FLIPPED = np.diag([-1.5, 1.4, -10.0, 1.0])
GRID = GridConfig(spacing_mm=2.0, size=(24, 32))


def volume(shape: tuple[int, ...], affine: np.ndarray = FLIPPED, seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).uniform(50, 900, shape).astype(np.float32), affine)


def run(source: Volume, grid: GridConfig = GRID) -> torch.Tensor:
    return from_slices(place_image(source, grid).slices)


CASES = [
    # shape, spacing, turned, grid
    ((61, 47, 3), (1.4, 1.4, 10.0), False, {"spacing_mm": 1.875, "size": (32, 32)}),  # cropped
    ((20, 17, 2), (1.4, 1.5, 8.0), True, {"spacing_mm": 1.875, "size": (32, 32)}),  # padded
    ((60, 21, 1), (1.5, 0.75, 5.0), True, {"spacing_mm": 1.0, "size": (33, 40)}),  # labels half-way between voxels
    ((41, 40, 2), (1.2, 1.2, 8.0), False, {"spacing_mm": 0.6, "size": (31, 64)}),  # likewise, odd sizes
    ((33, 32, 2), (1.875, 1.8756, 10.0), False, {"spacing_mm": 1.875, "size": (32, 33)}),  # near enough
    ((3, 90, 2), (1.5, 1.5, 8.0), False, {"spacing_mm": 1.8, "size": (17, 50)}),  # 3.5 pixels
    ((16, 1, 1), (1.0, 1.0, 1.0), False, {"spacing_mm": 1.5, "size": (16, 16)}),  # one column
    ((40, 30, 20), (2.0, 1.5, 1.25), True, {"spacing_mm": 1.5, "size": (24, 32), "slice_axis": "coronal"}),
    ((24, 20, 3), (1.5, 1.5, 8.0), False, {"spacing_mm": None, "size": (16, 16), "resize": "stretch"}),
    ((10, 12, 3), (1.5, 1.5, 8.0), False, {"spacing_mm": None, "size": (32, 28), "resize": "stretch"}),
    ((50, 21, 3), (1.5, 1.5, 8.0), False, {"spacing_mm": None, "size": (31, 32), "percentiles": None}),
]


@pytest.mark.parametrize(("shape", "spacing", "turned", "settings"), CASES)
def test_image_and_labels_are_those_of_monai(
    monai_chain: ModuleType, shape: tuple[int, ...], spacing: tuple[float, ...], turned: bool, settings: dict
) -> None:
    grid = GridConfig(**settings)
    affine = np.diag([*spacing, 1.0])
    if turned:
        affine[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0] @ affine[:3, :3]
    source = volume(shape, affine)
    expected = monai_chain.image_chain(grid)({"image": monai_chain.as_meta(source)})["image"].as_tensor()
    found = run(source, grid)
    if grid.resize == "stretch" and shape[0] > grid.size[0]:  # smoothed first, which MONAI does with a dark rim
        torch.testing.assert_close(found.mean(), expected.mean(), atol=2e-3, rtol=0)
    else:  # to the last bit but one: MONAI sums the eight neighbours in another order
        torch.testing.assert_close(found, expected, atol=6e-8, rtol=0)
    labels = Volume(np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8), affine)
    placed = monai_chain.label_chain(grid, IGNORE)({"image": monai_chain.as_meta(labels)})["image"].as_tensor()
    assert np.array_equal(place_labels(labels, grid), to_slices(placed)[:, 0].numpy())


@pytest.mark.parametrize("size", [1, 2, 3, 100, 101, 4096, 1_000_001])
def test_percentiles_are_those_of_torch_and_numpy(size: int) -> None:
    values = torch.from_numpy(np.random.default_rng(size).gamma(2.0, 90.0, size).astype(np.float32))
    for shares in ((1.0, 99.0), (0.0, 100.0), (0.5, 99.5), (30.0, 30.0)):
        found = torch.stack(percentiles_of(values.numpy().reshape(size, 1, 1), shares))
        if size > 1_000_000:  # where MONAI takes NumPy's
            expected = torch.tensor(np.percentile(values.numpy(), shares), dtype=torch.float32)
        else:
            expected = torch.quantile(values, torch.tensor(shares, dtype=torch.float64).div(100).float())
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32, np.float64])
def test_percentiles_of_a_large_volume_are_those_of_numpy_without_a_copy(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(1).normal(20, 90, (40, 31, 9))
    values[:20] = np.rint(values[:20])  # repeated ones, and -0
    values = np.asfortranarray(values.clip(0, 255) if kind == np.uint8 else values, kind)
    monkeypatch.setattr("unia_med.data.grid.percentiles._SMALL", 0)
    monkeypatch.setattr("unia_med.data.grid.percentiles._SLAB", 3000)
    for array in (values, values[:, :, :1], values[:1, :1, :2], -np.ones_like(values, np.int32)):
        for shares in ((1.0, 99.0), (0.0, 100.0), (0.37, 50.0)):
            expected = torch.tensor(np.percentile(array.astype(np.float32), shares), dtype=torch.float32)
            assert torch.equal(torch.stack(percentiles_of(array, shares)), expected)


def test_percentiles_are_of_the_whole_volume() -> None:
    source = volume((24, 32, 3))
    source.array[:, :, 1] *= 0.1  # a slice's own percentiles would lift this one to [0, 1]
    low, high = np.percentile(source.array, [1, 99])
    result = run(source, GridConfig(spacing_mm=None, size=(24, 32)))
    np.testing.assert_allclose(result[0].numpy(), ((source.array - low) / (high - low)).clip(0, 1), atol=1e-5)
    assert result.dtype == torch.float32 and result[0, :, :, 1].max() < 0.2


def test_loading_by_monai_and_by_read_volume_agree(tmp_path: Path, monai_chain: ModuleType) -> None:
    image = nib.Nifti1Image((volume((30, 20, 3)).array).astype(np.int16), OBLIQUE)
    nib.save(image, tmp_path / "a.nii.gz")
    ours = run(read_volume(tmp_path / "a.nii.gz"))
    theirs = monai_chain.image_chain(GRID, load=True)({"image": str(tmp_path / "a.nii.gz")})["image"]
    torch.testing.assert_close(ours, theirs.as_tensor(), atol=6e-8, rtol=0)


def test_constant_volumes_become_finite_zeros() -> None:
    result = run(Volume(np.full((10, 10, 2), 7.0, np.float32), FLIPPED))
    assert torch.isfinite(result).all() and result.abs().max() == 0


def test_slices_stay_slices_of_the_third_stored_axis() -> None:
    # The through-plane axis of this affine points to A, not S: a reorientation would cut other planes.
    affine = np.array([[1.5, 0, 0, 0], [0, 0, 9.0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1.0]])
    source = Volume(np.zeros((24, 32, 4), np.float32), affine)
    source.array[:, :, 2] = np.random.default_rng(0).uniform(1, 2, (24, 32))
    slices = to_slices(run(source))
    assert [bool(plane.any()) for plane in slices] == [False, False, True, False]


def test_slices_and_volumes_round_trip() -> None:
    image = torch.rand(2, 5, 6, 7)
    assert torch.equal(from_slices(to_slices(image)), image)
    assert torch.equal(to_slices(image)[3], image[..., 3])


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
    whole = place_image(volume, grid)
    monkeypatch.setattr("unia_med.data.grid.transforms._SLAB", 5)
    monkeypatch.setattr("unia_med.data.grid.transforms._SMALL", 0)
    found = place_image(volume, grid)
    np.testing.assert_allclose(found.slices.numpy(), whole.slices.numpy(), atol=2e-6)
    assert found.placement == whole.placement
