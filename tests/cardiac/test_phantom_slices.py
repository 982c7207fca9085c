"""Synthetic slices: the label map is the shape that was asked for, and the bank is a pure function of its seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unia_med.cardiac.phantom.anatomy import HeartShape, RightVentricle, rasterise
from unia_med.cardiac.phantom.bank import RV_TOWARDS_FIRST_ROW, draw_bank
from unia_med.data.structured.fields import enlarge, soft_step


def test_a_round_heart_has_the_areas_of_its_circles() -> None:
    labels = rasterise(HeartShape(centre=(64.0, 60.0), lv_radius=20.0, wall=8.0), (128, 128)).labels()
    assert (labels == 3).sum() == pytest.approx(math.pi * 20**2, rel=0.02)
    assert (labels == 2).sum() == pytest.approx(math.pi * (28**2 - 20**2), rel=0.02)
    assert not (labels == 1).any()


def test_the_right_ventricle_lies_on_its_side_and_outside_the_epicardium() -> None:
    rv = RightVentricle(direction=RV_TOWARDS_FIRST_ROW, tangential=25, radial=15, distance=32, gap=1.0)
    fields = rasterise(HeartShape(centre=(70.0, 64.0), lv_radius=15.0, wall=7.0, rv=rv), (128, 128))
    labels = fields.labels()
    rows, columns = np.nonzero(labels == 1)
    assert len(rows) > 300
    assert rows.mean() < 70 - 22
    assert abs(columns.mean() - 64) < 1
    assert np.hypot(rows - 70, columns - 64).min() >= 22 + 1.0


def test_some_slices_are_empty_and_some_lack_the_right_ventricle() -> None:
    _, labels = draw_bank(200, (32, 32), 7.5, seed=0)
    empty = ~(labels > 0).any((1, 2))
    assert 0.1 < empty.mean() < 0.3
    assert 0.1 < (~(labels == 1).any((1, 2))).mean() < 0.5


def test_enlarging_interpolates_the_grid_exactly_at_its_knots() -> None:
    grid = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    np.testing.assert_allclose(enlarge(grid, (31, 31))[::10, ::10], grid, atol=1e-4)
    assert soft_step(np.array([0.0]))[0] == 0.5
