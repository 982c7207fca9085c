"""Surface distances against all pairs of voxels, against MONAI and against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from unia_med.metrics.surface import (
    average_surface_distance,
    hausdorff95,
    surface,
    surface_distances,
)

SHAPES = [
    ((7, 6, 5), (1.0, 1.0, 1.0)),
    ((9, 7, 3), (1.4, 1.3, 10.0)),
    ((8, 9, 1), (1.5, 1.5, 8.0)),
    ((1, 6, 5), (2.0, 0.7, 0.9)),
    ((6, 6, 2), (10.0, 0.3, 1.0)),
]


def surface_voxels(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels of the mask with at least one of the 2N face neighbours outside the mask or the array."""
    inside = {tuple(int(i) for i in index) for index in np.argwhere(mask)}
    found = []
    for voxel in inside:
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = list(voxel)
            neighbour[axis] += step
            if tuple(neighbour) not in inside:
                found.append(voxel)
                break
    return found


def directed(start: list[tuple[int, ...]], end: list[tuple[int, ...]], spacing: tuple[float, ...]) -> list[float]:
    """For each voxel of ``start`` the distance in mm to the nearest of ``end``."""
    return [
        min(math.sqrt(sum(((p - q) * s) ** 2 for p, q, s in zip(a, b, spacing, strict=True))) for b in end)
        for a in start
    ]


def percentile(values: list[float], percent: float) -> float:
    """Percentile by linear interpolation between the order statistics."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random mask with both single voxels and solid parts."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.15
    corner = [rng.integers(0, size) for size in shape]
    mask[tuple(slice(c, c + 4) for c in corner)] = True
    return mask


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_all_pairs(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    prediction, label = blobs(shape, seed), blobs(shape, seed + 100)
    ends = surface_voxels(prediction), surface_voxels(label)
    there, back = directed(ends[0], ends[1], spacing), directed(ends[1], ends[0], spacing)
    found = surface_distances(prediction, label, spacing)
    assert found is not None
    assert sorted(found.to_label) == pytest.approx(sorted(there))
    assert sorted(found.to_prediction) == pytest.approx(sorted(back))
    assert hausdorff95(found) == pytest.approx(max(percentile(there, 95), percentile(back, 95)))
    assert hausdorff95(found, "pooled") == pytest.approx(percentile(there + back, 95))
    assert average_surface_distance(found) == pytest.approx(sum(there + back) / len(there + back))


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_agrees_with_monai(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    prediction, label = blobs(shape, 1), blobs(shape, 2)
    found = surface_distances(prediction, label, spacing)
    assert found is not None
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, label)]
    options = {"include_background": True, "spacing": list(spacing)}
    hd95 = metrics.compute_hausdorff_distance(*pair, percentile=95, **options).item()
    asd = metrics.compute_average_surface_distance(*pair, symmetric=True, **options).item()
    assert hausdorff95(found) == pytest.approx(hd95, rel=1e-5)
    assert average_surface_distance(found) == pytest.approx(asd, rel=1e-5)


def test_known_shift_uses_the_spacing_of_its_own_axis() -> None:
    label = np.zeros((12, 12, 12), bool)
    label[3:6, 3:6, 3:6] = True
    for axis, spacing in enumerate((0.5, 2.0, 10.0)):
        moved = np.roll(label, 3, axis=axis)  # the cubes touch: the farthest faces are 3 voxels apart
        distances = surface_distances(moved, label, (0.5, 2.0, 10.0))
        assert distances is not None
        assert hausdorff95(distances) == pytest.approx(3 * spacing)


def test_identical_masks_are_at_distance_zero() -> None:
    mask = blobs((8, 8, 4), 5)
    distances = surface_distances(mask, mask, (1.0, 1.0, 5.0))
    assert distances is not None
    assert hausdorff95(distances) == 0.0
    assert average_surface_distance(distances) == 0.0


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.9, 6.0), (5.0, 0.4, 0.4)])
def test_near_and_far_voxels_have_the_distances_of_a_whole_distance_map(spacing: tuple[float, ...]) -> None:
    """A body, stray voxels everywhere, and a second body far away: found by neighbours, by the tree and by both."""
    rng = np.random.default_rng(3)
    x, y, z = np.indices((60, 50, 20))
    label = (x - 20) ** 2 + (y - 20) ** 2 + 4 * (z - 10) ** 2 < 150
    prediction = ((x - 22) ** 2 + (y - 21) ** 2 + 4 * (z - 10) ** 2 < 120) ^ (rng.random(label.shape) < 0.001)
    prediction[50:58, 40:48, 2:18] = True
    found = surface_distances(prediction, label, spacing)
    edges = surface(prediction), surface(label)
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    assert found is not None
    np.testing.assert_allclose(found.to_label, maps[1][edges[0]], rtol=1e-12)
    np.testing.assert_allclose(found.to_prediction, maps[0][edges[1]], rtol=1e-12)
    assert found.to_label.max() > 20


def test_pooled_forgives_a_false_blob_and_max_does_not() -> None:
    label = np.zeros((40, 40, 12), bool)
    label[5:15, 5:15, 2:10] = True
    prediction = label.copy()
    prediction[38, 5:35, 11] = True  # 30 voxels: 6.7 % of its surface, 3.5 % of both surfaces
    assert (surface(label).sum(), surface(prediction).sum()) == (416, 446)
    distances = surface_distances(prediction, label, (1.0, 1.0, 1.0))
    assert distances is not None
    assert hausdorff95(distances, "pooled") == 0.0
    assert hausdorff95(distances, "max") > 20.0


def test_an_empty_mask_has_no_distance() -> None:
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert surface_distances(empty, full, (1, 1, 1)) is None
    assert surface_distances(full, empty, (1, 1, 1)) is None
    assert surface_distances(empty, empty, (1, 1, 1)) is None


def test_the_end_of_the_array_is_outside() -> None:
    full = np.ones((5, 5, 5), bool)
    assert surface(full).sum() == 5**3 - 3**3
    assert surface(np.ones((4, 4, 1), bool)).all()


def test_spacing_has_no_default_and_must_fit() -> None:
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match="spacing has 2 numbers"):
        surface_distances(mask, mask, (1.0, 1.0))
    with pytest.raises(ValueError, match="shape"):
        surface_distances(mask, mask[:2], (1.0, 1.0, 1.0))
    distances = surface_distances(mask, mask, (1.0, 1.0, 1.0))
    assert distances is not None
    with pytest.raises(ValueError, match="pooled"):
        hausdorff95(distances, "mean")  # type: ignore[arg-type]
