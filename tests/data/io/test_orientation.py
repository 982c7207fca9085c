"""Turning volumes: against nibabel's own reorientation and against world coordinates of every voxel."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from unia_med.data.io.orientation import AXIS_CODES, orient, orient_array, orient_back, slice_count
from unia_med.data.io.volume import Volume

SHAPE = (4, 5, 6)
CODES = ["RAS", "LPS", "LPI", "ASR", "SAL", "PIR"]


def stored_as(codes: str, oblique: float = 0.0) -> Volume:
    """A volume of `SHAPE` whose axes run to `codes`, tilted by some radians about one axis."""
    spacing = np.diag([1.0, 2.0, 3.0, 1.0])
    cos, sin = np.cos(oblique), np.sin(oblique)
    tilt = np.array([[cos, -sin, 0, 3.0], [sin, cos, 0, -7.0], [0, 0, 1, 11.0], [0, 0, 0, 1]])
    affine = tilt @ _code_matrix(codes) @ spacing
    return Volume(np.random.default_rng(1).normal(size=SHAPE), affine)


def _code_matrix(codes: str) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for axis, code in enumerate(codes):
        row = next(i for i, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        matrix[row, axis] = 1 if code in "RAS" else -1
    return matrix


@pytest.mark.parametrize(("codes", "axis"), list(itertools.product(CODES, AXIS_CODES)))
def test_every_voxel_keeps_its_place_in_the_body(codes: str, axis: str) -> None:
    volume = stored_as(codes, oblique=0.3)
    assert "".join(nib.aff2axcodes(volume.affine)) == codes
    turned = orient(volume, axis)
    assert "".join(nib.aff2axcodes(turned.affine)) == AXIS_CODES[axis]
    places = {tuple(np.round(volume.affine @ [*i, 1], 6)): volume.array[i] for i in np.ndindex(SHAPE)}
    assert places == {tuple(np.round(turned.affine @ [*i, 1], 6)): turned.array[i] for i in np.ndindex(turned.shape)}
    assert slice_count(volume.shape, volume.affine, axis) == turned.shape[2]
    assert np.array_equal(orient_back(turned.array, volume.affine, axis), volume.array)


@pytest.mark.parametrize("codes", CODES)
def test_axial_is_what_nibabel_calls_canonical(codes: str) -> None:
    volume = stored_as(codes)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(volume.array, volume.affine))
    turned = orient(volume, "axial")
    assert np.array_equal(turned.array, canonical.get_fdata())
    np.testing.assert_allclose(turned.affine, canonical.affine)


def test_a_fourth_axis_stays_where_it_is() -> None:
    volume = stored_as("PIR")
    frames = np.stack([volume.array, 2 * volume.array], axis=3)
    turned = orient_array(frames, volume.affine, "axial")
    assert np.array_equal(turned[..., 1], 2 * orient_array(volume.array, volume.affine, "axial"))
    assert np.array_equal(orient_back(turned, volume.affine, "axial"), frames)


def test_stored_changes_nothing() -> None:
    volume = stored_as("PIR")
    assert orient(volume, "stored") is volume
    assert slice_count(SHAPE, volume.affine, "stored") == 6
