"""The way back to the native grid, against MONAI's inverse and against positions in mm."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.config.data import GridConfig
from unia_med.data.grid.transforms import from_slices, place_image, to_slices
from unia_med.data.io.volume import Volume
from unia_med.inference.reassemble import plane_map

OBLIQUE = np.array([[0.8, 0.5, 0.33, 0], [-0.5, 0.86, 0.1, 0], [-0.33, -0.1, 0.94, 0], [0, 0, 0, 1.0]])


def volume(shape: tuple[int, ...], spacing: tuple[float, ...], turned: bool = False) -> Volume:
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    directions = np.eye(4)
    if turned:
        directions[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0]
    affine = directions @ np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (40, -25, 12)
    return Volume(array, affine)


def both_ways(monai_chain: ModuleType, source: Volume, grid: GridConfig, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Random probabilities brought back by the package and by MONAI, both (Z, K, X, Y)."""
    chain = monai_chain.image_chain(grid)
    image = chain({"image": monai_chain.as_meta(source)})["image"]
    slices = torch.rand(source.slices, classes, *grid.size).softmax(1)
    back = plane_map(place_image(source, grid).placement)
    return back(slices), to_slices(monai_chain.restore(from_slices(slices), image, chain))


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((61, 47, 3), (1.4, 1.4, 10.0)),  # cropped
        ((20, 17, 2), (1.4, 1.5, 8.0)),  # padded
        ((60, 21, 1), (1.3, 0.9, 5.0)),  # one slice, cropped in one axis and padded in the other
        ((33, 32, 2), (1.875, 1.875, 10.0)),  # nothing to resample
        ((25, 30, 2), (3.1, 2.4, 6.0)),  # enlarged
        ((16, 1, 1), (1.0, 1.0, 1.0)),  # one column
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_equals_the_inverse_of_monai(
    monai_chain: ModuleType, shape: tuple[int, ...], spacing: tuple[float, ...], turned: bool
) -> None:
    ours, theirs = both_ways(monai_chain, volume(shape, spacing, turned), GridConfig(spacing_mm=1.875, size=(32, 32)))
    assert ours.shape == (shape[2], 3, *shape[:2])
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)
    torch.testing.assert_close(ours.sum(1), torch.ones_like(ours[:, 0]))


@pytest.mark.parametrize("shape", [(32, 32, 2), (40, 35, 1), (19, 50, 3)])
def test_stored_pixels_come_back_exactly_and_the_rest_is_background(shape: tuple[int, ...]) -> None:
    source = volume(shape, (1.4, 1.4, 10.0))
    grid = GridConfig(spacing_mm=None, size=(32, 32))
    back = plane_map(place_image(source, grid).placement)
    foreground = torch.zeros(shape[2], 2, 32, 32)
    foreground[:, 1] = 1
    native = back(foreground)[:, 1].permute(1, 2, 0)
    # Each voxel that the crop kept is foreground, each that it cut off is background with certainty.
    kept = torch.ones(shape)
    for axis, size in enumerate(shape[:2]):
        cut = size - 32
        if cut > 0:
            outside = [i for i in range(size) if not cut // 2 <= i < cut // 2 + 32]
            kept.index_fill_(axis, torch.tensor(outside), 0.0)
    torch.testing.assert_close(native, kept)


def test_a_blob_returns_to_its_place_in_mm() -> None:
    source = volume((90, 70, 1), (1.0, 1.2, 8.0))
    rows, columns = np.ogrid[:90, :70]
    centre = (51, 33)
    array = np.exp(-(((rows - centre[0]) * 1.0) ** 2 + ((columns - centre[1]) * 1.2) ** 2) / 200)[..., None]
    source = Volume(array.astype(np.float32), source.affine)
    blob, placement = place_image(source, GridConfig(spacing_mm=2.0, size=(32, 32)))
    back = plane_map(placement)
    native = back(torch.cat([1 - blob, blob], dim=1))[0, 1].double().numpy()
    weights = np.where(native > 0.3, native, 0)
    found = [(weights * grid).sum() / weights.sum() for grid in np.indices(weights.shape)]
    assert found == pytest.approx(centre, abs=0.1)


def test_a_sheared_stack_stays_in_its_planes() -> None:
    source = volume((20, 20, 4), (1.0, 1.0, 5.0))
    affine = source.affine.copy()
    affine[0, 2] += 2.0  # slices slide along X
    grid = GridConfig(spacing_mm=1.875, size=(16, 16))
    sheared, upright = place_image(Volume(source.array, affine), grid), place_image(source, grid)
    torch.testing.assert_close(sheared.slices, upright.slices, atol=1e-5, rtol=0)
    back, straight = plane_map(sheared.placement), plane_map(upright.placement)
    torch.testing.assert_close(back.rows, straight.rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(12))
def test_rounding_of_an_oblique_header_moves_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, spacing = (int(rng.integers(20, 60)), int(rng.integers(20, 60)), 3), rng.uniform(0.6, 2.4, 2).round(4)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    plain, turned = np.diag([*spacing, 8.0, 1.0]), np.eye(4)
    turned[:3, :3] = rotation @ plain[:3, :3]
    turned[:3, 3] = rng.normal(scale=100, size=3)
    array = rng.uniform(0, 900, shape).astype(np.float32)
    grid = GridConfig(spacing_mm=1.5, size=(32, 32))
    affines = (plain, turned, turned.astype(np.float32).astype(np.float64))
    images = [place_image(Volume(array, affine), grid) for affine in affines]
    maps = [plane_map(image.placement) for image in images]
    for image, back in zip(images[1:], maps[1:], strict=True):
        torch.testing.assert_close(image.slices, images[0].slices, atol=1e-4, rtol=0)
        torch.testing.assert_close(back.rows, maps[0].rows, atol=1e-4, rtol=0)
        torch.testing.assert_close(back.columns, maps[0].columns, atol=1e-4, rtol=0)
