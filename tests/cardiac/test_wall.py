"""Wall thickness against annuli whose radii are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from unia_med.cardiac import wall
from unia_med.cardiac.wall import wall_thickness


def rings(
    spacing: tuple[float, float], inner: float, outer: float, centre: tuple[float, float] = (0.3, -0.2)
) -> tuple[np.ndarray, np.ndarray]:
    """Cavity and wall (X, Y, 1) of an annulus with radii in mm."""
    sizes = [int(2 * outer / mm) + 9 for mm in spacing]
    x, y = (((np.arange(n) - (n - 1) / 2) * mm) for n, mm in zip(sizes, spacing, strict=True))
    radius = np.hypot(*np.meshgrid(x - centre[0], y - centre[1], indexing="ij"))[..., None]
    return radius < inner, (radius >= inner) & (radius < outer)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.4, 1.4), (1.0, 1.6)])
@pytest.mark.parametrize(("inner", "outer"), [(20.0, 28.0), (25.0, 35.5), (12.0, 27.0)])
def test_annulus(spacing: tuple[float, float], inner: float, outer: float) -> None:
    found = wall_thickness(*rings(spacing, inner, outer), spacing)
    assert found.mean_mm == pytest.approx(outer - inner, abs=0.15 * max(spacing))
    assert found.max_mm == pytest.approx(outer - inner, abs=0.6 * max(spacing))


def test_flat_wall_is_exact() -> None:
    cavity, wall = np.zeros((2, 40, 12, 1), bool)
    cavity[10:14], wall[4:10] = True, True
    wall[14:21] = True
    # Far from the ends: 6 and 7 pixels of 1.5 mm on the two sides.
    middle = wall_thickness(cavity[:, 5:7], wall[:, 5:7], (1.5, 100.0))
    assert middle is not None
    found = wall_thickness(np.tile(cavity, (1, 30, 1)), np.tile(wall, (1, 30, 1)), (1.5, 1.5))
    assert found.max_mm == pytest.approx(7 * 1.5)
    assert 6 * 1.5 - 0.4 < found.mean_mm < 7 * 1.5


def test_a_thick_half_does_not_weigh_more_than_its_length() -> None:
    """Eccentric circles: thickness e cos(angle) + 10, whose mean over the angle is 10 to first order."""
    y, x = np.mgrid[-60:61, -60:61].astype(float)
    cavity = np.hypot(x - 4.0, y) < 30
    wall = (np.hypot(x, y) < 40) & ~cavity
    found = wall_thickness(cavity[..., None], wall[..., None], (1.0, 1.0))
    # The shortest way over an eccentric ring is a little below that; weights by area would give 11.
    assert found.mean_mm == pytest.approx(10.0, abs=0.5)
    assert found.max_mm == pytest.approx(14.0, abs=1.0)


def test_slices_are_pooled_and_those_without_both_are_left_out() -> None:
    thin, thick = rings((1.0, 1.0), 20, 28), rings((1.0, 1.0), 20, 28)
    cavity = np.concatenate([thin[0], np.zeros_like(thin[0]), thick[0]], 2)
    wall = np.concatenate([thin[1], thin[1], np.zeros_like(thick[1])], 2)
    assert wall_thickness(cavity, wall, (1.0, 1.0)) == wall_thickness(*thin, (1.0, 1.0))
    assert wall_thickness(cavity[..., 1:], wall[..., 1:], (1.0, 1.0)) is None


def test_a_wall_at_the_edge_of_the_image_ends_there() -> None:
    cavity, wall = rings((1.0, 1.0), 20, 28, (0.0, 0.0))
    edge = np.flatnonzero((cavity | wall).any((1, 2)))[0]
    cut = wall_thickness(cavity[edge:], wall[edge:], (1.0, 1.0))
    assert cut.mean_mm == pytest.approx(wall_thickness(cavity, wall, (1.0, 1.0)).mean_mm, abs=1e-9)


@pytest.mark.parametrize("few", [0, 10**6])
def test_nearest_points_are_those_of_scipy(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall, "_FEW_PAIRS", few)
    points, others = np.random.default_rng(0).normal(size=(2, 40, 2))
    expected = cdist(points, others[:30]).min(1)
    np.testing.assert_allclose(wall._nearest(points, others[:30]), expected, rtol=1e-12)
